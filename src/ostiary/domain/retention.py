"""What may be forgotten, and when: pure rules over what storage shows. The audit is never among it.

Whatever an operator may still need stays whatever its age: tokens in force and candidates, the last one that was
proven, the one that served longest, the first of its relationship, and the last few; and of the secrets that are set by
command or fetched (passwords, PINs, recovery keys, bypass codes), every one.
Source: design.md 2 and 4; check-in-and-commands.md 2.3 ("deletable by retention policy"); escrowed-secrets.md 4.0, 4.13.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ostiary.domain.escrow import MANNERS
from ostiary.domain.policy import Policy
from ostiary.domain.token import Holder, KeyedDigest, RecordId, TenantId, TokenKind, TokenState

SETTLED: Final = timedelta(days=1)
"""A value that was in force for so long is never crowded out by briefer ones; only its age ends it."""
ANSWER: Final = timedelta(days=1)
"""So long people have to answer the alert of a flood, before any value that came during it may go."""
MOST_YOUNG: Final = 2_000
"""Of one kind and relationship within `ANSWER`: the disk is not endless either."""
NEWS: Final = timedelta(days=1)
"""A value that came back longer ago is no news: its history was carried here from another database, say."""
MOST_ALERTS: Final = 2_000
"""Of one kind; the latest stay. Some alerts are about what a device writes, and it may write something else each time."""
_IN_FORCE: Final = frozenset({TokenState.OK, TokenState.CANDIDATE, TokenState.SUSPECT})
ESCROWED: Final = frozenset(
    {
        *MANNERS,
        TokenKind.FILEVAULT_ESCROW_KEY,
        TokenKind.FILEVAULT_ENVELOPE,
        TokenKind.BYPASS_SERVER,
    }
)
"""Kinds of which no generation goes, whatever its state and age: a disk or a lock may still open with the oldest."""
MAY_OPEN: Final = ESCROWED | {TokenKind.UNLOCK, TokenKind.BOOTSTRAP}
"""A relationship that brought one of these stays, with all that came with it."""


class Aged(StrEnum):
    """Records that go by their age alone."""

    ENDED_COMMANDS = "ended-commands"
    CANCELLED_COMMANDS = "cancelled-commands"
    CHALLENGES = "challenges"
    INVITATIONS = "invitations"
    CREDENTIALS = "credentials"
    BINDINGS = "bindings"
    ALERTS = "alerts"
    RELATIONSHIPS = "relationships"


@dataclass(frozen=True, slots=True)
class AgeRule:
    """Records of one kind go once they are older than a policy allows."""

    records: Aged
    policy: str
    keep: Callable[[Policy], timedelta]
    means: str
    """What goes, for people."""

    def before(self, policy: Policy, now: datetime) -> datetime:
        """Whatever ended before this moment may go."""
        return now - self.keep(policy)


AGE_RULES: Final = (
    AgeRule(
        Aged.ENDED_COMMANDS,
        "keep_ended_commands",
        lambda policy: policy.keep_ended_commands,
        "commands that ended, with their results",
    ),
    AgeRule(
        Aged.CANCELLED_COMMANDS,
        "keep_cancelled_commands",
        lambda policy: policy.keep_cancelled_commands,
        "commands that were cancelled",
    ),
    AgeRule(
        Aged.CHALLENGES,
        "keep_challenges",
        lambda policy: policy.keep_challenges,
        "enrollment challenges, used or not, counted from their end",
    ),
    AgeRule(
        Aged.INVITATIONS,
        "keep_challenges",
        lambda policy: policy.keep_challenges,
        "invitations, counted from their end",
    ),
    AgeRule(
        Aged.CREDENTIALS,
        "keep_certificates",
        lambda policy: policy.keep_certificates,
        "certificates of our own CA, counted from their end",
    ),
    AgeRule(
        Aged.BINDINGS,
        "keep_certificates",
        lambda policy: policy.keep_certificates,
        "bindings of replaced certificates, counted from the certificate's end",
    ),
    AgeRule(
        Aged.ALERTS,
        "keep_alerts",
        lambda policy: policy.keep_alerts,
        "alerts, since they were last raised",
    ),
    AgeRule(
        Aged.RELATIONSHIPS,
        "keep_ended_relationships",
        lambda policy: policy.keep_ended_relationships,
        "ended sides of contests whose certificates have ended too, if they never handed over a secret",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One record of the ledger, as far as retention looks at it: never its value."""

    id: RecordId
    tenant: TenantId
    holder: Holder
    kind: TokenKind
    generation: int
    digest: KeyedDigest
    state: TokenState
    relationship: str | None
    received_at: datetime
    changed_at: datetime
    expires_at: datetime | None
    proven_at: datetime | None
    is_current: bool
    """An enrollment row points to it, whatever its state."""

    @property
    def in_force(self) -> timedelta:
        """How long it served, once it serves no more."""
        return self.changed_at - self.received_at


@dataclass(frozen=True, slots=True)
class _Keeping:
    """What stays of the older generations of one kind."""

    keep: Callable[[Policy], timedelta]
    last: int
    """So many of the newest, whatever their age."""
    landmarks: bool
    """Also the first, the one that served longest and the last one that was proven, whatever their age."""


KEEPING: Final[Mapping[TokenKind, _Keeping]] = MappingProxyType(
    {
        TokenKind.PUSH: _Keeping(lambda policy: policy.keep_push_tokens, 1, landmarks=False),
        TokenKind.UNLOCK: _Keeping(lambda policy: policy.keep_device_secrets, 3, landmarks=True),
        TokenKind.BOOTSTRAP: _Keeping(lambda policy: policy.keep_device_secrets, 3, landmarks=True),
    }
)
"""The kinds that devices hand over. API tokens and push certificates are people's, few, and stay, as does what is ESCROWED."""

PUSHES_AT_ONCE: Final = 16
"""Push tokens change often and unlock nothing: so many generations are looked at together."""


def grown(kind: TokenKind, generation: int) -> int | None:
    """From which generation on a history is to be looked at now that this one was appended; None for not yet.

    The migrations of the engines say the same in their triggers.
    """
    if kind is TokenKind.PUSH:
        return generation - PUSHES_AT_ONCE + 1 if generation % PUSHES_AT_ONCE == 0 else None
    return generation if kind in KEEPING and generation > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposable:
    """The generations of one history that may go, and why."""

    aged: tuple[RecordId, ...] = ()
    crowded: tuple[RecordId, ...] = ()
    """Not old: there are too many brief ones."""
    is_flood: bool = False
    """More brief ones came than policy keeps, were they all still too young to go."""

    @property
    def ids(self) -> tuple[RecordId, ...]:
        return (*self.aged, *self.crowded)


def judge_history(history: Sequence[Generation], policy: Policy, now: datetime) -> Disposable:
    """What of one holder's history of one kind may go.

    Each relationship is judged by itself, so that nobody's generations can crowd out another's: whoever
    contests an enrollment writes into the same history.
    """
    found = [_judge_part(part, policy, now) for part in _by_relationship(history)]
    return Disposable(
        aged=tuple(id_ for one in found for id_ in one.aged),
        crowded=tuple(id_ for one in found for id_ in one.crowded),
        is_flood=any(one.is_flood for one in found),
    )


def _by_relationship(history: Iterable[Generation]) -> Iterable[list[Generation]]:
    parts: dict[str | None, list[Generation]] = {}
    for one in history:
        parts.setdefault(one.relationship, []).append(one)
    return parts.values()


def _judge_part(part: Sequence[Generation], policy: Policy, now: datetime) -> Disposable:
    kind = part[0].kind
    if kind is TokenKind.IDENTITY:
        return Disposable(aged=_ended_identities(part, now - policy.keep_certificates))
    if (keeping := KEEPING.get(kind)) is None:
        return Disposable()
    stays = _staying(part, keeping)
    rest = [one for one in part if one.id not in stays]
    limit = now - keeping.keep(policy)
    brief = [one for one in rest if one.changed_at > limit and one.in_force < SETTLED]
    young = [one for one in brief if now - one.received_at < ANSWER]
    older = [one for one in brief if now - one.received_at >= ANSWER]
    crowded = (
        *_briefest_beyond(policy.most_brief_generations, older),
        *_briefest_beyond(max(MOST_YOUNG, policy.most_brief_generations), young),
    )
    return Disposable(
        aged=tuple(one.id for one in rest if one.changed_at <= limit),
        crowded=crowded,
        is_flood=bool(crowded) or len(young) > policy.most_brief_generations,
    )


def _briefest_beyond(most: int, brief: list[Generation]) -> tuple[RecordId, ...]:
    """Those that go so that `most` stay."""
    too_many = max(0, len(brief) - most)
    brief.sort(key=lambda one: (one.in_force, one.generation))
    return tuple(one.id for one in brief[:too_many])


def _staying(part: Sequence[Generation], keeping: _Keeping) -> set[RecordId]:
    """Those that no age and no crowd removes."""
    in_order = sorted(part, key=lambda one: one.generation)
    stays = {one.id for one in part if one.is_current or one.state in _IN_FORCE}
    stays |= {one.id for one in in_order[-keeping.last :]}
    if keeping.landmarks:
        stays.add(in_order[0].id)
        stays.add(max(in_order, key=lambda one: one.in_force).id)
        proven = [(one.proven_at, one.id) for one in part if one.proven_at is not None]
        if proven:
            stays.add(max(proven)[1])
    return stays


def _ended_identities(part: Iterable[Generation], limit: datetime) -> tuple[RecordId, ...]:
    """Records of replaced certificates that ended long ago by themselves."""
    return tuple(
        one.id
        for one in part
        if one.state not in _IN_FORCE and one.expires_at is not None and one.expires_at <= limit
    )


def returned_values(
    history: Sequence[Generation], first: int, last: int, now: datetime
) -> tuple[Generation, ...]:
    """Those of the generations `first` to `last` whose value had been replaced by another before.

    A device has no reason to go back to an older value; an old message played once more does. What was retired
    (taken back by the device, or with an enrollment that began anew) may well come again.
    """
    replaced: dict[tuple[KeyedDigest, str | None], int] = {}
    for one in history:
        if one.state is TokenState.SUPERSEDED:
            value = (one.digest, one.relationship)
            replaced[value] = min(one.generation, replaced.get(value, one.generation))
    return tuple(
        one
        for one in history
        if first <= one.generation <= last
        and now - one.received_at < NEWS
        and replaced.get((one.digest, one.relationship), one.generation) < one.generation
    )
