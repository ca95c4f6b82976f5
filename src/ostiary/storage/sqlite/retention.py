"""Retention on SQLite: long looks over connections that only read, short removals in the writer."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

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
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.readers import Read, Readers
from ostiary.storage.sqlite.retention_aged import (
    CROWDED_ALERTS,
    FORGET_ALERT,
    count_aged,
    drop_aged,
)
from ostiary.storage.sqlite.rows import Row, moment, moment_or_none
from ostiary.storage.sqlite.write_news import save_alert

_AT_ONCE: Final = 100
"""Rows that go in one turn of the writer: some milliseconds, in which devices wait."""
_NOTES_AT_ONCE: Final = 5_000
"""The oldest notes of histories that grew, looked through for a page of reviews."""

_GENERATION: Final = """
    t.id, t.tenant, t.holder, t.kind, t.generation, t.digest, t.state, t.relationship,
    t.received_at, t.changed_at, t.expires_at, t.proven_at,
    coalesce(t.id IN (e.push_record, e.unlock_record, e.bootstrap_record), 0)
"""
LOAD_PLACE: Final = "SELECT place FROM retention_place WHERE name = ?"
SAVE_PLACE: Final = """
    INSERT INTO retention_place (name, place, until) VALUES (?, ?, 0)
    ON CONFLICT (name) DO UPDATE SET place = excluded.place
"""
READ_HISTORIES: Final = f"""
    SELECT {_GENERATION} FROM token t LEFT JOIN enrollment e ON e.key = t.relationship
     WHERE (t.tenant, t.holder, t.kind) > (?, ?, ?)
     ORDER BY t.tenant, t.holder, t.kind, t.generation LIMIT ?
"""  # noqa: S608 - made of constants; served by token_generation
READ_HISTORY: Final = f"""
    SELECT {_GENERATION} FROM token t LEFT JOIN enrollment e ON e.key = t.relationship
     WHERE t.tenant = ? AND t.holder = ? AND t.kind = ?
     ORDER BY t.generation DESC LIMIT ?
"""  # noqa: S608 - made of constants; served by token_generation
FORGET_GENERATION: Final = """
    DELETE FROM token
     WHERE id = ? AND state NOT IN ('ok', 'candidate', 'suspect')
       AND NOT EXISTS (SELECT 1 FROM enrollment e
                        WHERE e.key = token.relationship
                          AND token.id IN (e.push_record, e.unlock_record, e.bootstrap_record))
       AND NOT EXISTS (SELECT 1 FROM escrow x
                        WHERE x.tenant = token.tenant AND x.holder = token.holder
                          AND token.id IN (x.current, x.candidate))
"""  # served by the primary keys
NEXT_CHANNELS: Final = """
    SELECT key FROM enrollment WHERE key > ? ORDER BY key LIMIT ?
"""  # served by the primary key
SURPLUS: Final = """
    SELECT number FROM command_closed WHERE enrollment_key = ?
     ORDER BY number DESC LIMIT ? OFFSET ?
"""  # served by command_closed_by_uuid; sorts the numbers of one channel
FORGET_ENDED: Final = "DELETE FROM command_closed WHERE number = ?"
LIST_REVIEWS: Final = """
    SELECT tenant, holder, kind, min(first_generation), max(last_generation),
           json_group_array(number)
      FROM (SELECT * FROM token_note ORDER BY number LIMIT ?1)
     GROUP BY tenant, holder, kind ORDER BY min(number) LIMIT ?2
"""  # served by the primary key
FIND_NOTABLE: Final = """
    WITH r (place, tenant, holder, kind, first, last) AS MATERIALIZED
         (SELECT key, json_extract(value, '$[0]'), json_extract(value, '$[1]'),
                 json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]')
            FROM json_each(?1))
    SELECT r.place FROM r
     WHERE EXISTS (SELECT 1 FROM token t
                    WHERE t.tenant = r.tenant AND t.holder = r.holder AND t.kind = r.kind
                    ORDER BY t.generation LIMIT 1 OFFSET ?2)
        OR EXISTS (SELECT 1 FROM token n CROSS JOIN token o
                    WHERE n.tenant = r.tenant AND n.holder = r.holder AND n.kind = r.kind
                      AND n.generation BETWEEN r.first AND r.last
                      AND o.tenant = r.tenant AND o.holder = r.holder AND o.kind = r.kind
                      AND o.generation < n.generation AND o.state = 'superseded'
                      AND o.digest = n.digest AND o.relationship IS n.relationship)
"""  # served by token_generation; the second look is taken at short histories only
FORGET_NOTE: Final = """
    DELETE FROM token_note
     WHERE number = ? AND tenant = ? AND holder = ? AND kind = ? AND last_generation <= ?
"""  # served by the primary key; once the table is empty its numbers begin anew, hence the rest


class SqliteRetention:
    """What retention asks, on one engine."""

    def __init__(self, engine: Engine, readers: Readers) -> None:
        self._engine = engine
        self._readers = readers

    async def drop_aged(self, records: Aged, before: datetime, *, limit: int) -> int:
        at_most = min(limit, _AT_ONCE)
        return await self._engine.run(
            lambda transaction: drop_aged(transaction, records, before, at_most)
        )

    async def count_aged(self, records: Aged, before: datetime) -> int:
        return await self._readers.run(lambda read: count_aged(read, records, before))

    async def drop_crowded_alerts(self, *, most: int, limit: int) -> int:
        values = (most, min(limit, _AT_ONCE))
        found = await self._readers.run(lambda read: read(CROWDED_ALERTS, values).fetchall())

        def work(transaction: Transaction) -> int:
            return sum(transaction.write(FORGET_ALERT, alert) for alert in found)

        return await self._engine.run(work) if found else 0

    async def take_turn(self, now: datetime, *, lease: timedelta) -> bool:
        """Always: nobody else may open the file."""
        del now, lease
        return True

    async def load_place(self, walk: str) -> str:
        found = await self._readers.run(lambda read: read(LOAD_PLACE, (walk,)).fetchone())
        return START if found is None else str(found[0])

    async def save_place(self, walk: str, place: str) -> None:
        await self._engine.run(lambda transaction: transaction.write(SAVE_PLACE, (walk, place)))

    async def read_histories(self, place: str, *, limit: int) -> Histories:
        after = decode_place(place)

        def work(read: Read) -> Histories:
            found = _generations(read(READ_HISTORIES, (*after, limit)).fetchall())
            if (whole := whole_histories(found, limit)) is not None:
                return whole
            one = (found[0].tenant, found[0].holder, found[0].kind.value)
            newest = _generations(read(READ_HISTORY, (*one, limit)).fetchall())
            return Histories(generations=newest, place=encode_place(one))

        return await self._readers.run(work)

    async def find_surplus(self, place: str, *, most: int, limit: int) -> Surplus:
        def work(read: Read) -> Surplus:
            keys = [key for (key,) in read(NEXT_CHANNELS, (place, limit))]
            numbers = [
                number
                for key in keys
                for (number,) in read(SURPLUS, (key, _AT_ONCE, most)).fetchall()
            ]
            return Surplus(numbers=tuple(numbers), place=keys[-1] if len(keys) == limit else START)

        return await self._readers.run(work)

    async def drop_commands(self, numbers: Sequence[int]) -> int:
        return await self._drop(FORGET_ENDED, numbers)

    async def list_reviews(self, *, limit: int) -> tuple[Review, ...]:
        values = (_NOTES_AT_ONCE, limit)
        rows = await self._readers.run(lambda read: read(LIST_REVIEWS, values).fetchall())
        return tuple(
            Review(
                tenant=tenant,
                holder=Holder(holder),
                kind=TokenKind(kind),
                first=first,
                last=last,
                notes=tuple(json.loads(notes)),
            )
            for tenant, holder, kind, first, last, notes in rows
        )

    async def find_notable(self, reviews: Sequence[Review], *, most: int) -> tuple[Review, ...]:
        values = json.dumps(
            [(one.tenant, one.holder, one.kind, one.first, one.last) for one in reviews]
        )
        rows = await self._readers.run(lambda read: read(FIND_NOTABLE, (values, most)).fetchall())
        return tuple(reviews[place] for (place,) in rows)

    async def read_history(self, review: Review, *, limit: int) -> tuple[Generation, ...]:
        values = (review.tenant, review.holder, review.kind.value, limit)
        rows = await self._readers.run(lambda read: read(READ_HISTORY, values).fetchall())
        return _generations(rows)

    async def settle_reviews(
        self, reviews: Sequence[Review], alerts: Sequence[Alert], at: datetime
    ) -> None:
        def work(transaction: Transaction) -> None:
            for alert in alerts:
                save_alert(transaction, alert, at)
            for one in reviews:
                whose = (one.tenant, one.holder, one.kind.value, one.last)
                transaction.write_each(FORGET_NOTE, ((number, *whose) for number in one.notes))

        await self._engine.run(work)

    async def drop_generations(self, ids: Sequence[RecordId]) -> int:
        return await self._drop(FORGET_GENERATION, ids)

    async def fold_counts(self, *, limit: int) -> int:
        """Nothing to do: the one writer keeps the sums themselves."""
        del limit
        return 0

    async def _drop(self, statement: str, keys: Sequence[Any]) -> int:
        """Remove one after the other, a few in each turn of the writer."""
        dropped = 0
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]

            def work(transaction: Transaction, some: Sequence[Any] = some) -> int:
                return sum(transaction.write(statement, (key,)) for key in some)

            dropped += await self._engine.run(work)
        return dropped


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
        holder=Holder(holder),
        kind=TokenKind(kind),
        generation=generation,
        digest=KeyedDigest(digest),
        state=TokenState(state),
        relationship=relationship,
        received_at=moment(received_at),
        changed_at=moment(changed_at),
        expires_at=moment_or_none(expires_at),
        proven_at=moment_or_none(proven_at),
        is_current=bool(is_current),
    )
