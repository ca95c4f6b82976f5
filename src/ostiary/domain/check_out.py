"""What a CheckOut means: the relationship ends, secrets stay in history and are served no more. (1.6, CI-26)"""

from dataclasses import replace
from datetime import datetime

from ostiary.domain.answer import Accepted, Goodbye
from ostiary.domain.contest import contends, join, newcomer_wins, taken_over
from ostiary.domain.decision import CancelCommands, Change, DisableUsers, Snapshot
from ostiary.domain.enrollment import Enrollment, Standing, State
from ostiary.domain.escrow_lifecycle import Cause, relationship_ended
from ostiary.domain.pairing import require_paired
from ostiary.domain.visitor import DeviceIdentity
from ostiary.protocol.mdm.checkin import CheckOut

CheckOutAnswer = Accepted | Goodbye


def apply_check_out(
    seen: Snapshot, message: CheckOut, identity: DeviceIdentity, now: datetime
) -> Change[CheckOutAnswer]:
    """End the relationship: no pushes, no commands, users out. An unknown enrollment is fine too. (CI-27)

    The tokens stay where they are, held and not served, because a restored backup may bring the
    device back without an Authenticate. (TU-15; escrowed-secrets.md 4.13)
    """
    if seen.binding is None and not seen.relationships:
        return Change(at=now, answer=Accepted())
    device = require_paired(seen, identity, message.channel)
    if isinstance(device, Goodbye):
        return Change(at=now, answer=device)
    if device.state is State.OUT:
        return Change(at=now, answer=Accepted())
    row = replace(device, state=State.OUT, awaiting=False, session=None)
    gone: Change[CheckOutAnswer] = Change(
        at=now,
        answer=Accepted(),
        rows=(row,),
        disable_users=(DisableUsers(device_key=row.key),),
        cancel=(
            CancelCommands(enrollment_key=row.key, users=True, cause="the device checked out"),
        ),
        drop_wakes=(row.key,),
        seen=row.key,
    )
    if device.standing is Standing.CURRENT:
        gone = relationship_ended(seen.escrows, device, Cause.CHECKED_OUT, now).into(gone)
    newcomer = _only_contender(seen, device)
    if newcomer is None:
        return gone
    won = newcomer_wins(row, newcomer, now, how="the other side checked out", proof=newcomer.proof)
    return replace(join(taken_over(seen, won, now), replace(gone, rows=())), seen=None)


def _only_contender(seen: Snapshot, device: Enrollment) -> Enrollment | None:
    """The one contested newcomer, if the current side leaves; among several, an operator must choose."""
    if device.standing is not Standing.CURRENT:
        return None
    contenders = [row for row in seen.relationships if contends(row)]
    return contenders[0] if len(contenders) == 1 else None
