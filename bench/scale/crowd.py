"""The fleet: half Macs, half iPhones, each with what it will say signed before it is said."""

import os
import plistlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from bench import messages
from bench.fleet import Device, Draft, Fleet
from bench.wire import Exchange

_PUSH_TOKEN = struct.Struct(">Q24s")
_MAC = {"Model": "MBP", "ModelName": "MacBook Pro", "ProductName": "Mac15,3"}


@dataclass(slots=True)
class Member:
    """One device of the crowd."""

    number: int
    device: Device
    idle: Exchange | None = None
    """Its poll: the same bytes each time, as a Mac's are."""
    done: set[str] = field(default_factory=set)
    """The commands that it acknowledged."""

    @property
    def is_mac(self) -> bool:
        return self.number % 2 == 0


def make_members(fleet: Fleet, first: int, count: int) -> list[Member]:
    """`count` new devices, numbered from `first`."""
    return [
        Member(number=number, device=replace(device, has_attributes=number % 2 == 1))
        for number, device in enumerate(fleet.make_devices(count), first)
    ]


def push_token(member: Member) -> bytes:
    """32 bytes, from which `number_of` reads who it is."""
    return _PUSH_TOKEN.pack(member.number, os.urandom(24))


def number_of(token: bytes) -> int:
    """Whose push token this is."""
    number: int = _PUSH_TOKEN.unpack(token)[0]
    return number


def enrolling(member: Member) -> list[Draft]:
    """Authenticate, TokenUpdate (an iPhone's with its unlock token), and a Mac's SetBootstrapToken."""
    device = member.device
    hello = messages.authenticate(device)
    update = messages.token_update(device, unlock=not member.is_mac)
    update.message["Token"] = push_token(member)
    if not member.is_mac:
        return [hello, update]
    hello.message.update(_MAC)
    secret = os.urandom(messages.BOOTSTRAP_TOKEN_BYTES)
    return [hello, update, messages.set_bootstrap_token(device, secret)]


def not_now(device: Device, uuid: str) -> Draft:
    """The report of a device that is busy, or locked. (check-in-and-commands.md 3.3)"""
    message: dict[str, object] = {"UDID": device.udid, "Status": "NotNow", "CommandUUID": uuid}
    return Draft(device, message, "NotNow")


def sign_grouped(fleet: Fleet, groups: Sequence[Sequence[Draft]]) -> Iterator[list[Exchange]]:
    """The signed messages of each group, in order."""
    signed = iter(fleet.sign([draft for group in groups for draft in group]))
    for group in groups:
        yield [next(signed) for _ in group]


def command_in(body: bytes) -> str | None:
    """The CommandUUID of the command that was handed out; None for an empty body."""
    return str(plistlib.loads(body)["CommandUUID"]) if body else None
