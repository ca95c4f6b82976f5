"""The device's side of the bootstrap token: when it is escrowed, when it is asked for, what the Mac remembers.

Source: escrowed-secrets.md 4.2.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ostiary_sim import messages
from ostiary_sim.channel_name import DEVICE
from ostiary_sim.errors import MessageUnreadable, NotPossible
from ostiary_sim.levers import KEEP, Keep
from ostiary_sim.profile import BOOTSTRAP
from ostiary_sim.wire import NO_ANSWER, Answer

if TYPE_CHECKING:
    from ostiary_sim.device import Device

_CAPABILITY_SINCE: Final = (11,)
_FIRST: Final = (10, 15)
_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The answer to GetBootstrapToken."""

    status: int
    """HTTP status; 0: no answer."""
    token: bytes | None = field(default=None, repr=False)
    """None: the key was left out, or there was no readable answer."""


class BootstrapEscrow:
    """What one Mac knows about its bootstrap token."""

    def __init__(self, device: "Device") -> None:
        self._device = device
        self.token: bytes | None = None
        self.escrowed = False
        """The Mac's memory of a Set that met a 2xx; never cleared because the *server* forgot."""
        self._pending: tuple[bytes | None] | None = None

    @property
    def supported(self) -> bool:
        """Say whether the server announced, to this Mac, that it escrows bootstrap tokens."""
        device = self._device
        told = device.personality
        if device.profile is None or not told.supervised or told.user_enrollment:
            return False
        if device.return_to_service.keeps_apps:
            return BOOTSTRAP in device.profile.management.capabilities
        if not told.bootstrap_tokens or told.version < _FIRST:
            return False
        if told.version >= _CAPABILITY_SINCE:
            return BOOTSTRAP in device.profile.management.capabilities
        return told.automated and device.mdm_options.get("BootstrapTokenAllowed") is True

    @property
    def is_pending(self) -> bool:
        """Say whether a Set still waits for its 2xx."""
        return self._pending is not None

    async def escrow(self, value: bytes | Keep | None = KEEP) -> Answer:
        """Send SetBootstrapToken, repeated until 2xx, then kept pending.

        Args:
            value: KEEP sends the Mac's own token, made now if there is none; bytes become the Mac's
                token; `b""` (sent empty) and None (key left out) say that it was removed.
        """
        device = self._device
        if not device.personality.bootstrap_tokens and not device.return_to_service.keeps_apps:
            raise NotPossible("only Macs and devices in return-to-service mode escrow them")
        if isinstance(value, Keep):
            value = self.token or device.rng.randbytes(_TOKEN_BYTES)
        self.token = value or None
        self._pending = (value,)
        return await self.deliver_pending()

    async def after_enrollment(self) -> None:
        """In return-to-service mode, escrow at once: there is no login to wait for."""
        device = self._device
        not_again = device.levers.bootstrap_once and device.return_to_service.has_escrowed
        if device.return_to_service.keeps_apps and self.supported and not not_again:
            await self.escrow()

    async def deliver_pending(self) -> Answer:
        """Send the pending Set, if there is one, as often as the retry policy says."""
        device = self._device
        answer = Answer(status=NO_ANSWER)
        for delay in device.retry.delays():
            if self._pending is None or device.profile is None:
                break
            if delay:
                await device.sleeper(delay)
            (value,) = self._pending
            message = messages.bootstrap_token(device, "SetBootstrapToken", value)
            answer = await device.check_in(message | device.levers.extra_keys, DEVICE)
            if answer.ok:
                self._pending = None
                self.escrowed = bool(value)
                device.return_to_service.has_escrowed = True
                device.say("bootstrap_token_escrowed" if value else "bootstrap_token_withdrawn")
                break
            device.say("bootstrap_token_not_escrowed", DEVICE, str(answer.status))
        return answer

    async def fetch(self) -> Fetched:
        """Ask the server for the token (GetBootstrapToken). No answer stops nothing on the Mac."""
        device = self._device
        answer = await device.check_in(
            messages.bootstrap_token(device, "GetBootstrapToken", None) | device.levers.extra_keys,
            DEVICE,
        )
        if not answer.ok:
            device.say("bootstrap_token_unavailable", DEVICE, str(answer.status))
            return Fetched(status=answer.status)
        try:
            token = answer.fields().get("BootstrapToken")
        except MessageUnreadable:
            device.say("bootstrap_token_unreadable")
            return Fetched(status=answer.status)
        found = token if isinstance(token, bytes) else None
        device.say("bootstrap_token_fetched" if found else "bootstrap_token_absent")
        return Fetched(status=answer.status, token=found)

    async def authorizes(self) -> bool:
        """Fetch the token and say whether it is the Mac's own: then it can stand in for a user."""
        fetched = await self.fetch()
        if fetched.token and fetched.token == self.token:
            return True
        if fetched.token:
            self._device.say("bootstrap_token_wrong")
        return False

    def forget(self) -> None:
        """The relationship ended: what was escrowed to that server counts no more."""
        self.escrowed = False
        self._pending = None

    def status_lines(self) -> str:
        """What `profiles status -type bootstraptoken` prints."""
        words = {True: "YES", False: "NO"}
        return (
            f"profiles: Bootstrap Token supported on server: {words[self.supported]}\n"
            f"profiles: Bootstrap Token escrowed to server: {words[self.escrowed]}"
        )
