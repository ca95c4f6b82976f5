"""Activation Lock as a device knows it: its own code, the lock in force, and the screen that asks for a way past.

Source: activation-lock.md 5, 6, 10 (Device side); escrowed-secrets.md 4.9.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim.bypass_code import RAW_BYTES, decode_bypass_code, encode_bypass_code, escrow_hash
from ostiary_sim.levers import LateBypassCode
from ostiary_sim.outcomes import CommandFailed, Outcome
from ostiary_sim.personality import UserChannels

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

_OFFERED_FOR: Final = timedelta(days=15)


class LockedBy(Enum):
    """Who began the lock in force."""

    USER = "a person who turned Find My on"
    ORGANIZATION = "a server, at Apple"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInForce:
    """What Apple's activation service holds about this device, and what opens it."""

    by: LockedBy
    code_hash: str | None = field(repr=False)
    """Of the bypass code that opens it, as a server's escrow key; None: no code does."""
    account: str = ""
    password: str = field(default="", repr=False)

    def opens_by(self, account: str, password: str) -> bool:
        """Say whether this account and password open it; an empty account means that a code was typed."""
        if account:
            return (account, password) == (self.account, self.password)
        raw = decode_bypass_code(password)
        return raw is not None and self.code_hash is not None and escrow_hash(raw) == self.code_hash


class ActivationLock:
    """One device's own code and the lock that stands between an erased device and its use."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.code: str | None = self._draw()
        """Made by the device; None: wiped by ClearActivationLockBypassCode."""
        self.supervised_at: datetime | None = None
        """From then on the code is offered for 15 days; None: before the first enrollment."""
        self.in_force: LockInForce | None = None
        self.stands_in_setup = False
        """The device was erased under the lock: nothing goes on in Setup Assistant before it is opened."""

    def renew_code(self) -> None:
        """Make another code. A lock in force keeps the one it was made with."""
        self.code = self._draw()

    def erased(self) -> None:
        """The device was erased: another code, another supervision, and the lock stays."""
        self.renew_code()
        self.supervised_at = None
        self.stands_in_setup = self.in_force is not None

    def lock_by_organization(
        self, code_hash: str | None, *, account: str = "", password: str = ""
    ) -> bool:
        """A server has Apple lock the device; false if another lock was first.

        Args:
            code_hash: the escrow key; None binds the device to a person alone.
            account: of the person who made the server's token.
            password: that person's.
        """
        if self.in_force is not None:
            return False
        code_hash = None if code_hash is None else code_hash.lower()
        self.in_force = LockInForce(
            by=LockedBy.ORGANIZATION, code_hash=code_hash, account=account, password=password
        )
        return True

    def lock_by_user(self, account: str, password: str) -> bool:
        """A person's Find My locks the device; false if another lock was first."""
        if self.in_force is not None:
            return False
        raw = None if self.code is None else decode_bypass_code(self.code)
        self.in_force = LockInForce(
            by=LockedBy.USER,
            code_hash=None if raw is None else escrow_hash(raw),
            account=account,
            password=password,
        )
        return True

    def unlock(self, account: str, password: str) -> bool:
        """Try a way past the screen in Setup Assistant; an empty account means that a code is typed."""
        if self.in_force is not None and not self.in_force.opens_by(account, password):
            return False
        self.release()
        return True

    def release(self) -> None:
        """Take the lock away, as Apple does when it is asked by call or in the portal."""
        self.in_force, self.stands_in_setup = None, False

    def offered_at(self, now: datetime) -> bool:
        """Say whether the device still tells its code."""
        return self.supervised_at is not None and now - self.supervised_at <= _OFFERED_FOR

    def _draw(self) -> str:
        return encode_bypass_code(self._rng.randbytes(RAW_BYTES))


async def bypass_code(
    device: "Device", _channel: "Channel", _command: Mapping[str, Any]
) -> Outcome:
    """Tell the device's own code, while it is young."""
    lock = _lock_of(device)
    if not lock.offered_at(device.clock()):
        if device.levers.late_bypass_code is LateBypassCode.EMPTY:
            return Outcome(keys={"ActivationLockBypassCode": ""})
        raise CommandFailed("The bypass code is not available any more.")
    if lock.code is None:
        lock.renew_code()  # our reading of "clear, then fetch anew": what comes is another one
    return Outcome(keys={"ActivationLockBypassCode": lock.code})


async def clear_bypass_code(
    device: "Device", _channel: "Channel", _command: Mapping[str, Any]
) -> Outcome:
    """Wipe the code on the device."""
    _lock_of(device).code = None
    return Outcome()


def _lock_of(device: "Device") -> ActivationLock:
    if not device.personality.supervised:
        raise CommandFailed("The device is not supervised.")
    if device.personality.user_channels is UserChannels.SHARED_IPAD:
        raise CommandFailed("A Shared iPad has no bypass code.")
    return device.activation_lock
