"""The firmware password of an Intel Mac: it survives erasing, and changes only at a restart.

Source: escrowed-secrets.md 4.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim.outcomes import CommandFailed, CommandMalformed, Outcome

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

Command = Mapping[str, Any]

_PRINTABLE: Final = range(0x20, 0x7F)


@dataclass(slots=True, kw_only=True)
class Firmware:
    """The firmware of one Intel Mac."""

    password: str | None = field(default=None, repr=False)
    """In force; None: none."""
    allows_oroms: bool = False
    change_pending: bool = False
    next_password: str | None = field(default=None, repr=False)
    """In force from the next restart, while `change_pending` (None: cleared then)."""
    _next_allows_oroms: bool = False

    def change(self, current: object, new: object, *, allow_oroms: bool) -> None:
        """Prepare a change for the next restart; an empty `new` clears.

        Raises:
            CommandMalformed: no new password.
            CommandFailed: a change is pending already, `current` is not the password in force, or `new` has
                characters a keyboard without a system cannot give.
        """
        if not isinstance(new, str):
            raise CommandMalformed("NewPassword is missing")
        if self.change_pending:
            raise CommandFailed("A firmware password change is already pending.")
        if self.password is not None and current != self.password:
            raise CommandFailed("The current firmware password is not correct.")
        if any(ord(letter) not in _PRINTABLE for letter in new):
            raise CommandFailed("The firmware password has characters that are not allowed.")
        self.change_pending, self.next_password = True, new or None
        self._next_allows_oroms = allow_oroms

    def restart(self) -> None:
        """Put a pending change in force."""
        if self.change_pending:
            self.password, self.allows_oroms = self.next_password, self._next_allows_oroms
            self.change_pending, self.next_password = False, None

    def answers(self) -> dict[str, object]:
        """FirmwarePasswordStatus of SecurityInfo."""
        return {
            "PasswordExists": self.password is not None,
            "ChangePending": self.change_pending,
            "AllowOroms": self.allows_oroms,
        }


async def set_firmware_password(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    """Set, change or clear the password, from the next restart on."""
    _check_intel(device)
    if device.levers.firmware_not_changed:
        return Outcome(keys={"SetFirmwarePassword": {"PasswordChanged": False}})
    device.firmware.change(
        command.get("CurrentPassword"),
        command.get("NewPassword"),
        allow_oroms=command.get("AllowOroms") is True,
    )
    return Outcome(keys={"SetFirmwarePassword": {"PasswordChanged": True}})


async def verify_firmware_password(
    device: "Device", _channel: "Channel", command: Command
) -> Outcome:
    """Say whether the password is the one in force now, not the one after the next restart."""
    _check_intel(device)
    offered = command.get("Password")
    if not isinstance(offered, str):
        raise CommandMalformed("Password is missing")
    matches = device.firmware.password is not None and offered == device.firmware.password
    return Outcome(keys={"VerifyFirmwarePassword": {"PasswordVerified": matches}})


def _check_intel(device: "Device") -> None:
    if device.personality.apple_silicon:
        raise CommandFailed("Macs with Apple silicon have no firmware password.")
