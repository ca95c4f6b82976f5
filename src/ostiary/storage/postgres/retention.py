"""Retention on PostgreSQL: long looks over connections for reports, short removals over those that decide."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ostiary.domain.decision import Alert
from ostiary.domain.retention import Aged, Generation
from ostiary.domain.token import (
    Holder,
    KeyedDigest,
    RecordId,
    TokenKind,
    TokenState,
)
from ostiary.ports.retention import START, Histories, Review, Surplus
from ostiary.storage.places import decode_place, encode_place, whole_histories
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.retention_aged import (
    CROWDED_ALERTS,
    count_aged,
    drop_aged,
    forget_alerts,
)
from ostiary.storage.postgres.rows import Row
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.text import escape, unescape
from ostiary.storage.postgres.write_news import save_alert

_AT_ONCE: Final = 500
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTES_AT_ONCE: Final = 5_000
"""The oldest notes of histories that grew, looked through for a page of reviews."""

_GENERATION: Final = """
    t.id, t.tenant, t.holder, t.kind, t.generation, t.digest, t.state, t.relationship,
    t.received_at, t.changed_at, t.expires_at, t.proven_at,
    coalesce(t.id IN (e.push_record, e.unlock_record, e.bootstrap_record), false)
"""
TAKE_TURN: Final = """
    INSERT INTO retention_place (name, place, until) VALUES ('turn', $1, $2)
    ON CONFLICT (name) DO UPDATE SET place = excluded.place, until = excluded.until
     WHERE retention_place.place = excluded.place OR retention_place.until <= $3
        OR retention_place.until > $4
"""  # the place is the node that has the turn; it may prolong it
LOAD_PLACE: Final = "SELECT place FROM retention_place WHERE name = $1"
SAVE_PLACE: Final = """
    INSERT INTO retention_place (name, place, until) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET place = excluded.place
"""
READ_HISTORIES: Final = f"""
    SELECT {_GENERATION} FROM token t LEFT JOIN enrollment e ON e.key = t.relationship
     WHERE (t.tenant, t.holder, t.kind) > ($1, $2, $3)
     ORDER BY t.tenant, t.holder, t.kind, t.generation LIMIT $4
"""  # noqa: S608 - made of constants; served by token_generation
READ_HISTORY: Final = f"""
    SELECT {_GENERATION} FROM token t LEFT JOIN enrollment e ON e.key = t.relationship
     WHERE t.tenant = $1 AND t.holder = $2 AND t.kind = $3
     ORDER BY t.generation DESC LIMIT $4
"""  # noqa: S608 - made of constants; served by token_generation
FORGET_GENERATIONS: Final = """
    DELETE FROM token t
     WHERE t.id = ANY($1::text[]) AND t.state NOT IN ('ok', 'candidate', 'suspect')
       AND NOT EXISTS (SELECT FROM enrollment e
                        WHERE e.key = t.relationship
                          AND t.id IN (e.push_record, e.unlock_record, e.bootstrap_record))
       AND NOT EXISTS (SELECT FROM escrow x
                        WHERE x.tenant = t.tenant AND x.holder = t.holder
                          AND t.id IN (x.current, x.candidate))
"""  # served by the primary keys
NEXT_CHANNELS: Final = """
    SELECT key FROM enrollment WHERE key > $1 ORDER BY key LIMIT $2
"""  # served by the primary key
SURPLUS: Final = """
    SELECT c.number
      FROM unnest($1::text[]) k (key)
     CROSS JOIN LATERAL (SELECT number FROM command_closed
                          WHERE enrollment_key = k.key
                          ORDER BY number DESC OFFSET $2 LIMIT $3) c
"""  # served by the primary key
FORGET_ENDED: Final = "DELETE FROM command_closed WHERE number = ANY($1::bigint[])"
LIST_REVIEWS: Final = """
    SELECT tenant, holder, kind, min(first_generation), max(last_generation), array_agg(number)
      FROM (SELECT * FROM token_note ORDER BY number LIMIT $1) oldest
     GROUP BY tenant, holder, kind ORDER BY min(number) LIMIT $2
"""  # served by the primary key
FIND_NOTABLE: Final = """
    SELECT r.place
      FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[])
           WITH ORDINALITY r (tenant, holder, kind, first, last, place)
     WHERE EXISTS (SELECT FROM token t
                    WHERE t.tenant = r.tenant AND t.holder = r.holder AND t.kind = r.kind
                    ORDER BY t.generation OFFSET $6 LIMIT 1)
        OR EXISTS (SELECT FROM token n
                     JOIN token o ON o.tenant = n.tenant AND o.holder = n.holder AND o.kind = n.kind
                    WHERE n.tenant = r.tenant AND n.holder = r.holder AND n.kind = r.kind
                      AND n.generation BETWEEN r.first AND r.last
                      AND o.generation < n.generation AND o.state = 'superseded'
                      AND o.digest = n.digest
                      AND o.relationship IS NOT DISTINCT FROM n.relationship)
"""  # served by token_generation; the second look is taken at short histories only
FORGET_NOTES: Final = """
    DELETE FROM token_note WHERE number = ANY($1::bigint[])
"""  # served by the primary key
FOLD_TOKENS: Final = """
    WITH gone AS (
        DELETE FROM token_count
         WHERE ctid = ANY(ARRAY(SELECT ctid FROM token_count LIMIT $1 FOR UPDATE SKIP LOCKED))
        RETURNING kind, state, number
    ), folded AS (
        INSERT INTO token_count (kind, state, number)
        SELECT kind, state, sum(number) FROM gone GROUP BY kind, state HAVING sum(number) <> 0
    )
    SELECT count(*) FROM gone
"""
FOLD_ENROLLMENTS: Final = """
    WITH gone AS (
        DELETE FROM enrollment_count
         WHERE ctid = ANY(ARRAY(SELECT ctid FROM enrollment_count LIMIT $1 FOR UPDATE SKIP LOCKED))
        RETURNING type, state, number
    ), folded AS (
        INSERT INTO enrollment_count (type, state, number)
        SELECT type, state, sum(number) FROM gone GROUP BY type, state HAVING sum(number) <> 0
    )
    SELECT count(*) FROM gone
"""


class PostgresRetention:
    """What retention asks, over two pools: one that decides, one that only reads."""

    def __init__(self, pool: Pool, reporters: Pool) -> None:
        self._pool = pool
        self._reporters = reporters
        self._node = secrets.token_hex(8)

    async def drop_aged(self, records: Aged, before: datetime, *, limit: int) -> int:
        return await self._pool.transact(
            lambda session: drop_aged(session, records, before, min(limit, _AT_ONCE))
        )

    async def count_aged(self, records: Aged, before: datetime) -> int:
        return await self._reporters.run(lambda session: count_aged(session, records, before))

    async def drop_crowded_alerts(self, *, most: int, limit: int) -> int:
        found = await self._reporters.rows(CROWDED_ALERTS, most, min(limit, _AT_ONCE))
        if not found:
            return 0
        return await self._pool.transact(lambda session: forget_alerts(session, found))

    async def take_turn(self, now: datetime, *, lease: timedelta) -> bool:
        """A turn that ends later than any of ours could was taken by a clock that was wrong; it is nobody's."""
        values = (self._node, now + lease, now, now + 2 * lease)
        return bool(await self._pool.write(TAKE_TURN, *values))

    async def load_place(self, walk: str) -> str:
        found = await self._pool.row(LOAD_PLACE, walk)
        return START if found is None else str(found[0])

    async def save_place(self, walk: str, place: str) -> None:
        await self._pool.write(SAVE_PLACE, walk, place, _LONG_AGO)

    async def read_histories(self, place: str, *, limit: int) -> Histories:
        rows = await self._reporters.rows(READ_HISTORIES, *decode_place(place), limit)
        found = _generations(rows)
        if (whole := whole_histories(found, limit)) is not None:
            return whole
        one = (found[0].tenant, found[0].holder, found[0].kind.value)
        newest = _generations(await self._reporters.rows(READ_HISTORY, *one, limit))
        return Histories(generations=newest, place=encode_place(one))

    async def find_surplus(self, place: str, *, most: int, limit: int) -> Surplus:
        keys = [key for (key,) in await self._reporters.rows(NEXT_CHANNELS, place, limit)]
        found = await self._reporters.rows(SURPLUS, keys, most, _AT_ONCE)
        return Surplus(
            numbers=tuple(number for (number,) in found),
            place=keys[-1] if len(keys) == limit else START,
        )

    async def drop_commands(self, numbers: Sequence[int]) -> int:
        dropped = 0
        for first in range(0, len(numbers), _AT_ONCE):
            some = list(numbers[first : first + _AT_ONCE])
            dropped += await self._pool.write(FORGET_ENDED, some)
        return dropped

    async def list_reviews(self, *, limit: int) -> tuple[Review, ...]:
        return tuple(
            Review(
                tenant=tenant,
                holder=Holder(unescape(holder)),
                kind=TokenKind(kind),
                first=first,
                last=last,
                notes=tuple(notes),
            )
            for tenant, holder, kind, first, last, notes in await self._pool.rows(
                LIST_REVIEWS, _NOTES_AT_ONCE, limit
            )
        )

    async def find_notable(self, reviews: Sequence[Review], *, most: int) -> tuple[Review, ...]:
        rows = await self._reporters.rows(
            FIND_NOTABLE,
            [one.tenant for one in reviews],
            [escape(one.holder) for one in reviews],
            [one.kind.value for one in reviews],
            [one.first for one in reviews],
            [one.last for one in reviews],
            most,
        )
        return tuple(reviews[place - 1] for (place,) in rows)

    async def read_history(self, review: Review, *, limit: int) -> tuple[Generation, ...]:
        values = (review.tenant, review.holder, review.kind.value, limit)
        return _generations(await self._reporters.rows(READ_HISTORY, *values))

    async def settle_reviews(
        self, reviews: Sequence[Review], alerts: Sequence[Alert], at: datetime
    ) -> None:
        notes = [number for one in reviews for number in one.notes]

        async def work(session: Session) -> None:
            for alert in alerts:
                await save_alert(session, alert, at)
            await session.run(FORGET_NOTES, notes)

        await self._pool.transact(work)

    async def drop_generations(self, ids: Sequence[RecordId]) -> int:
        dropped = 0
        for first in range(0, len(ids), _AT_ONCE):
            some = list(ids[first : first + _AT_ONCE])
            dropped += await self._pool.write(FORGET_GENERATIONS, some)
        return dropped

    async def fold_counts(self, *, limit: int) -> int:
        ((tokens,),) = await self._pool.rows(FOLD_TOKENS, limit)
        ((enrollments,),) = await self._pool.rows(FOLD_ENROLLMENTS, limit)
        return int(tokens) + int(enrollments)


def _generations(rows: Sequence[Row]) -> tuple[Generation, ...]:
    return tuple(_generation_from(row) for row in rows)


def _generation_from(row: Row) -> Generation:
    (
        id_, tenant, holder, kind, generation, digest, state, relationship, received_at,
        changed_at, expires_at, proven_at, is_current,
    ) = row  # fmt: skip
    return Generation(
        id=RecordId(id_),
        tenant=tenant,
        holder=Holder(unescape(holder)),
        kind=TokenKind(kind),
        generation=generation,
        digest=KeyedDigest(digest),
        state=TokenState(state),
        relationship=relationship,
        received_at=received_at,
        changed_at=changed_at,
        expires_at=expires_at,
        proven_at=proven_at,
        is_current=is_current,
    )
