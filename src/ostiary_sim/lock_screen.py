"""DeviceLock, and the screen a person stands before afterwards.

Source: escrowed-secrets.md 4.6.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim.outcomes import CommandMalformed, Outcome
from ostiary_sim.personality import Platform, UserChannels
from ostiary_sim.users import User

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

Command = Mapping[str, Any]

_PIN_LETTERS: Final = 6
_PIN_ON_APPLE_SILICON_SINCE: Final = (11, 5)


@dataclass(slots=True, kw_only=True)
class LockScreen:
    """Whether the device is locked, and what opens it."""

    locked: bool = False
    pin: str | None = field(default=None, repr=False)
    """Opens a locked Mac; None: nothing but the device's own passcode stands in the way."""
    message: str | None = None
    phone_number: str | None = None
    deactivated: bool = False
    """Locked on Apple silicon before macOS 11.5: no PIN helps, an administrator must activate the Mac."""
    lost_mode: bool = False
    """Set by a tester: DeviceLock then answers DeviceInLostMode."""

    @property
    def is_silent(self) -> bool:
        """Say whether nothing leaves the device: a Mac that waits for its PIN has not started."""
        return self.locked and (self.pin is not None or self.deactivated)

    def lock(self, pin: str | None = None) -> None:
        """Lock now; with a PIN, the newest counts."""
        self.locked, self.pin = True, pin

    def type_pin(self, pin: str) -> bool:
        """A person types a PIN at a locked Mac; the right one lets the Mac start and speak again."""
        if not self.locked or self.pin is None or pin != self.pin:
            return False
        self.unlock()
        return True

    def activate(self, admin: User, password: str) -> bool:
        """An administrator with a SecureToken activates a deactivated Mac."""
        if not admin.secure_token or not admin.accepts(password):
            return False
        self.unlock()
        return True

    def unlock(self) -> None:
        """A person opens the device by its own passcode (and a tester anything)."""
        self.locked, self.deactivated = False, False
        self.pin, self.message, self.phone_number = None, None, None


async def device_lock(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    """Lock at once on an iPhone; a Mac restarts into its lock screen after one attempt to report."""
    told, screen, levers = device.personality, device.lock_screen, device.levers
    is_mac = told.platform is Platform.MACOS
    pin = read_pin(command) if is_mac else None
    keys: dict[str, object] = {}
    if told.user_channels is not UserChannels.SHARED_IPAD:  # there both are ignored
        screen.message, screen.phone_number = command.get("Message"), command.get("PhoneNumber")
        if screen.message is not None or screen.phone_number is not None:
            keys["MessageResult"] = _message_result(device, pin)
    if not is_mac:
        screen.lock()
        return Outcome(keys=keys)

    async def restart_locked() -> None:
        screen.deactivated = told.apple_silicon and told.version < _PIN_ON_APPLE_SILICON_SINCE
        screen.lock(None if screen.deactivated else pin)
        device.say("locked", detail="deactivated" if screen.deactivated else "")

    unsaid, levers.lock_loses_reply = levers.lock_loses_reply, False
    return Outcome(keys=keys, after=restart_locked, regardless=True, unsaid=unsaid)


def _message_result(device: "Device", pin: str | None) -> str:
    if device.levers.lock_message_result is not None:
        return device.levers.lock_message_result
    if device.lock_screen.lost_mode:
        return "DeviceInLostMode"
    return "Success" if device.passcode_set or pin is not None else "NoPasscodeSet"


def read_pin(command: Command) -> str:
    """The PIN of a command for a Mac.

    Raises:
        CommandMalformed: none, or not six characters.
    """
    pin = command.get("PIN")
    if not isinstance(pin, str) or len(pin) != _PIN_LETTERS:
        raise CommandMalformed("a Mac needs a PIN of six characters")
    return pin
