"""Forgetting what policy allows to forget: in small steps, each of which may be the last."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from ostiary.domain import alerts
from ostiary.domain.decision import Alert
from ostiary.domain.policy import Policy
from ostiary.domain.retention import (
    AGE_RULES,
    MOST_ALERTS,
    MOST_YOUNG,
    Aged,
    AgeRule,
    Generation,
    judge_history,
    returned_values,
)
from ostiary.domain.token import RecordId, TokenKind
from ostiary.ports.clock import Clock
from ostiary.ports.meter import Meter
from ostiary.ports.retention import START, Retention, Review
from ostiary.services.clock_trust import ClockTrust

GENERATIONS: Final = "generations"
"""What the figures call ledger records of tokens."""
SURPLUS: Final = "surplus-commands"
"""What the figures call ended commands beyond what a channel may keep."""
BY_HAND: Final = " by hand"
"""Walks that a person asked for have places of their own."""
_LONGEST_HISTORY: Final = 2 * MOST_YOUNG
"""Looked at together: more than may stay of one relationship, or nothing of a longer history would ever go."""
_SHORT_HISTORY: Final = 500
"""Generations that are compared with each other where they lie; longer histories are read."""
_REVIEWS: Final = 100
_DELTAS: Final = 10_000
_CHANNELS: Final = 50
_LOOKED_THROUGH: Final = 2_000
"""Batches of a dry run: a million records."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPace:
    """How much goes at once, and how long others have the database in between."""

    batch: int = 500
    batches: int = 20
    """Of one kind in a round."""
    pause: timedelta = timedelta(milliseconds=50)
    lease: timedelta = timedelta(minutes=3)
    """Longer than a round may take; for so long a node that died keeps others from the work."""
    walk_every: timedelta = timedelta(hours=12)


@dataclass(slots=True)
class Round:
    """What one round came to."""

    dropped: Counter[str] = field(default_factory=Counter)
    is_done: bool = True
    """Whether there is nothing left to do for now."""


Walk = Callable[[str, Round], Awaitable[str]]
"""Looks at the next few from a place on, and tells the place after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How many records of one kind would go now."""

    records: str
    policy: str
    means: str
    number: int
    is_all: bool = True
    """False: at least so many."""


class RetentionService:
    """Applies the rules of `domain.retention` to storage. One policy holds for all tenants."""

    def __init__(
        self,
        retention: Retention,
        policy: Callable[[], Policy],
        clock: Clock,
        meter: Meter,
        pace: RetentionPace | None = None,
    ) -> None:
        self._retention = retention
        self._policy = policy
        self._clock = clock
        self._meter = meter
        self._pace = pace or RetentionPace()
        self._clock_trust = ClockTrust(retention, clock, "retention")

    async def take_turn(self) -> bool:
        """Whether this node is the one that works now; holds for a few minutes."""
        return await self._retention.take_turn(self._clock.now(), lease=self._pace.lease)

    async def tend(self) -> Round:
        """What should not wait: histories that grew are looked at, and deltas of the counts folded."""
        done = Round()
        for _ in range(self._pace.batches):
            reviews = await self._retention.list_reviews(limit=_REVIEWS)
            settled = await self._review(reviews, done)
            if not settled:
                break
            await self._rest()
        for _ in range(self._pace.batches):
            if await self._retention.fold_counts(limit=_DELTAS) < _DELTAS:
                break
            await self._rest()
        self._tell(done)
        return done

    async def sweep(self) -> Round:
        """One round over everything that may go; walks through large tables are due twice a day.

        Nothing is done for a day after the clock has jumped: by a clock that is wrong, everything is old.
        """
        done = Round()
        if not await self._clock_trust.is_given():
            return done
        await self._drop_by_age(done)
        for name, walk in self._walks():
            if await self._is_due(name):
                if await self._walk(name, walk, done):
                    await self._retention.save_place(_end_of(name), self._clock.now().isoformat())
                else:
                    done.is_done = False
        self._tell(done)
        return done

    async def sweep_by_hand(self, *, anew: bool) -> Round:
        """One round for a person, who asks until it is done: the first one `anew`, the others go on where it stopped.

        One walk follows the other, so that the round in which the last one ends is the last. Whatever the clock says.
        """
        done = Round()
        await self._drop_by_age(done)
        walks = [(name + BY_HAND, walk) for name, walk in self._walks()]
        if anew:
            for name, _ in walks:
                await self._retention.save_place(name, START)
        places = [await self._retention.load_place(name) for name, _ in walks]
        under_way = max((nth for nth, place in enumerate(places) if place != START), default=0)
        for name, walk in walks[under_way:]:
            if not await self._walk(name, walk, done):
                done.is_done = False
                break
        self._tell(done)
        return done

    def _walks(self) -> tuple[tuple[str, Walk], ...]:
        return ("histories", self._walk_histories), ("channels", self._walk_channels)

    async def look_ahead(self) -> tuple[Outlook, ...]:
        """What a sweep would remove now, kind by kind; nothing is."""
        now, policy = self._clock.now(), self._policy()
        told = [
            Outlook(
                records=rule.records.value,
                policy=rule.policy,
                means=rule.means,
                number=await self._retention.count_aged(rule.records, rule.before(policy, now)),
            )
            for rule in AGE_RULES
        ]
        surplus, saw_all_channels = await self._count_walk(self._count_channels)
        generations, saw_all_histories = await self._count_walk(self._count_histories)
        return (
            *told,
            Outlook(
                records=SURPLUS,
                policy="most_ended_commands",
                means="ended commands of a channel beyond its newest",
                number=surplus,
                is_all=saw_all_channels,
            ),
            Outlook(
                records=GENERATIONS,
                policy="keep_push_tokens, keep_device_secrets, most_brief_generations, keep_certificates",
                means="older values of tokens, and records of replaced certificates; never one that may still be needed",
                number=generations,
                is_all=saw_all_histories,
            ),
        )

    async def _review(self, reviews: Sequence[Review], done: Round) -> int:
        """Look at histories that grew; how many of them are settled."""
        now = self._clock.now()
        raised: list[Alert] = []
        most = min(self._policy().most_brief_generations, _SHORT_HISTORY)
        notable = await self._retention.find_notable(reviews, most=most) if reviews else ()
        left = [one for one in notable if not await self._is_settled(one, raised, done)]
        settled = [one for one in reviews if one not in left]
        if settled:
            await self._retention.settle_reviews(settled, raised, now)
        return len(settled)

    async def _is_settled(self, review: Review, raised: list[Alert], done: Round) -> bool:
        """Whether one history was looked through: did an older value return, are there too many brief ones?"""
        now = self._clock.now()
        told: list[Alert] = []
        for attempt in range(self._pace.batches):
            history = await self._retention.read_history(review, limit=_LONGEST_HISTORY)
            if attempt == 0 and returned_values(history, review.first, review.last, now):
                told.append(alerts.value_returned(review.tenant, review.holder, review.kind))
            found = judge_history(history, self._policy(), now)
            if attempt == 0 and found.is_flood:
                told.append(
                    alerts.tokens_change_too_often(review.tenant, review.holder, review.kind)
                )
            if not found.crowded:
                raised += told
                return True
            done.dropped[GENERATIONS] += await self._retention.drop_generations(found.crowded)
            await self._rest()
        done.is_done = False
        return False

    async def _drop_by_age(self, done: Round) -> None:
        for rule in AGE_RULES:
            await self._drop_aged(rule, done)
        await self._drop_crowded_alerts(done)

    async def _drop_aged(self, rule: AgeRule, done: Round) -> None:
        before = rule.before(self._policy(), self._clock.now())
        for _ in range(self._pace.batches):
            dropped = await self._retention.drop_aged(rule.records, before, limit=self._pace.batch)
            if not dropped:
                return
            done.dropped[rule.records.value] += dropped
            await self._rest()
        done.is_done = False

    async def _drop_crowded_alerts(self, done: Round) -> None:
        for _ in range(self._pace.batches):
            dropped = await self._retention.drop_crowded_alerts(
                most=MOST_ALERTS, limit=self._pace.batch
            )
            if not dropped:
                return
            done.dropped[Aged.ALERTS.value] += dropped
            await self._rest()
        done.is_done = False

    async def _is_due(self, walk: str) -> bool:
        """Whether a walk is under way, or ended long enough ago."""
        if await self._retention.load_place(walk) != START:
            return True
        ended = await self._retention.load_place(_end_of(walk))
        since = datetime.fromisoformat(ended) if ended else None
        return since is None or self._clock.now() - since >= self._pace.walk_every

    async def _walk(self, name: str, walk: Walk, done: Round) -> bool:
        """Go on with a walk for a while; whether it came to the end."""
        place = await self._retention.load_place(name)
        for _ in range(self._pace.batches):
            place = await walk(place, done)
            await self._retention.save_place(name, place)
            if place == START:
                return True
            await self._rest()
        return False

    async def _walk_histories(self, place: str, done: Round) -> str:
        found = await self._retention.read_histories(place, limit=self._pace.batch)
        disposable = _disposable(found.generations, self._policy(), self._clock.now())
        if disposable:
            done.dropped[GENERATIONS] += await self._retention.drop_generations(disposable)
        return found.place

    async def _walk_channels(self, place: str, done: Round) -> str:
        most = self._policy().most_ended_commands
        for _ in range(self._pace.batches):
            found = await self._retention.find_surplus(place, most=most, limit=_CHANNELS)
            if not found.numbers:
                return found.place
            done.dropped[SURPLUS] += await self._retention.drop_commands(found.numbers)
            await self._rest()
        done.is_done = False
        return place

    async def _count_walk(
        self, count: Callable[[str], Awaitable[tuple[int, str]]]
    ) -> tuple[int, bool]:
        number, place = 0, START
        for _ in range(_LOOKED_THROUGH):
            found, place = await count(place)
            number += found
            if place == START:
                return number, True
        return number, False

    async def _count_histories(self, place: str) -> tuple[int, str]:
        found = await self._retention.read_histories(place, limit=self._pace.batch)
        return (
            len(_disposable(found.generations, self._policy(), self._clock.now())),
            found.place,
        )

    async def _count_channels(self, place: str) -> tuple[int, str]:
        most = self._policy().most_ended_commands
        found = await self._retention.find_surplus(place, most=most, limit=_CHANNELS)
        return len(found.numbers), found.place

    async def _rest(self) -> None:
        """Let devices have the database for a moment."""
        await asyncio.sleep(self._pace.pause.total_seconds())

    def _tell(self, done: Round) -> None:
        for records, number in sorted(done.dropped.items()):
            self._meter.dropped(records, number)
        if done.dropped:
            log.info("retention_dropped", **{_key(name): n for name, n in done.dropped.items()})


def _disposable(generations: Sequence[Generation], policy: Policy, now: datetime) -> list[RecordId]:
    histories: dict[tuple[str, str, TokenKind], list[Generation]] = {}
    for one in generations:
        histories.setdefault((one.tenant, one.holder, one.kind), []).append(one)
    return [
        id_ for history in histories.values() for id_ in judge_history(history, policy, now).ids
    ]


def _end_of(walk: str) -> str:
    return f"{walk} ended"


def _key(records: str) -> str:
    return records.replace("-", "_")
