"""Storage as retention sees it: what is old, walked in small steps, and removed in small transactions.

Every engine implements these and passes tests/conformance/test_storage_retention.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from ostiary.domain.decision import Alert
from ostiary.domain.retention import Aged, Generation
from ostiary.domain.token import Holder, RecordId, TenantId, TokenKind

START: Final = ""
"""The place at which a walk begins."""


class AgedRows(Protocol):
    """Rows that go by their age alone."""

    async def drop_aged(self, records: Aged, before: datetime, *, limit: int) -> int:
        """Remove the oldest, at most `limit`, with what hangs on them; how many."""

    async def count_aged(self, records: Aged, before: datetime) -> int:
        """How many there are; not for a hot path."""

    async def drop_crowded_alerts(self, *, most: int, limit: int) -> int:
        """Remove alerts beyond the latest `most` of each kind in each tenant, at most `limit`; how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """Whole histories, one after the other, each of one holder and kind."""

    generations: tuple[Generation, ...]
    place: str
    """Where the walk goes on; `START` once it is at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surplus:
    """Ended commands beyond what a channel may keep, by their numbers."""

    numbers: tuple[int, ...]
    place: str
    """Where the walk goes on; `START` once it is at the end."""


class Walks(Protocol):
    """Large tables, walked a little at a time; whoever goes on begins where the last one stopped."""

    async def take_turn(self, now: datetime, *, lease: timedelta) -> bool:
        """Have retention to oneself among all nodes for `lease`, or for so much longer; False if another node has it."""

    async def load_place(self, walk: str) -> str: ...

    async def save_place(self, walk: str, place: str) -> None: ...

    async def read_histories(self, place: str, *, limit: int) -> Histories:
        """The histories that follow `place`, of about `limit` records; a longer one alone, its newest part."""

    async def find_surplus(self, place: str, *, most: int, limit: int) -> Surplus:
        """What the next `limit` channels keep beyond their newest `most` ended commands; a part, where it is much."""

    async def drop_commands(self, numbers: Sequence[int]) -> int:
        """Remove ended commands; how many there were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A history that grew, and the generations that nobody has looked at yet."""

    tenant: TenantId
    holder: Holder
    kind: TokenKind
    first: int
    last: int
    notes: tuple[int, ...]
    """What storage wrote down of it, by number."""


class Reviews(Protocol):
    """Histories that a worker should look at soon."""

    async def list_reviews(self, *, limit: int) -> tuple[Review, ...]: ...

    async def find_notable(self, reviews: Sequence[Review], *, most: int) -> tuple[Review, ...]:
        """Those whose history is longer than `most`, or where a value came that had been superseded before.

        The others need no closer look; this one costs little, and is taken at many at once.
        """

    async def read_history(self, review: Review, *, limit: int) -> tuple[Generation, ...]:
        """The newest generations of one history, at most `limit`."""

    async def settle_reviews(
        self, reviews: Sequence[Review], alerts: Sequence[Alert], at: datetime
    ) -> None:
        """Raise the alerts and forget the reviews in one commit, but for histories that have grown since."""

    async def drop_generations(self, ids: Sequence[RecordId]) -> int:
        """Remove ledger records; whatever is in force, or pointed to, stays all the same. How many went."""


class Retention(AgedRows, Walks, Reviews, Protocol):
    """All that the retention service asks of storage."""

    async def fold_counts(self, *, limit: int) -> int:
        """Merge at most so many appended deltas of the kept counts; how many there were."""
