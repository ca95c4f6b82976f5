"""What must hold of any life, told from what was acknowledged alone: who handed over what, and what became of it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime

from lives.twins import Actor, Outcome
from ostiary.domain.command import CommandState
from ostiary.domain.enrollment import Enrollment, Proof, Standing, State
from ostiary.domain.policy import Policy
from ostiary.domain.token import Fingerprint, TokenKind, TokenRecord, TokenState
from ostiary.errors import Unavailable
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.memory.tables import Tables

PUSH, UNLOCK, BOOTSTRAP = TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP
HANDED_OVER = (PUSH, UNLOCK, BOOTSTRAP)
IN_USE = (TokenState.OK, TokenState.SUSPECT)
SILENCE = Policy().contest_silence

Held = dict[TokenKind, tuple[bytes, int]]
"""By kind: the value, and the step at which it was last handed over."""


class Oracle:
    """Watches one life, step by step."""

    def __init__(self, opened: Callable[[TokenRecord], bytes]) -> None:
        self._opened = opened
        self._clear: dict[str, bytes] = {}
        self.step = 0
        self.held: defaultdict[str, Held] = defaultdict(dict)
        """By enrollment row: what its device last handed over in this relationship."""
        self._renewal_began: dict[str, int] = {}
        self._bound_at_step: dict[str, int] = {}
        self._finished: set[tuple[str, str]] = set()
        self._deferred: defaultdict[str, set[str]] = defaultdict(set)
        """By channel: what said NotNow since its last Idle."""
        self.vouched: set[str] = set()
        """Fingerprints that proved themselves, or that a person or a policy let in."""

    # -- what the steps of a life tell

    def authenticated(self, before: Tables, after: Tables, actor: Actor, *, renews: bool) -> None:
        row = bound_row(after, actor)
        old = before.enrollments.get(row.key)
        was_bound = actor.fingerprint in before.bindings
        is_retry = was_bound and old is not None and is_under_way(old, actor)
        if row.state is State.RENEWING:
            assert renews or is_retry, "only a credential for the renewal keeps what was held"
            if not is_retry:
                self._renewal_began[row.key] = self.step
        elif not is_retry:
            self.held[row.key] = {}
        if old is not None and not was_bound and row.standing is not old.standing:
            raise AssertionError("an Authenticate moved somebody else's standing")

    def updated(
        self,
        before: Tables,
        after: Tables,
        actor: Actor,
        *,
        push: bytes,
        unlock: bytes | None,
        awaiting: bool | None,
    ) -> None:
        row = bound_row(after, actor)
        held = self.held[row.key]
        old = before.enrollments[row.key]
        renews = old.renewing_fingerprint == actor.fingerprint
        if old.state is State.RENEWING and awaiting and renews:
            began = self._renewal_began[row.key]
            held = self.held[row.key] = {
                kind: (value, step) for kind, (value, step) in held.items() if step >= began
            }
        held[PUSH] = (push, self.step)
        if unlock:
            held[UNLOCK] = (unlock, self.step)

    def user_updated(self, after: Tables, actor: Actor, user_id: str, push: bytes) -> None:
        self.held[user_row(after, actor, user_id).key][PUSH] = (push, self.step)

    def escrowed(self, after: Tables, actor: Actor, value: bytes | None) -> None:
        held = self.held[bound_row(after, actor).key]
        if value:
            held[BOOTSTRAP] = (value, self.step)
        else:
            held.pop(BOOTSTRAP, None)

    def released(self, key: str) -> None:
        self.held[key] = {}

    def read(self, after: Tables, actor: Actor, kind: TokenKind, value: bytes | None) -> None:
        """A device was given a value: its own, of this relationship, never older than its binding."""
        row = bound_row(after, actor)
        expected, step = self.held[row.key].get(kind, (None, 0))
        assert (value or None) == expected, f"{kind}: another value than the one held"
        if value and actor.fingerprint not in self.vouched:
            assert step >= self._bound_at_step[actor.fingerprint], "older than the binding"

    def reported(
        self, before: Tables, after: Tables, channel: Enrollment, status: str, uuid: str | None
    ) -> None:
        place = (channel.key, uuid or "")
        if status == "Idle":
            self._deferred[channel.key].clear()
        elif place in before.commands and place not in after.commands:
            assert after.closed[place].state in (CommandState.DONE, CommandState.FAILED)
            self._finished.add(place)
        elif status == "NotNow" and place in after.commands:
            self._deferred[channel.key].add(place[1])

    def handed_out(self, after: Tables, channel: Enrollment, uuid: str) -> None:
        place = (channel.key, uuid)
        assert place not in self._finished, "a command that was done was handed out again"
        assert uuid not in self._deferred[channel.key], "asked again right after its NotNow"
        assert after.commands[place].state is CommandState.SENT
        assert device_of(after, channel).state.is_served, "a command for somebody who is not served"

    # -- what must hold after every step

    def check(
        self,
        before: Tables,
        after: Tables,
        outcome: Outcome,
        now: datetime,
        *,
        may_settle: bool = False,
    ) -> None:
        """`may_settle`: somebody who may end a contest just did."""
        assert not issubclass(outcome.error or Exception, ChangeDoesNotFit | Unavailable), (
            outcome.said
        )
        for fingerprint in after.bindings:
            self._bound_at_step.setdefault(fingerprint, self.step)
        self._check_ended(before, after, now, may_settle=may_settle)
        self._forget_users_that_left(before, after)
        self._check_pointers(after)
        self._check_ledger(before, after)
        self._check_queues(before, after)
        check_standings(after)

    def _check_ended(
        self, before: Tables, after: Tables, now: datetime, *, may_settle: bool
    ) -> None:
        for old in before.enrollments.values():
            row = after.enrollments[old.key]
            if row.standing is old.standing or row.standing is not Standing.ENDED:
                continue
            self.held[row.key] = {}
            users = [one for one in after.enrollments.values() if one.parent_key == row.key]
            assert not any(user.state.is_served for user in users), "a user outlived its device"
            last_seen = old.last_seen_at or old.created_at
            is_over = old.state is State.OUT or old.accepted_fingerprint is not None
            answered = old.standing is Standing.CONTESTED and _was_proven(after, old, now)
            silent = now - last_seen >= SILENCE
            assert may_settle or is_over or answered or silent, "ended for no reason"

    def _forget_users_that_left(self, before: Tables, after: Tables) -> None:
        """A user channel ends with its device's relationship, and what it handed over is nobody's any more."""
        for old in before.enrollments.values():
            row = after.enrollments[old.key]
            if row.parent_key is not None and old.state.is_served and not row.state.is_served:
                self.held[row.key] = {}

    def _check_pointers(self, after: Tables) -> None:
        for row in after.enrollments.values():
            found: dict[TokenKind, bytes] = {}
            for kind, record in pointed(after, row):
                is_dead = record.state is TokenState.DEAD and row.push_dead_since is not None
                assert record.state in IN_USE or is_dead, f"{row.id} points at {record.state}"
                assert (record.kind, str(record.holder)) == (kind, str(row.id))
                found[kind] = self.clear(record)
            expected = {kind: value for kind, (value, _) in self.held[row.key].items()}
            assert found == expected, f"{row.id} ({row.standing}, {row.state})"

    def _check_ledger(self, before: Tables, after: Tables) -> None:
        for record_id, record in before.records.items():
            assert after.records[record_id].value == record.value, "a generation was overwritten"
        for record in after.records.values():
            if record.id not in before.records and record.kind in HANDED_OVER:
                self._check_new(before, record)
        numbers: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        for record in after.records.values():
            numbers[record.tenant, record.holder, record.kind].append(record.generation)
        for place, generations in numbers.items():
            assert sorted(generations) == list(range(1, len(generations) + 1)), place
        in_use = {
            record.id
            for record in after.records.values()
            if record.kind in HANDED_OVER and record.state in IN_USE
        }
        current = {one.id for row in after.enrollments.values() for _, one in pointed(after, row)}
        assert in_use <= current, "the ledger calls a token in use that no enrollment holds"

    def _check_new(self, before: Tables, record: TokenRecord) -> None:
        """A value that was current already is no new generation, unless an erase came in between."""
        row = next(
            (one for one in before.enrollments.values() if one.key == record.relationship), None
        )
        if row is None or row.state is State.RENEWING:
            return
        current = dict(pointed(before, row)).get(record.kind)
        assert current is None or self.clear(current) != self.clear(record), "a repeat was counted"

    def _check_queues(self, before: Tables, after: Tables) -> None:
        for place in before.commands:
            assert place in after.commands or place in after.closed, "a command vanished"
        sent = Counter(
            command.enrollment_key
            for command in after.commands.values()
            if command.state is CommandState.SENT
        )
        assert all(count == 1 for count in sent.values()), "two commands at once on one channel"

    def clear(self, record: TokenRecord) -> bytes:
        if record.id not in self._clear:
            self._clear[record.id] = self._opened(record)
        return self._clear[record.id]


def is_under_way(row: Enrollment, actor: Actor) -> bool:
    """Whether an Authenticate of the actor repeats one that its TokenUpdate has not followed yet."""
    renews = row.state is State.RENEWING and row.renewing_fingerprint == actor.fingerprint
    return row.state is State.PENDING or renews


def bound_row(tables: Tables, actor: Actor) -> Enrollment:
    """The device row that the actor's certificate speaks for; one that was renewed away speaks for nobody."""
    binding = tables.bindings[Fingerprint(actor.fingerprint)]
    assert binding.superseded_at is None, "served with a certificate that was superseded"
    return tables.enrollments[binding.enrollment_key]


def user_row(tables: Tables, actor: Actor, user_id: str) -> Enrollment:
    device = bound_row(tables, actor)
    (row,) = (
        one
        for one in tables.enrollments.values()
        if one.parent_key == device.key and one.id == user_id
    )
    return row


def device_of(tables: Tables, row: Enrollment) -> Enrollment:
    return row if row.parent_key is None else tables.enrollments[row.parent_key]


def pointed(tables: Tables, row: Enrollment) -> Iterator[tuple[TokenKind, TokenRecord]]:
    for kind in HANDED_OVER:
        pointer = row.pointer(kind)
        if pointer is not None:
            yield kind, tables.records[pointer.record_id]


def check_standings(after: Tables) -> None:
    """Exactly one relationship of an id is the current one, however many there are."""
    devices = [row for row in after.enrollments.values() if row.parent_key is None]
    current = Counter(row.id for row in devices if row.standing is Standing.CURRENT)
    assert current == Counter({row.id for row in devices})


def _was_proven(after: Tables, contender: Enrollment, now: datetime) -> bool:
    """Whether the contested enrollment was proven at this very step: that turns every contender away."""
    return any(
        row.id == contender.id
        and row.standing is Standing.CURRENT
        and row.proof in {Proof.PROVEN, Proof.ACCEPTED}
        and row.authenticated_at == now
        for row in after.enrollments.values()
    )
