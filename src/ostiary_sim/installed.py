"""What a device keeps of its enrollment, and what a backup keeps of it."""

from dataclasses import dataclass, field

from ostiary_sim.identity import Identity
from ostiary_sim.profile import EnrollmentProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The enrollment profile a device lives under, and the identity it got with it."""

    profile: EnrollmentProfile
    identity: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup brings back, on the device it was taken from."""

    udid: str
    installed: Installed
    enrollment_id: str
    push_magic: str = field(repr=False)
    unlock_token: bytes | None = field(repr=False)
    bypass_code: str | None = field(repr=False)
