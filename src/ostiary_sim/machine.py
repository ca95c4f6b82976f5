"""What a device is and holds by itself, before any server: names, disk, accounts, locks and their secrets.

Source: escrowed-secrets.md 4 (the paragraphs on the simulated device).
"""

import random
from typing import Any

from ostiary_sim.activation_lock import ActivationLock
from ostiary_sim.auto_admin import AutoAdmin
from ostiary_sim.channel_name import DEVICE
from ostiary_sim.clock import Clock
from ostiary_sim.errors import NotPossible
from ostiary_sim.events import Event, Listener
from ostiary_sim.firmware import Firmware
from ostiary_sim.levers import Levers
from ostiary_sim.lights_out import LightsOut
from ostiary_sim.lock_screen import LockScreen
from ostiary_sim.mac_secrets import RecoveryLock, Volume
from ostiary_sim.personality import Personality, draw_names
from ostiary_sim.users import User


class Machine:
    """One piece of hardware with a system on it; `Device` adds the conversation with a server.

    Args:
        personality: which kind.
        clock: aware UTC.
        listener: hears every `Event`.
        seed: equal seeds give equal machines.
        udid: this name instead of a drawn one.
        serial: the same.
    """

    def __init__(
        self,
        personality: Personality,
        *,
        clock: Clock,
        listener: Listener | None,
        seed: int | None,
        udid: str | None,
        serial: str | None,
    ) -> None:
        self.personality = personality
        self.clock = clock
        self.levers = Levers()
        self.rng = random.Random(seed)  # noqa: S311 (tokens of a toy; seeds must repeat)
        names = draw_names(personality, self.rng)
        self.udid = udid or names.udid
        self.serial = serial or names.serial
        self.imei = names.imei
        self.device_name = f"{personality.model_name} {self.serial[-4:]}"
        self.listener = listener
        self.firmware = Firmware()
        self.activation_lock = ActivationLock(self.rng)
        self.wipe()

    def wipe(self) -> None:
        """Be as new: what only an erasure ends is made again here, the firmware and Apple's memory stay."""
        self.passcode_set = True
        self.unlock_token: bytes | None = None
        self.unlock_token_dead = False
        self.awaiting = False
        self.setting_up = False
        """Configured, and still in Setup Assistant (by a lever)."""
        self.lock_screen = LockScreen()
        self.users: dict[str, User] = {}
        self.mdm_options: dict[str, Any] = {}
        self.other_profiles: dict[tuple[str, str], dict[str, Any]] = {}
        """Installed by command: (channel name, PayloadIdentifier) to the profile's top level."""
        self.declarative_channels: set[str] = set()
        self.auto_admin = AutoAdmin()
        self.lights_out = LightsOut(self.rng)
        self.volume = Volume(serial=self.serial)
        self.recovery_lock = RecoveryLock()

    def say(self, what: str, channel: str = DEVICE, detail: str = "") -> None:
        """Tell the listener that something happened."""
        if self.listener is not None:
            event = Event(
                at=self.clock(), serial=self.serial, channel=channel, what=what, detail=detail
            )
            self.listener(event)

    @property
    def in_setup_assistant(self) -> bool:
        """Say whether nobody can use the device yet."""
        return self.awaiting or self.setting_up

    # What a person does at it

    def finish_setup(self) -> None:
        """Finish Setup Assistant, after DeviceConfigured.

        Raises:
            NotPossible: the device still awaits configuration.
        """
        if self.awaiting:
            raise NotPossible("the device awaits DeviceConfigured")
        self.setting_up = False
        self.say("setup_assistant_left")

    async def restart(self) -> None:
        """Start again: a pending firmware password comes in force, addresses change."""
        self.firmware.restart()
        self.lights_out.refresh()
        self.say("restarted")

    def turn_on_filevault(self) -> str:
        """Encrypt the disk; gives the recovery key as the screen would show it."""
        key = self.volume.encrypt(
            self.rng,
            self.other_profiles.values(),
            self.levers.envelope_cipher,
            by_key_identifier=self.levers.envelope_by_key_identifier,
        )
        self.say("filevault_on", detail="escrowed" if self.volume.escrowed else "not escrowed")
        return key

    def turn_on_find_my(self, account: str, password: str) -> bool:
        """Sign in and turn Find My on; says whether this person's Activation Lock is now in force.

        On a supervised device only if MDMOptions allow it, and if no other lock came first.
        """
        lock, told = self.activation_lock, self.personality
        if self.levers.find_my_renews_bypass_code:
            lock.renew_code()
        self.say("find_my_on")
        allowed = self.mdm_options.get("ActivationLockAllowedWhileSupervised") is True
        if (told.supervised and not allowed) or not told.can_be_activation_locked:
            return False
        return lock.lock_by_user(account, password)
