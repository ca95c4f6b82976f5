"""Retention in memory: the same removals, over dictionaries."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from ostiary.domain.command import ClosedCommand, CommandState
from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.retention import MAY_OPEN, Aged, Generation
from ostiary.domain.token import Holder, RecordId, TenantId, TokenKind, TokenRecord, TokenState
from ostiary.ports.retention import START, Histories, Review, Surplus
from ostiary.storage.memory.store import Store
from ostiary.storage.memory.tables import Note, Tables
from ostiary.storage.memory.write import IN_FORCE, raise_alert
from ostiary.storage.places import Place, decode_place, encode_place


class MemoryRetention:
    """What retention asks, of dictionaries."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: dict[str, str] = {}

    async def drop_aged(self, records: Aged, before: datetime, *, limit: int) -> int:
        with self._store.writing() as tables:
            found = list(_aged(tables, records, before))[:limit]
            for place in found:
                _drop(tables, records, place)
        return len(found)

    async def count_aged(self, records: Aged, before: datetime) -> int:
        return len(list(_aged(self._store.tables, records, before)))

    async def drop_crowded_alerts(self, *, most: int, limit: int) -> int:
        kinds: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
        with self._store.writing() as tables:
            latest_first = sorted(tables.alerts.items(), key=lambda one: one[0][1])
            latest_first.sort(key=lambda one: one[1].last_at, reverse=True)
            for place, _ in latest_first:
                kinds.setdefault((place[0], place[2]), []).append(place)
            crowded = [place for places in kinds.values() for place in places[most:]][:limit]
            for place in crowded:
                del tables.alerts[place]
        return len(crowded)

    async def take_turn(self, now: datetime, *, lease: timedelta) -> bool:
        """Always: there is only one."""
        del now, lease
        return True

    async def load_place(self, walk: str) -> str:
        return self._places.get(walk, START)

    async def save_place(self, walk: str, place: str) -> None:
        self._places[walk] = place

    async def read_histories(self, place: str, *, limit: int) -> Histories:
        tables, after = self._store.tables, decode_place(place)
        histories: dict[Place, list[Generation]] = {}
        for record in sorted(
            tables.records.values(), key=lambda one: (*_history(one), one.generation)
        ):
            if _history(record) > after:
                histories.setdefault(_history(record), []).append(_generation(tables, record))
        told: list[Generation] = []
        for one, history in histories.items():
            if told and len(told) + len(history) > limit:
                return Histories(generations=tuple(told), place=encode_place(after))
            told += sorted(history, key=lambda some: -some.generation)[:limit]
            after = one
        return Histories(generations=tuple(told), place=START)

    async def find_surplus(self, place: str, *, most: int, limit: int) -> Surplus:
        """A command's number is its place among all that ended."""
        tables = self._store.tables
        keys = sorted(key for key in tables.enrollments if key > place)[:limit]
        numbers: list[int] = []
        for key in keys:
            ended = [n for n, one in enumerate(tables.closed.values()) if one.enrollment_key == key]
            numbers += ended[:-most]
        return Surplus(numbers=tuple(numbers), place=keys[-1] if len(keys) == limit else START)

    async def drop_commands(self, numbers: Sequence[int]) -> int:
        with self._store.writing() as tables:
            places = list(tables.closed)
            for number in numbers:
                del tables.closed[places[number]]
        return len(numbers)

    async def list_reviews(self, *, limit: int) -> tuple[Review, ...]:
        by_history: dict[tuple[TenantId, Holder, TokenKind], list[Note]] = {}
        for note in self._store.tables.review_notes.values():
            by_history.setdefault(note.history, []).append(note)
        found = (
            Review(
                tenant=tenant,
                holder=holder,
                kind=kind,
                first=min(note.first for note in notes),
                last=max(note.last for note in notes),
                notes=tuple(note.number for note in notes),
            )
            for (tenant, holder, kind), notes in by_history.items()
        )
        return tuple(islice(found, limit))

    async def find_notable(self, reviews: Sequence[Review], *, most: int) -> tuple[Review, ...]:
        return tuple(one for one in reviews if _is_notable(self._store.tables, one, most))

    async def read_history(self, review: Review, *, limit: int) -> tuple[Generation, ...]:
        tables = self._store.tables
        history = sorted(_records(tables, review), key=lambda one: -one.generation)
        return tuple(_generation(tables, one) for one in history[:limit])

    async def settle_reviews(
        self, reviews: Sequence[Review], alerts: Sequence[Alert], at: datetime
    ) -> None:
        with self._store.writing() as tables:
            for alert in alerts:
                raise_alert(tables, alert, at)
            for one in reviews:
                for note in _notes(tables, one):
                    del tables.review_notes[note.number]

    async def drop_generations(self, ids: Sequence[RecordId]) -> int:
        with self._store.writing() as tables:
            found = [tables.records[one] for one in ids if one in tables.records]
            escrows = tables.escrows.values()
            pointed = {one.current for one in escrows} | {one.candidate for one in escrows}
            gone = [
                one.id
                for one in found
                if one.state not in IN_FORCE
                and not _generation(tables, one).is_current
                and one.id not in pointed
            ]
            for one in gone:
                del tables.records[one]
        return len(gone)

    async def fold_counts(self, *, limit: int) -> int:
        """Nothing to do: nobody keeps counts here."""
        del limit
        return 0


def _history(record: TokenRecord) -> Place:
    return record.tenant, record.holder, record.kind.value


def _generation(tables: Tables, record: TokenRecord) -> Generation:
    row = next((one for one in tables.enrollments.values() if one.key == record.relationship), None)
    pointers = () if row is None else (row.push, row.unlock, row.bootstrap)
    return Generation(
        id=record.id,
        tenant=record.tenant,
        holder=record.holder,
        kind=record.kind,
        generation=record.generation,
        digest=record.digest,
        state=record.state,
        relationship=record.relationship,
        received_at=record.received_at,
        changed_at=record.changed_at,
        expires_at=record.expires_at,
        proven_at=record.proven_at,
        is_current=record.id in {one.record_id for one in pointers if one is not None},
    )


def _records(tables: Tables, review: Review) -> list[TokenRecord]:
    place = (review.tenant, review.holder, review.kind.value)
    return [one for one in tables.records.values() if _history(one) == place]


def _is_notable(tables: Tables, review: Review, most: int) -> bool:
    history = _records(tables, review)
    replaced = [one for one in history if one.state is TokenState.SUPERSEDED]
    return len(history) > most or any(
        review.first <= new.generation <= review.last
        and old.generation < new.generation
        and (old.digest, old.relationship) == (new.digest, new.relationship)
        for new in history
        for old in replaced
    )


def _notes(tables: Tables, review: Review) -> list[Note]:
    """Those that the review was made of; once all are gone, numbers begin anew."""
    found = (tables.review_notes.get(number) for number in review.notes)
    history = (review.tenant, review.holder, review.kind)
    return [one for one in found if one and one.history == history and one.last <= review.last]


def _aged(tables: Tables, records: Aged, before: datetime) -> Iterable[object]:
    """The keys of the rows that may go, oldest first."""
    match records:
        case Aged.ENDED_COMMANDS:
            return [place for place, one in tables.closed.items() if one.closed_at < before]
        case Aged.CANCELLED_COMMANDS:
            return [place for place, one in tables.closed.items() if _is_cancelled(one, before)]
        case Aged.CHALLENGES:
            return [one.id for one in tables.challenges.values() if one.valid_until < before]
        case Aged.INVITATIONS:
            used = {one.invitation_id for one in tables.challenges.values()}
            known = tables.invitations.values()
            return [one.id for one in known if one.valid_until < before and one.id not in used]
        case Aged.CREDENTIALS:
            known_credentials = tables.credentials.items()
            return [place for place, (one, _) in known_credentials if one.not_after < before]
        case Aged.BINDINGS:
            bindings = tables.bindings.items()
            return [p for p, one in bindings if one.superseded_at and one.not_after < before]
        case Aged.ALERTS:
            return [place for place, one in tables.alerts.items() if one.last_at < before]
        case Aged.RELATIONSHIPS:
            return [row.key for row in tables.enrollments.values() if _is_over(tables, row, before)]


def _is_cancelled(one: ClosedCommand, before: datetime) -> bool:
    return one.state is CommandState.CANCELLED and one.closed_at < before


def _is_over(tables: Tables, row: Enrollment, before: datetime) -> bool:
    if row.standing is not Standing.ENDED or row.parent_key is not None:
        return False
    if (row.last_seen_at or row.authenticated_at) >= before:
        return False
    bindings = (one for one in tables.bindings.values() if one.enrollment_key == row.key)
    records = (one for one in tables.records.values() if one.relationship == row.key)
    return not any(one.not_after >= before for one in bindings) and not any(
        one.kind in MAY_OPEN for one in records
    )


def _drop(tables: Tables, records: Aged, place: object) -> None:
    match records:
        case Aged.ENDED_COMMANDS | Aged.CANCELLED_COMMANDS:
            _remove(tables.closed, place)
        case Aged.CHALLENGES:
            _remove(tables.challenges, place)
            _remove(tables.records, place)
        case Aged.INVITATIONS:
            _remove(tables.invitations, place)
        case Aged.CREDENTIALS:
            _remove(tables.credentials, place)
        case Aged.BINDINGS:
            _remove(tables.bindings, place)
        case Aged.ALERTS:
            _remove(tables.alerts, place)
        case Aged.RELATIONSHIPS:
            _drop_relationship(tables, place)


def _remove(table: dict[Any, Any], place: object) -> None:
    table.pop(place, None)


def _drop_relationship(tables: Tables, key: object) -> None:
    rows = tables.enrollments.values()
    keys = {row.key for row in rows if key in (row.key, row.parent_key)}
    tables_of_commands: tuple[dict[tuple[str, str], Any], ...] = (tables.closed, tables.commands)
    for table in tables_of_commands:
        for place in [place for place in table if place[0] in keys]:
            del table[place]
    for one in [one for one in tables.records.values() if one.relationship in keys]:
        del tables.records[one.id]
    for fingerprint in [f for f, one in tables.bindings.items() if one.enrollment_key in keys]:
        del tables.bindings[fingerprint]
    for one_key in keys:
        tables.wakes.pop(one_key, None)
        for place in [place for place in tables.sheets if place[0] == one_key]:
            del tables.sheets[place]
        tables.renewals.pop(one_key, None)
        del tables.enrollments[one_key]
