"""Return to Service: a device that is erased and comes back by itself, with its apps if it may keep them.

Source: escrowed-secrets.md 4.7; check-in-and-commands.md 1.3.8.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim.errors import MessageUnreadable, NotPossible, SimulationFailed
from ostiary_sim.levers import Reluctance
from ostiary_sim.outcomes import CommandFailed, CommandMalformed
from ostiary_sim.personality import Platform

if TYPE_CHECKING:
    from ostiary_sim.device import Device

_ORDERED_SINCE: Final[Mapping[Platform, tuple[int, ...]]] = {
    Platform.IOS: (17,),
    Platform.TVOS: (18,),
    Platform.VISIONOS: (26,),
}
_APPS_SINCE: Final[Mapping[Platform, tuple[int, ...]]] = {
    Platform.IOS: (26,),
    Platform.VISIONOS: (26,),
}
_KEY: Final = "ReturnToService"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOrder:
    """What a server sends along, so that the device finds back."""

    profile: bytes | None = field(repr=False)
    """The enrollment profile; None: as Automated Device Enrollment does."""
    wifi: bytes | None = field(repr=False)
    bootstrap_token: bytes | None = field(repr=False)
    """Keeps the apps, if it is the device's own."""


def read_order(device: "Device", fields: Mapping[str, Any]) -> ServiceOrder | None:
    """The order inside a command or an answer; None: there is none, or it says no.

    Raises:
        CommandMalformed: not what the schema says.
        CommandFailed: this device does not know Return to Service.
    """
    wanted = fields.get(_KEY)
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or not isinstance(wanted.get("Enabled"), bool):
        raise CommandMalformed("ReturnToService needs Enabled")
    if not wanted["Enabled"]:
        return None
    since = _ORDERED_SINCE.get(device.personality.platform)
    if since is None or device.personality.version < since:
        raise CommandFailed("Return to Service is not available on this device.")
    parts = [wanted.get(each) for each in ("MDMProfileData", "WiFiProfileData", "BootstrapToken")]
    if any(each is not None and not isinstance(each, bytes) for each in parts):
        raise CommandMalformed("the parts of ReturnToService are data")
    profile, wifi, token = parts
    return ServiceOrder(profile=profile or None, wifi=wifi or None, bootstrap_token=token or None)


class ReturnToService:
    """What one device knows of coming back."""

    def __init__(self, device: "Device") -> None:
        self._device = device
        self.mode = False
        """Its ADE profile says `is_return_to_service`: the device escrows a bootstrap token and may ask to return."""
        self.enroll_url: str | None = None
        """Where Automated Device Enrollment leads this device; None: it is assigned to no server."""
        self.apps: set[str] = set()
        """Installed apps, for a tester to fill; an erasure takes them unless the right token came along."""
        self.has_escrowed = False
        """A bootstrap token of this device has met a 2xx before, in this life or an earlier one."""
        self._snapshot_due = False

    @property
    def keeps_apps(self) -> bool:
        """Say whether this device can keep apps: then it has a bootstrap token, too."""
        told = self._device.personality
        since = _APPS_SINCE.get(told.platform)
        if since is None or told.version < since:
            return False
        return self.mode and told.supervised and told.automated

    async def request(self) -> bool:
        """A person, or the idle timer, asks to return: false if the server does not want it.

        Raises:
            NotPossible: the device is not in that mode.
        """
        device = self._device
        if not self.keeps_apps:
            raise NotPossible("only a device in the return-to-service mode asks for it")
        answer = await device.ask(_KEY)
        try:
            order = read_order(device, answer.fields()) if answer.ok and answer.body else None
        except (MessageUnreadable, CommandFailed) as problem:
            device.say("return_to_service_unreadable", detail=str(problem))
            return False
        if order is None:
            device.say("return_to_service_declined", detail=str(answer.status))
            return False
        await self.begin(order)
        return True

    async def begin(self, order: ServiceOrder) -> None:
        """Erase, and enroll again; whatever stands in the way is an event, and the device stays where it is."""
        device = self._device
        token = device.bootstrap.token
        keeps_apps = self.keeps_apps and token is not None and order.bootstrap_token == token
        apps = self.apps if keeps_apps else set()
        await device.erase()
        self.apps = apps
        if keeps_apps:
            device.bootstrap.token = token
        try:
            await self._enroll_again(order, awaits=keeps_apps)
        except SimulationFailed as problem:
            device.say("return_to_service_stopped", detail=str(problem))
            return
        self._snapshot_due = keeps_apps
        device.say("returned_to_service", detail="with its apps" if keeps_apps else "empty")

    async def _enroll_again(self, order: ServiceOrder, *, awaits: bool) -> None:
        device = self._device
        if device.levers.only_wifi and order.wifi is None:
            raise NotPossible("there is no network without WiFiProfileData")
        document = order.profile
        if document is None:
            if not device.personality.automated or self.enroll_url is None:
                raise NotPossible("no MDMProfileData, and not assigned to a server")
            document = await device.fetch_profile(self.enroll_url)
        usual = device.awaits_when_enrolled
        device.awaits_when_enrolled = usual or awaits
        try:
            await device.enroll(document)
        finally:
            device.awaits_when_enrolled = usual

    def configured(self) -> None:
        """DeviceConfigured was acknowledged: a device that kept its apps takes a snapshot, and puts off the rest."""
        device = self._device
        if self._snapshot_due:
            self._snapshot_due = False
            until = device.clock() + device.levers.snapshot_takes
            device.levers.reluctances.append(Reluctance(request_types=None, until=until))
