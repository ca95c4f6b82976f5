"""Lights-out management: a Mac tells where its start-up controller listens, and another Mac switches it on or off.

Source: escrowed-secrets.md 4.11. No secret travels in these; the identities are in the profile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ostiary.errors import Malformed, Refused
from ostiary.formats.fields import Fields
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.reported import (
    Fact,
    Facts,
    as_flag,
    as_list,
    as_number,
    as_text,
    dicts,
    kept_numbers,
    texts,
)

LOM_DEVICE_REQUEST: Final = "LOMDeviceRequest"
MOST_ADDRESSES: Final = 32
MOST_REQUESTS: Final = 1000

_PRIMARY: Final = "PrimaryIPv6AddressList"
_SECONDARY: Final = "SecondaryIPv6AddressList"
_VERSION: Final = "LOMProtocolVersion"


class LightsOutSetupUnknown(Refused):
    """The Mac to be switched has not told yet where its start-up controller listens."""

    hint = "`ostiary enqueue ID lom-setup-request` asks it; ask again after each restart, for its addresses change."


class NoLightsOutRequests(Malformed):
    """A lights-out command names between one and a thousand Macs."""

    hint = "Divide them among several commands."


class SwitchedByHand(Refused):
    """Which Macs a LOMDeviceRequest switches, and where they listen, is not for a property list to say."""

    hint = "`ostiary lights-out CONTROLLER off ID=DNSNAME…` sends what those Macs told, and counts each of them."


class UnusableDnsName(Malformed):
    """This is no DNS name; the one in the Mac's lights-out certificate is meant."""

    hint = "It stands in the certificate as a dNSName, for example `mac-12.lom.example.org`."


class Switch(StrEnum):
    """What is done to the Mac."""

    ON = "PowerON"
    OFF = "PowerOFF"
    RESET = "Reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class LightsOutSetup:
    """What a Mac answered to LOMSetupRequest."""

    primary: tuple[str, ...]
    secondary: tuple[str, ...]
    protocol_version: int

    @classmethod
    def read(cls, facts: Facts) -> "LightsOutSetup | None":
        """The answer in a sheet; None where it names no address or no version."""
        primary, secondary = (
            tuple(text for one in as_list(facts.get(key)) if (text := as_text(one)) is not None)
            for key in (_PRIMARY, _SECONDARY)
        )
        version = as_number(facts.get(_VERSION))
        if version is None or not (primary or secondary):
            return None
        return cls(primary=primary, secondary=secondary, protocol_version=version)


@dataclass(frozen=True, slots=True, kw_only=True)
class LightsOutRequest:
    """What is to be done to one Mac; `uuid` finds its line in the answer."""

    uuid: str
    switch: Switch
    dns_name: str
    setup: LightsOutSetup


@dataclass(frozen=True, slots=True, kw_only=True)
class LightsOutAnswer:
    """What became of one request; one Acknowledged may hold some that failed. (LO-02)"""

    uuid: str
    succeeded: bool
    trouble: str | None


def lom_setup_request() -> Command:
    """Ask a Mac where its start-up controller listens. (4.11)"""
    return {"RequestType": "LOMSetupRequest"}


def plan_lights_out(
    *, uuid: str, switch: Switch, dns_name: str, setup: LightsOutSetup | None
) -> LightsOutRequest:
    """One request for the controller.

    Raises:
        LightsOutSetupUnknown: the target was never asked, or never answered. (LO-01)
        UnusableDnsName
    """
    if setup is None:
        raise LightsOutSetupUnknown(dns_name=dns_name)
    if as_text(dns_name) is None or not dns_name.isprintable() or " " in dns_name:
        raise UnusableDnsName(field="DeviceDNSName")
    return LightsOutRequest(uuid=uuid, switch=switch, dns_name=dns_name, setup=setup)


def lom_device_request(requests: Sequence[LightsOutRequest]) -> Command:
    """Let a controller Mac switch others. Raises NoLightsOutRequests. (4.11)"""
    if not 0 < len(requests) <= MOST_REQUESTS:
        raise NoLightsOutRequests(requests=len(requests), most=MOST_REQUESTS)
    return {"RequestType": LOM_DEVICE_REQUEST, "RequestList": [_item(one) for one in requests]}


def decode_lights_out(result: Fields) -> dict[str, Fact]:
    """The facts of an answer to LOMSetupRequest, under Apple's keys."""
    said = result.as_mapping()
    facts = kept_numbers(said, (_VERSION,))
    for key in (_PRIMARY, _SECONDARY):
        if found := texts(said, key, MOST_ADDRESSES):
            facts[key] = found
    return facts


def decode_lom_answers(result: Fields) -> tuple[LightsOutAnswer, ...]:
    """What the controller says of each request; a line that does not say it worked did not."""
    lines, _ = dicts(result.as_mapping(), "ResponseList", MOST_REQUESTS)
    return tuple(
        LightsOutAnswer(
            uuid=uuid,
            succeeded=as_flag(line.get("DeviceRequestSuccess")) is True,
            trouble=as_text(line.get("DeviceRequestReturnError")),
        )
        for line in lines
        if (uuid := as_text(line.get("DeviceRequestUUID"))) is not None
    )


def _item(request: LightsOutRequest) -> dict[str, PlistValue]:
    return {
        "DeviceRequestType": request.switch.value,
        "DeviceRequestUUID": request.uuid,
        "DeviceDNSName": request.dns_name,
        _PRIMARY: list(request.setup.primary),
        _SECONDARY: list(request.setup.secondary),
        _VERSION: request.setup.protocol_version,
    }
