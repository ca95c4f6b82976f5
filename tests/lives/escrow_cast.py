"""Who plays in a life of secrets, and what several acts begin with."""

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from lives.escrow_station import Station
from ostiary.domain.enrollment import Bound
from ostiary.domain.operator import NothingToAccept
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary_sim.causes import Cause, play
from ostiary_sim.device import Device
from ostiary_sim.personality import Platform
from scenes.house import OPERATOR

ANYBODY: Final = Bound()


LET_IN: Final = 0.75
"""So often a person settles for a device that came anew; else both stand side by side."""


@dataclass
class Cast:
    """Who plays in one life."""

    station: Station
    device: Device
    double: Device | None
    choose: random.Random
    """Every choice of this life comes from here."""

    @property
    def id(self) -> EnrollmentId:
        return EnrollmentId(self.device.udid)

    @property
    def is_mac(self) -> bool:
        return self.device.personality.platform is Platform.MACOS

    async def profile(self) -> bytes:
        """An enrollment profile for the device, behind a new invitation."""
        house = await self.station.house()
        _, code = await house.invitations.invite(
            DEFAULT_TENANT, ANYBODY, valid_for=timedelta(hours=1), uses=1, actor="life"
        )
        return await house.enrollment.profile_for(code)


Do = Callable[[Cast], Awaitable[object]]


@dataclass(frozen=True)
class Act:
    """Something that may happen, and how often among others."""

    name: str
    do: Do
    weight: int = 1
    mac: bool = False
    """For Macs alone."""


CHANGED: Final = (
    TokenKind.RECOVERY_LOCK,
    TokenKind.FIRMWARE_PASSWORD,
    TokenKind.ADMIN_PASSWORD,
    TokenKind.FILEVAULT_KEY,
    TokenKind.BYPASS_DEVICE,
)


def own_kinds(cast: Cast) -> Sequence[TokenKind]:
    """Mostly what this device can have."""
    if not cast.is_mac:
        return (TokenKind.BYPASS_DEVICE,)
    other = (
        TokenKind.FIRMWARE_PASSWORD
        if cast.device.personality.apple_silicon
        else TokenKind.RECOVERY_LOCK
    )
    return tuple(kind for kind in CHANGED if kind is not other)


async def enqueue(cast: Cast, request_type: str, **keys: Any) -> str:
    house = await cast.station.house()
    command = {"RequestType": request_type, **keys}
    done = await house.desk.enqueue([cast.id], command, OPERATOR)
    (refused,) = done.refused.values()
    return f"{request_type}: {refused or 'queued'}"


async def come_anew(cast: Cast, cause: Cause) -> None:
    """It happens, and mostly a person who knows of it lets the newcomer in, if it is one."""
    await play(cause, cast.device, await cast.profile())
    if cast.choose.random() < LET_IN:
        house = await cast.station.house()
        with suppress(NothingToAccept):
            await house.devices.accept_certificate(
                DEFAULT_TENANT, cast.id, None, actor="life", reason="life"
            )
