"""What devices do while the process dies under them, and what may be found afterwards: the world before, or after."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from ostiary.domain.enrollment import State
from ostiary.domain.push_value import decode_push_value
from ostiary.domain.token import TokenKind, TokenState
from ostiary.protocol.mdm.identity import EnrollmentId
from scenes.house import IPHONE, MAC, Device, House, Model

PUSH, UNLOCK, BOOTSTRAP = TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP
KINDS = (PUSH, UNLOCK, BOOTSTRAP)
FIRST_COMMANDS = ("DeviceInformation", "SecurityInfo")

Generation = tuple[TokenState, bytes]


@dataclass(frozen=True, kw_only=True)
class World:
    """All that a device's message may change, opened: equal worlds mean that nothing is half done."""

    state: State
    token_updates: int
    history: Mapping[TokenKind, tuple[Generation, ...]] = field(default_factory=dict)
    """In order of generation, which are numbered from 1 without gaps."""
    current: Mapping[TokenKind, bytes] = field(default_factory=dict)
    queued: tuple[str, ...] = ()
    has_wake: bool = False


@dataclass(frozen=True)
class Message:
    """A message of a device that carries tokens, by its values; None leaves a key out."""

    is_update: bool
    token: bytes = b""
    unlock: bytes | None = None
    bootstrap: bytes | None = None

    async def send(self, device: Device) -> None:
        if self.is_update:
            await device.token_update(Token=self.token, UnlockToken=self.unlock)
        else:
            await device.set_bootstrap(self.bootstrap)


@dataclass(frozen=True)
class Act:
    """A device's life so far, the message during which the process dies, and the two worlds allowed then."""

    name: str
    model: Model
    so_far: tuple[Message, ...]
    message: Message
    before: World
    after: World

    def device(self, house: House, name: str) -> Device:
        return house.device(self.model, udid=name, serial=name, unlock=b"")

    async def begin(self, device: Device) -> None:
        """Everything up to the message."""
        await device.authenticate()
        for message in self.so_far:
            await message.send(device)


_T1, _T2 = b"\x01" * 32, b"\x02" * 48
_U1, _U2 = b"unlock token one" * 80, b"unlock token two" * 60
_B1, _B2 = b"bootstrap one", b"bootstrap two"
_OK, _OLD, _GONE = TokenState.OK, TokenState.SUPERSEDED, TokenState.RETIRED


def _update(token: bytes, unlock: bytes | None = None) -> Message:
    return Message(is_update=True, token=token, unlock=unlock)


def _escrow(value: bytes | None) -> Message:
    return Message(is_update=False, bootstrap=value)


_PENDING = World(state=State.PENDING, token_updates=0)
_PHONE = World(
    state=State.ENROLLED,
    token_updates=1,
    history={PUSH: ((_OK, _T1),), UNLOCK: ((_OK, _U1),)},
    current={PUSH: _T1, UNLOCK: _U1},
    queued=FIRST_COMMANDS,
    has_wake=True,
)
_MAC = replace(_PHONE, history={PUSH: ((_OK, _T1),)}, current={PUSH: _T1})
_ESCROWED = replace(
    _MAC,
    history={**_MAC.history, BOOTSTRAP: ((_OK, _B1),)},
    current={**_MAC.current, BOOTSTRAP: _B1},
)
_FIRST = _update(_T1, _U1)

ACTS = (
    Act("first-update", IPHONE, (), _FIRST, _PENDING, _PHONE),
    Act(
        "changed-update",
        IPHONE,
        (_FIRST,),
        _update(_T2, _U2),
        _PHONE,
        replace(
            _PHONE,
            token_updates=2,
            history={PUSH: ((_OLD, _T1), (_OK, _T2)), UNLOCK: ((_OLD, _U1), (_OK, _U2))},
            current={PUSH: _T2, UNLOCK: _U2},
        ),
    ),
    Act(
        "update-without-unlock-token",
        IPHONE,
        (_FIRST,),
        _update(_T2),
        _PHONE,
        replace(
            _PHONE,
            token_updates=2,
            history={PUSH: ((_OLD, _T1), (_OK, _T2)), UNLOCK: ((_OK, _U1),)},
            current={PUSH: _T2, UNLOCK: _U1},
        ),
    ),
    Act("same-update", IPHONE, (_FIRST,), _FIRST, _PHONE, replace(_PHONE, token_updates=2)),
    Act("first-escrow", MAC, (_update(_T1),), _escrow(_B1), _MAC, _ESCROWED),
    Act(
        "changed-escrow",
        MAC,
        (_update(_T1), _escrow(_B1)),
        _escrow(_B2),
        _ESCROWED,
        replace(
            _ESCROWED,
            history={**_MAC.history, BOOTSTRAP: ((_OLD, _B1), (_OK, _B2))},
            current={**_MAC.current, BOOTSTRAP: _B2},
        ),
    ),
    Act("same-escrow", MAC, (_update(_T1), _escrow(_B1)), _escrow(_B1), _ESCROWED, _ESCROWED),
    Act(
        "removed-escrow",
        MAC,
        (_update(_T1), _escrow(_B1)),
        _escrow(None),
        _ESCROWED,
        replace(
            _ESCROWED,
            history={**_MAC.history, BOOTSTRAP: ((_GONE, _B1),)},
            current=_MAC.current,
        ),
    ),
    Act(
        "escrow-before-the-first-update",
        MAC,
        (),
        _escrow(_B1),
        _PENDING,
        replace(_PENDING, history={BOOTSTRAP: ((_OK, _B1),)}, current={BOOTSTRAP: _B1}),
    ),
)
ACT_BY_NAME: Mapping[str, Act] = {act.name: act for act in ACTS}


async def observe(house: House, name: str) -> World:
    """The world of one device as a fresh process finds it. Fails if a value does not open or a number is skipped."""
    row = await house.require_row(name)
    history: dict[TokenKind, tuple[Generation, ...]] = {}
    current: dict[TokenKind, bytes] = {}
    for kind in KINDS:
        generations: list[Generation] = []
        for number, line in enumerate(await house.history(name, kind), start=1):
            assert line.generation == number, f"{name}: generations of {kind} are not contiguous"
            record = await house.storage.enrollments.load_record(line.id)
            assert record is not None
            generations.append((record.state, _clear(kind, house.open(record))))
        if generations:
            history[kind] = tuple(generations)
        value = await house.value(name, kind)
        if value is not None:
            current[kind] = _clear(kind, value)
    lines = await house.storage.reports.list_commands(
        row.tenant, EnrollmentId(name), live_only=True, limit=20
    )
    return World(
        state=row.state,
        token_updates=row.token_updates,
        history=history,
        current=current,
        queued=tuple(line.request_type for line in lines),
        has_wake=_has_wake(house, row.key),
    )


def _clear(kind: TokenKind, value: bytes) -> bytes:
    """The value as a message carries it; the push magic is the same throughout."""
    return decode_push_value(value)[0] if kind is PUSH else value


def _has_wake(house: House, key: str) -> bool:
    with closing(sqlite3.connect(house.path)) as connection:
        found = connection.execute("SELECT 1 FROM wake WHERE enrollment_key = ?", (key,)).fetchone()
    return found is not None
