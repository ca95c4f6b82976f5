"""What is really in force on a device, to be compared with what a server believes.

Source: escrowed-secrets.md 4.0.1.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from ostiary_sim.device import Device


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Truth:
    """Every secret of one device at one moment; None: there is none. Its repr tells which there are, never what."""

    unlock_token: bytes | None
    """Clears the passcode; None also once it is dead."""
    passcode_set: bool
    bootstrap_token: bytes | None
    recovery_key: str | None
    """FileVault's personal recovery key."""
    recovery_lock: str | None
    firmware_password: str | None
    """In force now, not from the next restart on."""
    firmware_password_after_restart: str | None
    lock_pin: str | None
    """Opens the Mac that is locked now."""
    bypass_code: str | None
    """The device-made code, as the device would tell it while it is young."""
    activation_lock_opens_by: Callable[[str, str], bool] | None
    """Says whether (account, password) opens the Activation Lock in force; an empty account means a code."""
    admin_guid: str | None
    is_admin_password: Callable[[str], bool]
    """Says whether the account made by the server takes this password; false if there is none."""

    @override
    def __repr__(self) -> str:
        told = ", ".join(
            f"{each.name}={'None' if getattr(self, each.name) is None else '***'}"
            for each in fields(self)
        )
        return f"Truth({told})"


def truth_of(device: "Device") -> Truth:
    """The secrets of this device, now; see `Device.truth`."""
    firmware, lock = device.firmware, device.activation_lock.in_force
    admin = device.auto_admin
    return Truth(
        unlock_token=None if device.unlock_token_dead else device.unlock_token,
        passcode_set=device.passcode_set,
        bootstrap_token=device.bootstrap.token,
        recovery_key=device.volume.recovery_key,
        recovery_lock=device.recovery_lock.password,
        firmware_password=firmware.password,
        firmware_password_after_restart=(
            firmware.next_password if firmware.change_pending else firmware.password
        ),
        lock_pin=device.lock_screen.pin,
        bypass_code=device.activation_lock.code,
        activation_lock_opens_by=None if lock is None else lock.opens_by,
        admin_guid=None if admin.user is None else admin.user.guid,
        is_admin_password=admin.is_password,
    )
