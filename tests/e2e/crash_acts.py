"""What devices do while something dies under them, and what may be found afterwards: the world before, or after."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fuzz.envelopes import gcm_envelope
from ostiary.domain.decision import Ask, ByKey, Change, QueueView, Snapshot
from ostiary.domain.enrollment import EnrollmentKey, State
from ostiary.domain.push_value import decode_push_value
from ostiary.domain.token import TokenKind, TokenState
from ostiary.keys.escrow_key import read_escrow_key
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from scenes.house import IPHONE, MAC, TOPIC, Device, House, Model

PUSH, UNLOCK, BOOTSTRAP = TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP
RECOVERY_KEY, BYPASS_CODE = TokenKind.FILEVAULT_KEY, TokenKind.BYPASS_DEVICE
KINDS = (PUSH, UNLOCK, BOOTSTRAP, RECOVERY_KEY, BYPASS_CODE)
INFORMATION, SECURITY, USERS = "DeviceInformation", "SecurityInfo", "UserList"
"""What every device is asked first, in this order; the last only Macs."""
ROTATE, FETCH = "RotateFileVaultKey", "ActivationLockBypassCode"
CHANGE = "change"
"""No message: an operator has a secret changed."""

Generation = tuple[TokenState, bytes]


@dataclass(frozen=True, kw_only=True)
class World:
    """All that a device's message may change, opened: equal worlds mean that nothing is half done."""

    state: State
    token_updates: int = 0
    history: Mapping[TokenKind, tuple[Generation, ...]] = field(default_factory=dict)
    """In order of generation, which are numbered from 1 without gaps."""
    current: Mapping[TokenKind, bytes] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()
    """Every command with its state, by request type."""
    has_wake: bool = False


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message of a device: a check-in with its values, or a report on the command that it names."""

    type: str = ""
    """Of a check-in; without one it is a report."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    status: str = "Idle"
    about: str = ""
    """The request type that is reported on."""

    @property
    def is_update(self) -> bool:
        return self.type == "TokenUpdate"

    @property
    def seals(self) -> bool:
        """Whether it passes the step at which tokens are sealed."""
        return self.is_update or bool(self.keys.get("BootstrapToken"))

    async def send(self, device: Device) -> None:
        match self.type:
            case "Authenticate":
                await device.authenticate()
            case "TokenUpdate":
                await device.token_update(**self.keys)
            case "change":
                await device.house.change(device.id, **self.keys)
            case "" if self.about == ROTATE:
                told = {"RotateResult": {"EncryptedNewRecoveryKey": await _envelope(device)}}
                await device.report_raw(self.status, await _uuid(device, ROTATE), **told)
            case "":
                uuid = await _uuid(device, self.about) if self.about else None
                await device.report_raw(self.status, uuid, **self.keys)
            case _:
                await device.send(self.type, **self.keys)


@dataclass(frozen=True)
class Act:
    """A device's life so far, the message during which something dies, and the two worlds allowed then."""

    name: str
    model: Model
    so_far: tuple[Message, ...]
    message: Message
    before: World | None
    after: World

    def device(self, house: House, name: str) -> Device:
        return house.device(self.model, udid=name, serial=name, unlock=b"")

    async def begin(self, device: Device) -> None:
        """Everything up to the message."""
        for message in self.so_far:
            await message.send(device)

    def after_a_repeat(self, found: World | None) -> World:
        """The world once the device has said it again: only its tally may have moved on."""
        if found is None or not self.message.is_update:
            return self.after
        return replace(self.after, token_updates=found.token_updates + 1)


_T1, _T2 = b"\x01" * 32, b"\x02" * 48
_U1, _U2 = b"unlock token one" * 80, b"unlock token two" * 60
_B1, _B2 = b"bootstrap one", b"bootstrap two"
_OK, _OLD, _GONE = TokenState.OK, TokenState.SUPERSEDED, TokenState.RETIRED


def _update(token: bytes, unlock: bytes | None = None) -> Message:
    return Message(type="TokenUpdate", keys={"Token": token, "UnlockToken": unlock})


def _escrow(value: bytes | None) -> Message:
    return Message(type="SetBootstrapToken", keys={"BootstrapToken": value})


_ARRIVES = Message(type="Authenticate")
_LEAVES = Message(type="CheckOut", keys={"Topic": TOPIC})
_IDLE = Message()
_FIRST = _update(_T1, _U1)


def _did(request_type: str, status: str = "Acknowledged", **keys: Any) -> Message:
    return Message(status=status, about=request_type, keys=keys)


def _change(kind: TokenKind, **keys: Any) -> Message:
    return Message(type=CHANGE, keys={"kind": kind, **keys})


_PENDING = World(state=State.PENDING)
_PHONE = World(
    state=State.ENROLLED,
    token_updates=1,
    history={PUSH: ((_OK, _T1),), UNLOCK: ((_OK, _U1),)},
    current={PUSH: _T1, UNLOCK: _U1},
    commands=((INFORMATION, "queued"), (SECURITY, "queued")),
    has_wake=True,
)
_MAC = replace(
    _PHONE,
    history={PUSH: ((_OK, _T1),)},
    current={PUSH: _T1},
    commands=((INFORMATION, "queued"), (SECURITY, "queued"), (USERS, "queued")),
)
_ESCROWED = replace(
    _MAC,
    history={**_MAC.history, BOOTSTRAP: ((_OK, _B1),)},
    current={**_MAC.current, BOOTSTRAP: _B1},
)
_ASKED = replace(_PHONE, commands=((INFORMATION, "sent"), (SECURITY, "queued")))
_ASKED_TWICE = replace(_PHONE, commands=((INFORMATION, "done"), (SECURITY, "sent")))
_P, _D = "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF", "3UM43-PUYVY-QYD1-UVCC-HEHJ-FKA4"
_ANSWERED = (_IDLE, _did(INFORMATION), _did(SECURITY))
"""The first commands; the one after them is handed out."""
_TOLD = ((INFORMATION, "done"), (SECURITY, "done"))
_FETCHING = replace(_PHONE, commands=((FETCH, "sent"), *_TOLD))
_ROTATING = replace(
    _MAC,
    commands=((INFORMATION, "done"), (ROTATE, "sent"), (SECURITY, "done"), (USERS, "done")),
)
_ENROLLED = (_ARRIVES, _FIRST)
_ENROLLED_MAC = (_ARRIVES, _update(_T1))

ACTS = (
    Act("arrival", IPHONE, (), _ARRIVES, None, _PENDING),
    Act("first-update", IPHONE, (_ARRIVES,), _FIRST, _PENDING, _PHONE),
    Act(
        "changed-update",
        IPHONE,
        _ENROLLED,
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
        _ENROLLED,
        _update(_T2),
        _PHONE,
        replace(
            _PHONE,
            token_updates=2,
            history={PUSH: ((_OLD, _T1), (_OK, _T2)), UNLOCK: ((_OK, _U1),)},
            current={PUSH: _T2, UNLOCK: _U1},
        ),
    ),
    Act("same-update", IPHONE, _ENROLLED, _FIRST, _PHONE, replace(_PHONE, token_updates=2)),
    Act("first-escrow", MAC, _ENROLLED_MAC, _escrow(_B1), _MAC, _ESCROWED),
    Act(
        "changed-escrow",
        MAC,
        (*_ENROLLED_MAC, _escrow(_B1)),
        _escrow(_B2),
        _ESCROWED,
        replace(
            _ESCROWED,
            history={**_MAC.history, BOOTSTRAP: ((_OLD, _B1), (_OK, _B2))},
            current={**_MAC.current, BOOTSTRAP: _B2},
        ),
    ),
    Act("same-escrow", MAC, (*_ENROLLED_MAC, _escrow(_B1)), _escrow(_B1), _ESCROWED, _ESCROWED),
    Act(
        "removed-escrow",
        MAC,
        (*_ENROLLED_MAC, _escrow(_B1)),
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
        (_ARRIVES,),
        _escrow(_B1),
        _PENDING,
        replace(_PENDING, history={BOOTSTRAP: ((_OK, _B1),)}, current={BOOTSTRAP: _B1}),
    ),
    Act("hand-out", IPHONE, _ENROLLED, _IDLE, _PHONE, _ASKED),
    Act("acknowledge", IPHONE, (*_ENROLLED, _IDLE), _did(INFORMATION), _ASKED, _ASKED_TWICE),
    Act(
        "last-acknowledge",
        IPHONE,
        (*_ENROLLED, _IDLE, _did(INFORMATION)),
        _did(SECURITY),
        _ASKED_TWICE,
        replace(_PHONE, commands=((INFORMATION, "done"), (SECURITY, "done")), has_wake=False),
    ),
    Act(
        "not-now",
        IPHONE,
        (*_ENROLLED, _IDLE),
        _did(INFORMATION, "NotNow"),
        _ASKED,
        replace(_PHONE, commands=((INFORMATION, "deferred"), (SECURITY, "sent"))),
    ),
    Act(
        "bypass-code",
        IPHONE,
        (*_ENROLLED, _change(BYPASS_CODE), *_ANSWERED),
        _did(FETCH, ActivationLockBypassCode=_D),
        _FETCHING,
        replace(
            _FETCHING,
            history={**_PHONE.history, BYPASS_CODE: ((_OK, _D.encode()),)},
            current={**_PHONE.current, BYPASS_CODE: _D.encode()},
            commands=((FETCH, "done"), *_TOLD),
            has_wake=False,
        ),
    ),
    Act(
        "rotated-recovery-key",
        MAC,
        (
            *_ENROLLED_MAC,
            _change(RECOVERY_KEY, unlock_with=Secret(b"a user's")),
            *_ANSWERED,
            _did(USERS),
        ),
        _did(ROTATE),
        _ROTATING,
        replace(
            _ROTATING,
            history={**_MAC.history, RECOVERY_KEY: ((_OK, _P.encode()),)},
            current={**_MAC.current, RECOVERY_KEY: _P.encode()},
            commands=((INFORMATION, "done"), (ROTATE, "done"), (SECURITY, "done"), (USERS, "done")),
            has_wake=False,
        ),
    ),
    Act(
        "arrival-anew",
        MAC,
        (*_ENROLLED_MAC, _escrow(_B1)),
        _ARRIVES,
        _ESCROWED,
        replace(
            _PENDING,
            history={PUSH: ((_GONE, _T1),), BOOTSTRAP: ((_GONE, _B1),)},
            commands=((INFORMATION, "cancelled"), (SECURITY, "cancelled"), (USERS, "cancelled")),
        ),
    ),
    Act(
        "departure",
        IPHONE,
        _ENROLLED,
        _LEAVES,
        _PHONE,
        replace(
            _PHONE,
            state=State.OUT,
            commands=((INFORMATION, "cancelled"), (SECURITY, "cancelled")),
            has_wake=False,
        ),
    ),
)
ACT_BY_NAME: Mapping[str, Act] = {act.name: act for act in ACTS}


async def observe(house: House, name: str) -> World | None:
    """The world of one device as a fresh process finds it. Fails if a value does not open or a number is skipped."""
    row = await house.row(name)
    if row is None:
        return None
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
        believed = [value] if value is not None else await house.believed(name, kind)
        if believed:
            (only,) = believed
            current[kind] = _clear(kind, only)
    return World(
        state=row.state,
        token_updates=row.token_updates,
        history=history,
        current=current,
        commands=tuple(sorted(await house.queue(name))),
        has_wake=await _has_wake(house, row.key),
    )


def _clear(kind: TokenKind, value: bytes) -> bytes:
    """The value as a message carries it; the push magic is the same throughout."""
    return decode_push_value(value)[0] if kind is PUSH else value


async def _envelope(device: Device) -> bytes:
    """The Mac's new key, to the certificate that came with the command; a repeat is encrypted anew. (FV-04)"""
    (stored,) = await device.house.generations(device.id, TokenKind.FILEVAULT_ESCROW_KEY)
    return gcm_envelope(_P.encode(), read_escrow_key(Secret(stored)).certificate)


async def _uuid(device: Device, request_type: str) -> str:
    """The CommandUUID that the device was handed; it remembers, whatever happens to the server."""
    lines = await device.house.storage.reports.list_commands(
        device.identity.tenant, EnrollmentId(device.id), live_only=False, limit=20
    )
    return next(line.uuid for line in lines if line.request_type == request_type)


async def _has_wake(house: House, key: EnrollmentKey) -> bool:
    def rule(seen: Snapshot) -> Change[bool]:
        return Change(at=house.clock.now(), answer=seen.wake is not None)

    ask = Ask(who=ByKey(key=key), queue=QueueView.WHOLE)
    return (await house.storage.enrollments.decide(ask, rule)).answer
