"""The write of a plain decision as one statement: what nearly every message of a device comes to.

Every part hangs on the first, which takes the turn: if the row has moved on, nothing at all is written. The parts of
one statement do not see each other, so a change whose parts meet is written part by part instead (write.py).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from ostiary.domain.decision import Change
from ostiary.domain.enrollment import Enrollment, EnrollmentKey
from ostiary.storage.postgres.batches import ALONE
from ostiary.storage.postgres.escrow_rows import FACT_COLUMNS, sheet_values
from ostiary.storage.postgres.load import Loaded
from ostiary.storage.postgres.rows import (
    COMMAND_COLUMNS,
    ENROLLMENT_COLUMNS,
    TOKEN_COLUMNS,
    closed_values,
    command_values,
    enrollment_values,
    token_values,
)
from ostiary.storage.postgres.text import escape
from ostiary.storage.postgres.write import assignments, contact_of, guards_escrows, rows_held
from ostiary.storage.postgres.write_commands import REPLACE_CLOSED
from ostiary.storage.postgres.write_escrows import REPLACE_SHEET
from ostiary.storage.postgres.write_news import REPLACE_WAKE

_MOST_OF_A_PART: Final = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of each part a change has: changes of one shape share a statement."""

    saves_row: bool
    holds_device: bool
    steps: int
    records: int
    proofs: int
    sheets: int
    closes: int
    lifts: bool
    moves: int
    enqueues: int
    wakes: int
    drops: int


@dataclass(frozen=True, slots=True)
class Write:
    """One statement with its values; it gives 1, or 0 if the turn was another's, and its place in a batch."""

    statement: str
    values: list[Any]


def write_at_once(change: Change[Any], loaded: Loaded) -> Write | None:
    """The whole change as one statement, if it can be one."""
    channel = loaded.snapshot.channel
    if channel is None or not _is_plain(change, channel):
        return None
    held = rows_held(change, loaded.snapshot)
    if len(held) > 1 or (held and guards_escrows(change, loaded)):
        return None
    shape = Shape(
        saves_row=bool(change.rows),
        holds_device=bool(held),
        steps=len(change.steps),
        records=len(change.records),
        proofs=len(change.proofs),
        sheets=len(change.facts),
        closes=len(change.close),
        lifts=change.lift_deferred is not None,
        moves=len(change.moves),
        enqueues=len(change.enqueue),
        wakes=len(change.wakes),
        drops=len(change.drop_wakes),
    )
    values = _values(change, held, channel, loaded.turns[channel.key])
    return Write(statement=compose(shape), values=values)


def _is_plain(change: Change[Any], channel: Enrollment) -> bool:
    """Whether all of it is about this channel, and no two parts are about the same thing."""
    if (
        change.supersede
        or change.bind
        or change.disable_users
        or change.cancel
        or change.disclosures
        or change.escrows
        or change.alerts
        or change.audit
    ):
        return False
    key = channel.key
    # The parts run in no order: two commands queued at once would stand in the queue as it pleases.
    single = (
        change.rows, change.close, change.moves, change.enqueue, change.wakes, change.drop_wakes,
        change.proofs, change.facts,
    )  # fmt: skip
    if any(len(part) > 1 for part in single) or (change.wakes and change.drop_wakes):
        return False
    if change.rows and (change.rows[0].key, change.rows[0].version) != (key, channel.version):
        return False
    few = (change.steps, change.records)
    return (
        all(len(part) <= _MOST_OF_A_PART for part in few)
        and all(other == key for other in _keys(change))
        and _are_distinct(change)
    )


def _keys(change: Change[Any]) -> list[EnrollmentKey | str]:
    """Of every channel that a part is about."""
    return [
        *(() if change.lift_deferred is None else (change.lift_deferred,)),
        *change.drop_wakes,
        *[sheet.enrollment_key for sheet in change.facts],
        *[wake.enrollment_key for wake in change.wakes],
        *[closed.enrollment_key for closed in change.close],
        *[command.enrollment_key for command in change.enqueue],
    ]


def _are_distinct(change: Change[Any]) -> bool:
    records = [
        *[step.record_id for step in change.steps],
        *[proof.record_id for proof in change.proofs],
        *[record.id for record in change.records],
    ]
    places = [(record.tenant, record.holder, record.kind) for record in change.records]
    commands = [*_moved(change), *[command.uuid for command in change.enqueue]]
    return all(len(set(some)) == len(some) for some in (records, places, commands))


def _moved(change: Change[Any]) -> list[str]:
    """The commands that the change itself closes or moves."""
    return [*[closed.uuid for closed in change.close], *[move.uuid for move in change.moves]]


def _values(
    change: Change[Any], held: tuple[Enrollment, ...], channel: Enrollment, turn: int
) -> list[Any]:
    """The values of `compose`, in its order."""
    at = change.at
    values: list[Any] = []
    for row in held:
        values += (row.key, row.version)
    for row in change.rows:
        values += (*enrollment_values(row, contact_of(change, row.key)), turn)
    if not change.rows:
        values += (channel.key, contact_of(change, channel.key), turn)
    for step in change.steps:
        values += (step.state.value, step.cause, at, step.record_id)
    for record in change.records:
        values += token_values(record)
    for proof in change.proofs:
        values += (at, proof.proven_by, proof.record_id)
    for sheet in change.facts:
        values += sheet_values(sheet)
    for closed in change.close:
        values += closed_values(closed)
    if change.lift_deferred is not None:
        values.append([escape(uuid) for uuid in _moved(change)])
    for move in change.moves:
        values += (move.to, move.sent_at, move.hand_outs, move.uuid)
    for command in change.enqueue:
        values += command_values(command)
    for wake in change.wakes:
        values += (wake.due_at, wake.attempt, wake.failures)
    values.append(ALONE)
    return values


class _Composer:
    """Gathers the parts of one statement, and numbers its values."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.counted: list[str] = []
        self._last = 0

    def next(self, count: int) -> list[str]:
        """The placeholders of the next values."""
        first, self._last = self._last + 1, self._last + count
        return [f"${number}" for number in range(first, self._last + 1)]

    def add(self, name: str, statement: str, *, must_write: bool = False) -> None:
        """A part; where it `must_write`, finding nothing to write to takes everything back."""
        self.parts.append(f"{name} AS ({statement}{' RETURNING 1' if must_write else ''})")
        if must_write:
            self.counted.append(f"(SELECT count(*) FROM {name})")  # noqa: S608 - made of constants


@cache
def compose(shape: Shape) -> str:
    """The statement that writes changes of this shape. Served by primary keys, token_generation, command_deferred."""
    made = _Composer()
    _take_turn(made, shape)
    _write_tokens(made, shape)
    for number in range(shape.sheets):
        made.add(
            f"told{number}",
            f"INSERT INTO fact ({', '.join(FACT_COLUMNS)})"  # noqa: S608 - made of constants
            f" SELECT {', '.join(made.next(len(FACT_COLUMNS)))} FROM taken {REPLACE_SHEET}",
        )
    _write_commands(made, shape)
    if shape.wakes:
        due_at, attempt, failures = made.next(3)
        made.add(
            "woken",
            "INSERT INTO wake (enrollment_key, due_at, attempt, failures)"  # noqa: S608 - made of constants
            f" SELECT taken.key, {due_at}, {attempt}, {failures} FROM taken {REPLACE_WAKE}",
        )
    if shape.drops:
        made.add("calmed", "DELETE FROM wake w USING taken WHERE w.enrollment_key = taken.key")
    (place,) = made.next(1)
    answer = f"SELECT (SELECT count(*) FROM taken), {place}::int4"  # noqa: S608 - made of constants
    if made.counted:
        answer = (
            "SELECT CASE WHEN NOT EXISTS (SELECT FROM taken) THEN 0"  # noqa: S608 - made of constants
            f" WHEN {' + '.join(made.counted)} = {len(made.counted)} THEN 1"
            f" ELSE ostiary_misfit() END, {place}::int4"
        )
    return f"WITH {', '.join(made.parts)} {answer}"


def _take_turn(made: _Composer, shape: Shape) -> None:
    held = ""
    if shape.holds_device:
        key, version = made.next(2)
        made.add(
            "held", f"SELECT FROM enrollment WHERE key = {key} AND version = {version} FOR SHARE"
        )
        held = " AND EXISTS (SELECT FROM held)"
    if shape.saves_row:
        key, *_ = made.next(len(ENROLLMENT_COLUMNS))
        assigned = f"{assignments(after=2 if held else 0)}, turn = turn + 1"
    else:
        key, seen_at = made.next(2)
        assigned = f"turn = turn + 1, last_seen_at = greatest(last_seen_at, {seen_at})"
    (turn,) = made.next(1)
    made.add(
        "taken",
        f"UPDATE enrollment SET {assigned} WHERE key = {key} AND turn = {turn}{held} RETURNING key",  # noqa: S608 - made of constants
    )


def _write_tokens(made: _Composer, shape: Shape) -> None:
    for number in range(shape.steps):
        state, cause, at, record_id = made.next(4)
        made.add(
            f"stepped{number}",
            f"UPDATE token t SET state = {state}, cause = {cause}, changed_at = {at}"  # noqa: S608 - made of constants
            f" FROM taken WHERE t.id = {record_id}",
            must_write=True,
        )
    for number in range(shape.records):
        id_, tenant, holder, kind, *rest = made.next(len(TOKEN_COLUMNS) - 1)
        made.add(
            f"appended{number}",
            f"INSERT INTO token ({', '.join(TOKEN_COLUMNS)})"  # noqa: S608 - made of constants
            f" SELECT {id_}, {tenant}, {holder}, {kind}, (SELECT coalesce(max(o.generation), 0) + 1"
            f" FROM token o WHERE o.tenant = {tenant} AND o.holder = {holder} AND o.kind = {kind}),"
            f" {', '.join(rest)} FROM taken ON CONFLICT (id) DO NOTHING",
        )
    for number in range(shape.proofs):
        at, proven_by, record_id = made.next(3)
        made.add(
            f"proven{number}",
            f"UPDATE token t SET proven_at = {at}, proven_by = {proven_by}"  # noqa: S608 - made of constants
            f" FROM taken WHERE t.id = {record_id}",
            must_write=True,
        )


def _write_commands(made: _Composer, shape: Shape) -> None:
    for number in range(shape.closes):
        uuid, key, *rest = made.next(9)
        made.add(
            f"gone{number}",
            f"DELETE FROM command c USING taken WHERE c.enrollment_key = taken.key AND c.uuid = {uuid}",  # noqa: S608 - made of constants
        )
        made.add(
            f"closed{number}",
            "INSERT INTO command_closed (uuid, enrollment_key, request_type, state, queued_at,"  # noqa: S608 - made of constants
            f" closed_at, source, hand_outs, result) SELECT {uuid}, {key}, {', '.join(rest)}"
            f" FROM taken {REPLACE_CLOSED}",
        )
    if shape.lifts:
        (spared,) = made.next(1)
        made.add(
            "lifted",
            "UPDATE command c SET state = 'queued' FROM taken WHERE c.enrollment_key = taken.key"  # noqa: S608 - made of constants
            f" AND c.state = 'deferred' AND c.uuid <> ALL({spared}::text[])",
        )
    for number in range(shape.moves):
        state, sent_at, hand_outs, uuid = made.next(4)
        made.add(
            f"moved{number}",
            f"UPDATE command c SET state = {state}, sent_at = {sent_at}, hand_outs = {hand_outs}"  # noqa: S608 - made of constants
            f" FROM taken WHERE c.enrollment_key = taken.key AND c.uuid = {uuid}",
            must_write=True,
        )
    for number in range(shape.enqueues):
        placeholders = made.next(len(COMMAND_COLUMNS) - 1)
        made.add(
            f"queued{number}",
            f"INSERT INTO command ({', '.join(COMMAND_COLUMNS[1:])})"  # noqa: S608 - made of constants
            f" SELECT {', '.join(placeholders)} FROM taken",
        )
