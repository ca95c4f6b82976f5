"""What devices report of themselves, beyond what every decision needs: a sheet for each kind of report."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from ostiary.domain.enrollment import EnrollmentKey
from ostiary.values import dataclass

Fact: TypeAlias = "bool | int | float | str | list[Fact] | dict[str, Fact] | None"


class SheetName(StrEnum):
    """Which report a sheet is from."""

    DEVICE = "device"
    """DeviceInformation."""
    SECURITY = "security"
    """SecurityInfo."""
    USERS = "users"
    """UserList."""
    LIGHTS_OUT = "lights-out"
    """LOMSetupRequest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactSheet:
    """The last report of one kind, read into plain JSON by the module that decodes it; never a secret in it."""

    enrollment_key: EnrollmentKey
    name: SheetName
    facts: Mapping[str, Fact]
    reported_at: datetime
