"""Lights-out management: a Mac that tells where it can be woken, and a Mac that wakes others.

Source: escrowed-secrets.md 4.11.
"""

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim.outcomes import CommandFailed, CommandMalformed, Outcome

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

Command = Mapping[str, Any]

_PAYLOAD: Final = "com.apple.lom"
_PROTOCOL: Final = 1
_REQUESTS: Final = ("PowerON", "PowerOFF", "Reset")
_NEEDED: Final = ("DeviceDNSName", "PrimaryIPv6AddressList")
_SECONDARY: Final = "SecondaryIPv6AddressList"
_HEXTETS: Final = 4


class LightsOut:
    """The network addresses under which one Mac can be reached while it is off."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.primary: list[str] = []
        self.secondary: list[str] = []
        self.refresh()

    def refresh(self) -> None:
        """Take other link-local addresses, as a restart may."""
        self.primary, self.secondary = [self._draw()], [self._draw()]

    def _draw(self) -> str:
        hextets = (f"{self._rng.randrange(1, 1 << 16):x}" for _ in range(_HEXTETS))
        return "fe80::" + ":".join(hextets)


async def setup_request(device: "Device", channel: "Channel", _command: Command) -> Outcome:
    """Tell where this Mac can be reached."""
    if not device.personality.lights_out:
        raise CommandFailed("This Mac does not support lights-out management.")
    _check_profile(device, channel, "DeviceCertificateUUID")
    return Outcome(
        keys={
            "PrimaryIPv6AddressList": device.lights_out.primary,
            "SecondaryIPv6AddressList": device.lights_out.secondary,
            "LOMProtocolVersion": _PROTOCOL,
        }
    )


async def device_request(device: "Device", channel: "Channel", command: Command) -> Outcome:
    """Act as the controller: one answer for each item, though one may fail beside others."""
    _check_profile(device, channel, "ControllerCertificateUUID")
    wanted = command.get("RequestList")
    if not isinstance(wanted, list) or not all(isinstance(each, dict) for each in wanted):
        raise CommandMalformed("RequestList is missing")
    return Outcome(keys={"ResponseList": [_answer(device, each) for each in wanted]})


def _answer(device: "Device", item: Mapping[str, Any]) -> dict[str, object]:
    problem = _problem_with(device, item)
    answer: dict[str, object] = {
        "DeviceRequestSuccess": problem is None,
        "DeviceRequestUUID": item.get("DeviceRequestUUID", ""),
    }
    if problem is not None:
        answer["DeviceRequestReturnError"] = problem
    return answer


def _problem_with(device: "Device", item: Mapping[str, Any]) -> str | None:
    if item.get("DeviceRequestType") not in _REQUESTS:
        return "The request type is not known."
    if not all(item.get(key) for key in _NEEDED) or _SECONDARY not in item:
        return "The device cannot be addressed."
    if item.get("LOMProtocolVersion") != _PROTOCOL:
        return "The protocol version is not supported."
    return device.levers.lights_out_failures.get(str(item["DeviceDNSName"]))


def _check_profile(device: "Device", channel: "Channel", part: str) -> None:
    for (where, _), top in device.other_profiles.items():
        for payload in top.get("PayloadContent", []):
            if where == channel.name and payload.get("PayloadType") == _PAYLOAD and part in payload:
                return
    raise CommandFailed(f"No profile for lights-out management with {part} is installed.")
