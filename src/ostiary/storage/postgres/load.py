"""The load of a decision: one statement, made of what its Ask names. What it shows belongs to one moment.

What only few ask for comes with statements of its own, a moment later. (load_escrows.py)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from ostiary.domain.command import CommandState, LiveCommand
from ostiary.domain.decision import (
    Ask,
    ByCertificate,
    ByKey,
    ByName,
    QueueView,
    Snapshot,
    Wake,
    wants_escrows,
)
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Standing
from ostiary.domain.token import Fingerprint, RecordId, TokenKind, TokenRecord
from ostiary.storage.postgres.batches import ALONE, RowSource
from ostiary.storage.postgres.load_escrows import load_escrows
from ostiary.storage.postgres.rows import (
    BINDING_COLUMNS,
    COMMAND_COLUMNS,
    CREDENTIAL_COLUMNS,
    ENROLLMENT_COLUMNS,
    TOKEN_COLUMNS,
    Row,
    binding_from,
    command_from,
    credential_from,
    enrollment_from,
    listed,
    token_from,
    with_columns,
)
from ostiary.storage.postgres.seen import SeenBuffer
from ostiary.storage.postgres.session import Session

RECORD: Final = with_columns(
    "SELECT $token FROM token t WHERE t.id = $1"
)  # served by the primary key

_ROW: Final = (*ENROLLMENT_COLUMNS, "turn")
_WAKE: Final = ("due_at", "attempt", "failures")
_POINTED: Final = frozenset({TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a decision is shown, and the turn of each row that it is shown."""

    snapshot: Snapshot
    turns: Mapping[EnrollmentKey, int]
    unbound: Fingerprint | None
    """The certificate that the decision saw bound to nothing."""
    shows_escrows: bool = False
    """Also the device's row must then be at the turn that was shown, when the decision is written."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What an Ask asks for, without whom: asks of one shape share a statement."""

    who: type[ByCertificate | ByName | ByKey]
    is_user: bool
    is_wide: bool
    """With the relationships and the credential; and with an answer even where nothing is found."""
    queue: QueueView
    reports: bool
    value_of: TokenKind | None
    asks_topic: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of one shape: its text, the names of its values, and where in a row each part stands."""

    text: str
    values: tuple[str, ...]
    parts: Mapping[str, slice]


_VALUES: Final[Mapping[str, Callable[[Ask], object]]] = {
    "fingerprint": lambda ask: _certificate(ask).fingerprint,
    "tenant": lambda ask: None if isinstance(ask.who, ByKey) else ask.who.tenant,
    "device_id": lambda ask: getattr(_certificate(ask).channel, "device_id", None),
    "user_id": lambda ask: getattr(_certificate(ask).channel, "id", None),
    "name": lambda ask: ask.who.enrollment_id if isinstance(ask.who, ByName) else None,
    "key": lambda ask: ask.who.key if isinstance(ask.who, ByKey) else None,
    "reported": lambda ask: ask.reported,
    "topic": lambda ask: ask.topic,
    "place": lambda _: ALONE,
}


async def load(source: RowSource, ask: Ask, seen: SeenBuffer) -> Loaded:
    """What `ask` names."""
    loaded = await _load_found(source, ask, seen)
    if not (ask.facts or wants_escrows(ask, loaded.snapshot)):
        return loaded
    snapshot = await load_escrows(source, ask, loaded.snapshot)
    if snapshot is loaded.snapshot:
        return loaded
    return replace(loaded, snapshot=snapshot, shows_escrows=True)


async def _load_found(source: RowSource, ask: Ask, seen: SeenBuffer) -> Loaded:
    """A certificate that is not bound, or contested, is asked after once more, with its rivals."""
    shape = shape_of(ask)
    loaded = await _load(source, ask, shape, seen)
    if shape.who is not ByCertificate or shape.is_wide:
        return loaded
    device = loaded.snapshot.device
    if device is not None and device.standing is not Standing.CONTESTED:
        return loaded
    return await _load(source, ask, shape_of(ask, is_wide=True), seen)


async def load_record(session: Session, record_id: RecordId) -> TokenRecord | None:
    """One ledger record with its value."""
    row = await session.row(RECORD, record_id)
    return None if row is None else token_from(row)


def shape_of(ask: Ask, *, is_wide: bool = False) -> Shape:
    who = ask.who
    channel = who.channel if isinstance(who, ByCertificate) else None
    asks_aside = ask.topic is not None and not isinstance(who, ByCertificate)
    return Shape(
        who=type(who),
        is_user=channel is not None and channel.is_user_channel,
        is_wide=is_wide or ask.relationships or asks_aside,
        queue=ask.queue,
        reports=ask.reported is not None,
        value_of=ask.value_of if ask.value_of in _POINTED else None,
        asks_topic=ask.topic is not None,
    )


async def _load(source: RowSource, ask: Ask, shape: Shape, seen: SeenBuffer) -> Loaded:
    statement = compose(shape)
    rows = await source.rows(statement.text, *[_VALUES[name](ask) for name in statement.values])
    if not rows:
        return Loaded(snapshot=Snapshot(), turns={}, unbound=None)
    return _Reader(rows, statement.parts, seen).read(shape, ask)


class _Composer:
    """Gathers columns, joins and values of one statement."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.joins: list[str] = []
        self.names: list[str] = []
        self.parts: dict[str, slice] = {}
        self._width = 0

    def value(self, name: str) -> str:
        """The placeholder of a value; the same each time."""
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}::text"

    def place(self) -> str:
        """The placeholder of the place in a batch: the last value, and the last column."""
        self.names.append("place")
        return f"${len(self.names)}::int4"

    def show(self, part: str, columns: str, width: int) -> None:
        self.columns.append(columns)
        self.parts[part] = slice(self._width, self._width + width)
        self._width += width

    def show_table(self, part: str, alias: str, columns: tuple[str, ...]) -> None:
        self.show(part, listed(alias, columns), len(columns))


@cache
def compose(shape: Shape) -> Statement:
    """The statement that loads what asks of this shape name."""
    made = _Composer()
    base, condition = _whom(made, shape)
    channel = "u" if "channel" in made.parts else "d"
    made.show_table("wake", "w", _WAKE)
    made.joins.append(f"LEFT JOIN wake w ON w.enrollment_key = {channel}.key")
    if shape.reports:
        _show_reported(made, channel)
    if shape.queue is not QueueView.NONE:
        _show_queue(made, shape, channel)
    if shape.value_of is not None:
        made.show_table("token", "t", TOKEN_COLUMNS)
        made.joins.append(f"LEFT JOIN token t ON t.id = d.{shape.value_of.value}_record")
    if shape.asks_topic:
        made.show("held", f"EXISTS ({_held(made, shape)})", 1)
    if shape.is_wide:
        _show_relationships(made, shape)
        base, condition = f"(SELECT 1) one LEFT JOIN ({base}) ON {condition}", "true"
    made.show("place", made.place(), 1)
    text = f"SELECT {', '.join(made.columns)} FROM {base} {' '.join(made.joins)} WHERE {condition}"  # noqa: S608 - made of constants
    return Statement(text=text, values=tuple(made.names), parts=made.parts)


def _whom(made: _Composer, shape: Shape) -> tuple[str, str]:
    """The tables in which the row is found, and the condition. Served by primary keys and enrollment_by_id."""
    made.show_table("device", "d", _ROW)
    if shape.who is ByCertificate:
        made.show_table("binding", "b", BINDING_COLUMNS)
        if shape.is_user:
            made.show_table("channel", "u", _ROW)
            # served by enrollment_user
            made.joins.append(
                f"LEFT JOIN enrollment u ON u.parent_key = d.key AND u.id = {made.value('user_id')}"
            )
            made.show(
                "users",
                "CASE WHEN u.key IS NULL THEN (SELECT count(*) FROM enrollment n"
                " WHERE n.parent_key = d.key) ELSE 0 END",
                1,
            )
        found = f"b.fingerprint = {made.value('fingerprint')}"
        return "binding b JOIN enrollment d ON d.key = b.enrollment_key", found
    made.show_table("channel", "u", _ROW)
    base = "enrollment u JOIN enrollment d ON d.key = coalesce(u.parent_key, u.key)"
    if shape.who is ByKey:
        return base, f"u.key = {made.value('key')}"
    named = f"u.tenant = {made.value('tenant')} AND u.id = {made.value('name')}"
    return base, f"{named} AND d.standing = 'current'"


def _show_reported(made: _Composer, channel: str) -> None:
    """Served by the primary keys."""
    uuid = made.value("reported")
    made.show_table("reported", "r", COMMAND_COLUMNS)
    made.joins.append(
        f"LEFT JOIN command r ON r.enrollment_key = {channel}.key AND r.uuid = {uuid}"
    )
    made.show(
        "closed",
        f"CASE WHEN r.uuid IS NULL THEN EXISTS (SELECT FROM command_closed x"
        f" WHERE x.enrollment_key = {channel}.key AND x.uuid = {uuid}) ELSE false END",
        1,
    )


def _show_queue(made: _Composer, shape: Shape, channel: str) -> None:
    """Served by command_by_turn and command_deferred."""
    others = f" AND q.uuid <> {made.value('reported')}" if shape.reports else ""
    ready = " AND q.state <> 'deferred'" if shape.queue is QueueView.WITHOUT_DEFERRED else ""
    made.show_table("queue", "c", COMMAND_COLUMNS)
    made.joins.append(
        f"LEFT JOIN LATERAL (SELECT {listed('q', COMMAND_COLUMNS)} FROM command q"  # noqa: S608 - made of constants
        f" WHERE q.enrollment_key = {channel}.key{others}{ready}"
        " ORDER BY (q.state <> 'sent'), q.priority, q.sequence LIMIT 2) c ON true"
    )
    deferred = (
        f"EXISTS (SELECT FROM command q WHERE q.enrollment_key = {channel}.key"
        f" AND q.state = 'deferred'{others})"
    )
    if not ready:  # an empty queue has no deferred command either
        deferred = f"CASE WHEN c.uuid IS NULL THEN false ELSE {deferred} END"
    made.show("deferred", deferred, 1)


def _held(made: _Composer, shape: Shape) -> str:
    """Served by the primary key."""
    return f"SELECT FROM push_certificate p WHERE p.topic = {made.value('topic')} AND p.tenant = {_tenant(made, shape)}"


def _show_relationships(made: _Composer, shape: Shape) -> None:
    """Served by enrollment_by_id, binding_by_enrollment and the primary key of credential."""
    if shape.who is ByCertificate:
        made.show_table("credential", "f", CREDENTIAL_COLUMNS)
        made.joins.append(f"LEFT JOIN credential f ON f.fingerprint = {made.value('fingerprint')}")
    made.show("relation", f"{listed('a', _ROW)}, a.is_bound", len(_ROW) + 1)
    made.joins.append(
        f"LEFT JOIN LATERAL (SELECT {listed('o', _ROW)}, EXISTS (SELECT FROM binding i"  # noqa: S608 - made of constants
        " WHERE i.enrollment_key = o.key AND i.superseded_at IS NULL) AS is_bound"
        f" FROM enrollment o WHERE o.tenant = {_tenant(made, shape)} AND o.id = {_device_id(made, shape)}"
        " AND o.parent_key IS NULL AND o.standing IN ('current', 'contested')) a ON true"
    )


def _tenant(made: _Composer, shape: Shape) -> str:
    """A bound certificate's tenant is its binding's."""
    if shape.who is ByCertificate:
        return f"coalesce(b.tenant, {made.value('tenant')})"
    return "d.tenant" if shape.who is ByKey else f"coalesce(d.tenant, {made.value('tenant')})"


def _device_id(made: _Composer, shape: Shape) -> str:
    if shape.who is ByCertificate:
        return f"coalesce({made.value('device_id')}, d.id)"
    return "d.id" if shape.who is ByKey else f"coalesce(d.id, {made.value('name')})"


class _Reader:
    """Folds the rows of one load: device and channel stand in each, commands and relationships differ."""

    def __init__(self, rows: Sequence[Row], parts: Mapping[str, slice], seen: SeenBuffer) -> None:
        self._rows = rows
        self._first = rows[0]
        self._parts = parts
        self._seen = seen
        self.turns: dict[EnrollmentKey, int] = {}

    def read(self, shape: Shape, ask: Ask) -> Loaded:
        device = self._enrollment(self._of("device"))
        channel = self._enrollment(self._of("channel")) if "channel" in self._parts else device
        relationships, has_binding = self._relationships(ask) if shape.is_wide else ((), False)
        binding, credential, token = (self._of(part) for part in ("binding", "credential", "token"))
        reported = self._of("reported")
        snapshot = Snapshot(
            binding=None if binding is None else binding_from(binding),
            device=device,
            channel=channel,
            credential=None
            if credential is None or not shape.is_wide
            else credential_from(credential),
            relationships=relationships,
            current_has_binding=has_binding,
            reported=None if reported is None else command_from(reported),
            reported_is_closed=channel is not None and self._flag("closed"),
            queue=self._queue() if "queue" in self._parts else (),
            has_deferred=channel is not None and self._flag("deferred"),
            wake=None if channel is None else self._wake(channel),
            users=self._users(),
            token=None if token is None else token_from(token),
            topic_is_held=self._flag("held"),
        )
        unbound = (
            ask.who.fingerprint if isinstance(ask.who, ByCertificate) and not binding else None
        )
        return Loaded(snapshot=snapshot, turns=self.turns, unbound=unbound)

    def _of(self, part: str) -> Row | None:
        """The part of the first row, None where the join found nothing or was not asked for."""
        place = self._parts.get(part)
        if place is None or self._first[place.start] is None:
            return None
        return self._first[place]

    def _flag(self, part: str) -> bool:
        place = self._parts.get(part)
        return place is not None and bool(self._first[place.start])

    def _users(self) -> int:
        place = self._parts.get("users")
        return 0 if place is None else int(self._first[place.start])

    def _enrollment(self, row: Row | None) -> Enrollment | None:
        if row is None:
            return None
        enrollment = enrollment_from(row[:-1])
        self.turns[enrollment.key] = row[-1]
        return self._seen.overlay(enrollment)

    def _wake(self, channel: Enrollment) -> Wake | None:
        row = self._of("wake")
        if row is None:
            return None
        due_at, attempt, failures = row
        return Wake(enrollment_key=channel.key, due_at=due_at, attempt=attempt, failures=failures)

    def _queue(self) -> tuple[LiveCommand, ...]:
        place = self._parts["queue"]
        if self._first[place.start] is None:
            return ()
        found = {row[place.start]: row[place] for row in self._rows}
        return tuple(sorted((command_from(row) for row in found.values()), key=_turn))

    def _relationships(self, ask: Ask) -> tuple[tuple[Enrollment, ...], bool]:
        if not (ask.relationships or isinstance(ask.who, ByCertificate)):
            return (), False
        place = self._parts["relation"]
        if self._first[place.start] is None:
            return (), False
        found: dict[EnrollmentKey, tuple[Enrollment, bool]] = {}
        for row in self._rows:
            *columns, is_bound = row[place]
            if columns[0] not in found:
                enrollment = self._enrollment(columns)
                if enrollment is not None:
                    found[enrollment.key] = enrollment, is_bound
        ordered = sorted(found.values(), key=lambda pair: _rank(pair[0]))
        current, is_bound = ordered[0]
        return (
            tuple(enrollment for enrollment, _ in ordered),
            current.standing is Standing.CURRENT and bool(is_bound),
        )


def _turn(command: LiveCommand) -> tuple[bool, int, int]:
    return command.state is not CommandState.SENT, command.priority, command.sequence


def _rank(row: Enrollment) -> tuple[bool, Any, str]:
    return row.standing is not Standing.CURRENT, row.created_at, row.key


def _certificate(ask: Ask) -> ByCertificate:
    if not isinstance(ask.who, ByCertificate):
        raise TypeError("only a certificate has these")
    return ask.who
