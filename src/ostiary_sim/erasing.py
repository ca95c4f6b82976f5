"""EraseDevice: what is answered and what happens are two things, and on a Mac the answer proves neither.

Source: escrowed-secrets.md 4.7.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim.lock_screen import read_pin
from ostiary_sim.outcomes import CommandFailed, CommandMalformed, Outcome, failed
from ostiary_sim.personality import Platform
from ostiary_sim.return_to_service import ServiceOrder, read_order

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

_EACS_SINCE: Final = (12,)
_SUCCESS: Final = "success"
_DEFAULT: Final = "Default"


class Erasure(Enum):
    """How a device lost everything."""

    CONTENT_AND_SETTINGS = "all content and settings erased"
    OBLITERATED = "obliterated: the system must be installed again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a Mac makes of ObliterationBehavior."""

    acknowledges: bool
    erasure: Erasure | None
    """None: nothing is erased."""


def decide(behaviour: str, *, preflight_passes: bool, eacs_works: bool) -> Decision:
    """The table of 4.7.

    Raises:
        CommandMalformed: no such behaviour.
    """
    by_eacs = Erasure.CONTENT_AND_SETTINGS if eacs_works else Erasure.OBLITERATED
    match behaviour:
        case "Always":
            return Decision(acknowledges=True, erasure=Erasure.OBLITERATED)
        case "DoNotObliterate":
            gently = Erasure.CONTENT_AND_SETTINGS if preflight_passes and eacs_works else None
            return Decision(acknowledges=preflight_passes, erasure=gently)
        case "ObliterateWithWarning":
            how = by_eacs if preflight_passes else Erasure.OBLITERATED
            return Decision(acknowledges=True, erasure=how)
        case "Default":
            how = by_eacs if preflight_passes else Erasure.OBLITERATED
            return Decision(acknowledges=preflight_passes, erasure=how)
        case _:
            raise CommandMalformed(f"ObliterationBehavior {behaviour} is not known")


async def preflight(device: "Device") -> str:
    """What EACSPreflight answers: the Mac asks for its bootstrap token back, and looks whether it is the one.

    A Mac that never escrowed one does not ask.
    """
    if device.levers.eacs_preflight is not None:
        return device.levers.eacs_preflight
    told = device.personality
    if not told.security_chip or told.version < _EACS_SINCE:
        return "not supported"
    if device.bootstrap.escrowed and await device.bootstrap.authorizes():
        return _SUCCESS
    return "unknown failure"


async def erase_device(
    device: "Device", _channel: "Channel", command: Mapping[str, Any]
) -> Outcome:
    """Say how it will go, once, and then do it, heard or not."""
    order = read_order(device, command)
    pin = _pin(device, command)
    decision = await _decision(device, command)
    unsaid = device.levers.erase_without_reply

    async def go() -> None:
        await _erase(device, decision.erasure, order, pin)

    if not decision.acknowledges:
        answer = failed(CommandFailed("Erase All Content and Settings is not possible."))
        return replace(answer, after=go, regardless=True, unsaid=unsaid)
    return Outcome(after=go, regardless=True, unsaid=unsaid)


async def _decision(device: "Device", command: Mapping[str, Any]) -> Decision:
    told = device.personality
    if told.platform is not Platform.MACOS:
        return Decision(acknowledges=True, erasure=Erasure.CONTENT_AND_SETTINGS)
    if not told.security_chip or told.version < _EACS_SINCE:
        return Decision(acknowledges=True, erasure=Erasure.OBLITERATED)
    behaviour = str(command.get("ObliterationBehavior", _DEFAULT))
    passes = behaviour == "Always" or await preflight(device) == _SUCCESS
    return decide(behaviour, preflight_passes=passes, eacs_works=not device.levers.eacs_fails)


def _pin(device: "Device", command: Mapping[str, Any]) -> str | None:
    """The PIN that locks a Mac after its erasure; a security chip makes it useless."""
    told = device.personality
    if told.platform is not Platform.MACOS:
        return None
    if not told.security_chip:
        return read_pin(command)
    if "PIN" in command:
        read_pin(command)  # accepted, and unused
    return None


async def _erase(
    device: "Device", erasure: Erasure | None, order: ServiceOrder | None, pin: str | None
) -> None:
    if device.levers.erase_cuts_network:
        device.levers.offline = True
    if erasure is None:
        device.say("not_erased")
        return
    if order is not None:
        await device.return_to_service.begin(order)
        return
    await device.erase(erasure)
    if pin is not None:
        device.lock_screen.lock(pin)
