"""The last look at the target of a destructive command, when it is about to leave: minutes, or months, after it was queued."""

from datetime import datetime, timedelta

from ostiary.domain.command import LiveCommand
from ostiary.domain.contest import contends
from ostiary.domain.decision import Snapshot
from ostiary.domain.destructive_cap import is_destructive
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.platform import machine_of
from ostiary.domain.suitability import require_suitable
from ostiary.errors import Conflicting, OstiaryError
from ostiary.values import dataclass

_NEVER = timedelta(0)


class TargetNotLookedAt(Conflicting):
    """A destructive command is about to leave, and its target has to be looked at first."""

    def __init__(self, device: Enrollment, command: LiveCommand) -> None:
        super().__init__(enrollment_id=device.id)
        self.device = device
        self.command = command


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found out for the last look; the snapshot beside it shows contests and reported facts."""

    expires_after: timedelta = _NEVER
    """A destructive command older than this does not leave any more; zero: whatever its age."""
    no_profile: str | None = None
    """Why no enrollment profile could be made for a device that is to come back with one."""


def why_not_now(
    seen: Snapshot, channel: Enrollment, command: LiveCommand, look: Look | None, now: datetime
) -> str | None:
    """Why a destructive command must not leave any more; None if it may, as all others always may.

    Raises:
        TargetNotLookedAt: it is destructive, and nobody has looked. The decision is to be asked again with a look.
    """
    if not is_destructive(command.request_type, command.references):
        return None
    device = seen.device or channel
    if look is None:
        raise TargetNotLookedAt(device, command)
    if look.expires_after > _NEVER and now - command.queued_at > look.expires_after:
        return f"it has waited since {command.queued_at:%Y-%m-%d %H:%M} UTC, longer than is allowed"
    if device.standing is not Standing.CURRENT or any(
        contends(row) for row in seen.relationships if row.key != device.key
    ):
        return "another certificate contests this enrollment, and which of the two is the device meant is not settled"
    if _is_another_enrollment(device, command, now):
        return "the device enrolled anew after it was queued"
    try:
        require_suitable(channel, device, command.request_type, seen.facts)
    except OstiaryError as error:
        return str(error)
    if look.no_profile is not None and comes_back_by_profile(seen, device, command):
        return f"no enrollment profile can be made for its return: {look.no_profile}"
    return None


def comes_back_by_profile(seen: Snapshot, device: Enrollment, command: LiveCommand) -> bool:
    """Whether an enrollment profile is to be made for this command: the device is not known to come back by itself. (ER-05)"""
    is_wanted = any(reference.is_minted for reference in command.references)
    return is_wanted and machine_of(device, seen.facts).automated is not True


def _is_another_enrollment(device: Enrollment, command: LiveCommand, now: datetime) -> bool:
    """Whether this relationship began after the command was queued. A renewal of the identity begins none.

    What was noted before the clock was set back says nothing.
    """
    began = device.authenticated_at
    is_new = device.enrolled_at is None or device.enrolled_at >= began
    return is_new and command.queued_at < began <= now
