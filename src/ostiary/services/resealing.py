"""Sealing old values anew under the epoch in force: in small steps, each of which may be the last.

A value is read, opened and sealed here, between two short transactions, and put back only where it still is what was read.
(design.md 2; escrowed-secrets.md 4.0.2 rule 3; docs/decisions/0022-rotating-vault-keys.md)
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import structlog

from ostiary.domain.token import TenantId, TokenKind
from ostiary.ports.clock import Clock
from ostiary.ports.keyring import RotatingSealer
from ostiary.ports.resealing import Resealed, SealedIn, SealedRow, SealedSite, SealedValues
from ostiary.ports.retention import START, Walks
from ostiary.ports.sealer import SealBroken, SealLabel
from ostiary.services.push_certificates import PENDING_KEY_KIND
from ostiary.services.rendering import COMMAND_KIND

PLACE: Final = "resealing"
"""Under which name the walk remembers where it stands."""
FIRST_EPOCH: Final = 1
_KIND: Final[Mapping[SealedIn, str]] = MappingProxyType(
    {
        SealedIn.COMMANDS: COMMAND_KIND,
        SealedIn.PUSH_CERTIFICATES: TokenKind.PUSH_CERTIFICATE,
        SealedIn.PENDING_PUSH_KEYS: PENDING_KEY_KIND,
    }
)
_ORDER: Final = tuple(SealedIn)
_COUNTED_AT_ONCE: Final = 2_000
_PAGES_AT_ONCE: Final = 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResealingPace:
    """How much is done at once, and how long others have the database in between."""

    batch: int = 500
    """Rows that are looked at together."""
    together: int = 100
    """Values that are sealed and stored together, unless they are large."""
    bytes_together: int = 1024 * 1024
    batches: int = 20
    """In a round."""
    pause: timedelta = timedelta(milliseconds=50)
    lease: timedelta = timedelta(minutes=3)
    settle: timedelta = timedelta(minutes=2)
    """After its begin: what was sealed under the old epoch before is stored by now. The work is done once a walk that began
    later met nothing."""
    look_again: timedelta = timedelta(days=1)
    """After it was done: a process that stood still for long may have stored something since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where re-sealing stands, as it is remembered."""

    targets: Mapping[TenantId, int]
    """The epoch under which everything is to be, of each tenant."""
    since: datetime
    """When a worker began with these."""
    walk_at: datetime
    """When this walk began."""
    where: SealedIn = _ORDER[0]
    place: str = START
    met: int = 0
    """Older values that this walk has met."""
    broken: int = 0
    """Those of them that do not open."""
    resealed: int = 0
    """In all walks."""
    ended_at: datetime | None = None
    """When everything was under these epochs."""
    is_closed: bool = False
    """It was looked at once more since."""

    def encode(self) -> str:
        """As text."""
        return json.dumps(
            {
                "targets": dict(self.targets),
                "since": self.since.isoformat(),
                "walk_at": self.walk_at.isoformat(),
                "where": self.where.value,
                "place": self.place,
                "met": self.met,
                "broken": self.broken,
                "resealed": self.resealed,
                "ended_at": None if self.ended_at is None else self.ended_at.isoformat(),
                "is_closed": self.is_closed,
            }
        )

    @classmethod
    def decode(cls, text: str) -> "Progress | None":
        """What `encode` wrote; None for anything else: the work begins again then, and finds what is done."""
        try:
            said = json.loads(text)
            return cls(
                targets={TenantId(tenant): int(epoch) for tenant, epoch in said["targets"].items()},
                since=datetime.fromisoformat(said["since"]),
                walk_at=datetime.fromisoformat(said["walk_at"]),
                where=SealedIn(said["where"]),
                place=str(said["place"]),
                met=int(said["met"]),
                broken=int(said["broken"]),
                resealed=int(said["resealed"]),
                ended_at=datetime.fromisoformat(said["ended_at"]) if said["ended_at"] else None,
                is_closed=bool(said["is_closed"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What people are told of it."""

    is_rotated: bool
    """Whether there was ever a second epoch."""
    is_done: bool
    targets: Mapping[TenantId, int]
    """The newest epochs."""
    current: Mapping[TenantId, int]
    """The epochs that seal; for a while after a rotation they are not the newest."""
    progress: Progress | None
    """Of these targets; None: a worker has not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many values are sealed under which epoch, of some rows."""

    numbers: Mapping[tuple[TenantId, int], int]
    following: tuple[SealedIn, str] | None
    """Where to go on counting; None: that was all."""


class ResealingService:
    """Walks through everything that is sealed, one node at a time."""

    def __init__(
        self,
        values: SealedValues,
        walks: Walks,
        sealer: RotatingSealer,
        clock: Clock,
        pace: ResealingPace | None = None,
    ) -> None:
        self._values = values
        self._walks = walks
        self._sealer = sealer
        self._clock = clock
        self._pace = pace or ResealingPace()

    async def take_turn(self) -> bool:
        """Whether there is work, and this node is the one that does it now; two at once would do no harm."""
        if not _is_rotated({one: self._sealer.newest_epoch(one) for one in self._sealer.tenants()}):
            return False
        return await self._walks.take_turn(self._clock.now(), lease=self._pace.lease)

    async def run_round(self) -> bool:
        """Do a part of what there is to do; whether nothing is left for now."""
        targets = self._targets()
        if targets is None:
            return True  # the newest epoch rests; what is sealed at this moment is still sealed under the older one
        progress = await self._load(targets)
        if progress is None:
            if not _is_rotated(targets):
                return True
            progress = self._begin(targets)
        for _ in range(self._pace.batches):
            if progress.is_closed or not self._is_due(progress):
                return True
            progress = await self._step(progress)
            await self._walks.save_place(PLACE, progress.encode())
            await self._rest()
        return False

    async def stand(self) -> Standing:
        """How far it is."""
        tenants = self._sealer.tenants()
        newest = {tenant: self._sealer.newest_epoch(tenant) for tenant in tenants}
        progress = await self._load(newest)
        is_rotated = _is_rotated(newest)
        is_ended = progress is not None and progress.ended_at is not None
        return Standing(
            is_rotated=is_rotated,
            is_done=is_ended or not is_rotated,
            targets=newest,
            current={tenant: self._sealer.current_epoch(tenant) for tenant in tenants},
            progress=progress,
        )

    async def count(self, where: SealedIn = _ORDER[0], place: str = START) -> Tally:
        """Count the next some ten thousand rows; not for a hot path."""
        numbers: Counter[tuple[TenantId, int]] = Counter()
        at: tuple[SealedIn, str] | None = (where, place)
        for _ in range(_PAGES_AT_ONCE):
            if at is None:
                break
            page = await self._values.find_sealed(at[0], at[1], limit=_COUNTED_AT_ONCE)
            numbers.update((one.tenant, self._sealer.epoch_of(one.head)) for one in page.sites)
            at = _following(at[0], page.place)
        return Tally(numbers=numbers, following=at)

    def _targets(self) -> dict[TenantId, int] | None:
        """The epochs in force, if they are the newest."""
        current = {one: self._sealer.current_epoch(one) for one in self._sealer.tenants()}
        rests = any(self._sealer.newest_epoch(one) > epoch for one, epoch in current.items())
        return None if rests else current

    async def _load(self, targets: Mapping[TenantId, int]) -> Progress | None:
        progress = Progress.decode(await self._walks.load_place(PLACE))
        return progress if progress is not None and progress.targets == targets else None

    def _begin(self, targets: Mapping[TenantId, int]) -> Progress:
        now = self._clock.now()
        log.info("resealing_begun", epochs={str(one): epoch for one, epoch in targets.items()})
        return Progress(targets=targets, since=now, walk_at=now)

    async def _step(self, progress: Progress) -> Progress:
        page = await self._values.find_sealed(
            progress.where, progress.place, limit=self._pace.batch
        )
        if (progress.where, progress.place) == (_ORDER[0], START):
            progress = replace(progress, met=0, broken=0)
        older = [one for one in page.sites if self._is_older(one, progress.targets)]
        resealed = broken = 0
        for some in self._together(older):
            rows = await self._values.load_sealed(progress.where, [one.key for one in some])
            ready = [one for row in rows if (one := self._sealed_anew(progress.where, row))]
            broken += len(rows) - len(ready)
            resealed += await self._values.replace_sealed(progress.where, ready)
            await self._rest()
        stepped = replace(
            progress,
            met=progress.met + len(older),
            broken=progress.broken + broken,
            resealed=progress.resealed + resealed,
        )
        following = _following(progress.where, page.place)
        if following is None:
            return self._after_walk(stepped)
        return replace(stepped, where=following[0], place=following[1])

    def _after_walk(self, walked: Progress) -> Progress:
        """When the next walk begins: there is one until two met nothing but what does not open."""
        now, settled_at = self._clock.now(), walked.since + self._pace.settle
        following = replace(walked, where=_ORDER[0], place=START)
        is_clean = walked.met == walked.broken
        if walked.ended_at is not None:
            return replace(following, is_closed=is_clean, walk_at=now + self._pace.look_again)
        if is_clean and walked.walk_at >= settled_at:
            log.info("resealing_ended", resealed=walked.resealed, broken=walked.broken)
            return replace(following, ended_at=now, walk_at=now + self._pace.look_again)
        return replace(following, walk_at=max(now, settled_at))

    def _is_due(self, progress: Progress) -> bool:
        """Whether the walk may begin; one that lies further ahead than any can was put there by a clock that was wrong."""
        ahead = progress.walk_at - self._clock.now()
        return not timedelta(0) < ahead <= max(self._pace.settle, self._pace.look_again)

    def _is_older(self, site: SealedSite, targets: Mapping[TenantId, int]) -> bool:
        """Not younger: another node may have rotated again, and we did not look yet."""
        return self._sealer.epoch_of(site.head) < targets.get(site.tenant, 0)

    def _together(self, sites: Sequence[SealedSite]) -> Iterator[list[SealedSite]]:
        """Few enough to be held in memory, and to be stored in a few milliseconds."""
        some: list[SealedSite] = []
        size = 0
        for site in sites:
            is_full = (
                len(some) >= self._pace.together or size + site.size > self._pace.bytes_together
            )
            if some and is_full:
                yield some
                some, size = [], 0
            some.append(site)
            size += site.size
        if some:
            yield some

    def _sealed_anew(self, where: SealedIn, row: SealedRow) -> Resealed | None:
        label = SealLabel(
            tenant=row.tenant,
            holder=row.holder,
            kind=_KIND[where] if row.kind is None else row.kind,
            record_id=row.record_id,
        )
        try:
            after = self._sealer.seal(self._sealer.unseal(row.value, label), label)
        except SealBroken as error:
            log.error(
                "value_does_not_open", where=where.value, record_id=row.record_id, error=error.code
            )
            return None
        return Resealed(key=row.key, before=row.value, after=after)

    async def _rest(self) -> None:
        """Let devices have the database for a moment."""
        await asyncio.sleep(self._pace.pause.total_seconds())


def _following(where: SealedIn, place: str) -> tuple[SealedIn, str] | None:
    """Where a walk goes on after a page; None at the end of all."""
    if place != START:
        return where, place
    after = _ORDER.index(where) + 1
    return (_ORDER[after], START) if after < len(_ORDER) else None


def _is_rotated(epochs: Mapping[TenantId, int]) -> bool:
    return any(epoch > FIRST_EPOCH for epoch in epochs.values())
