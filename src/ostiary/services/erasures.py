"""What became of a device's last erase, from its commands and what it said since."""

from collections.abc import Iterable

from ostiary.domain.enqueueing import ERASE_DEVICE
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.erasure import EraseCommand, Erasure, erasure_of
from ostiary.ports.reports import Reports

_LOOKED_THROUGH = 1_000


async def find_erasure(reports: Reports, device: Enrollment) -> Erasure | None:
    """The word for `device show` and `token escrow`; None where no erase is in sight."""
    if device.is_user_channel:
        return None
    found = await reports.list_commands(
        device.tenant, device.id, live_only=False, limit=_LOOKED_THROUGH
    )
    erases = [
        EraseCommand(
            queued_at=one.queued_at,
            sent_at=one.sent_at,
            closed_at=one.closed_at,
            hand_outs=one.hand_outs,
        )
        for one in found
        if one.request_type == ERASE_DEVICE
    ]
    handed_out = erasure_of(device, _last(one for one in erases if one.hand_outs))
    waiting = erasure_of(device, _last(one for one in erases if not one.hand_outs))
    # Another one in the queue says nothing of the one that may have been carried out.
    return handed_out if handed_out is Erasure.MAYBE else waiting or handed_out


def _last(erases: Iterable[EraseCommand]) -> EraseCommand | None:
    return max(erases, key=lambda one: one.queued_at, default=None)
