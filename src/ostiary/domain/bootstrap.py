"""The bootstrap token's life: set, taken back, fetched. (escrowed-secrets.md 4.2, the state machine)"""

from dataclasses import replace
from datetime import datetime

from ostiary.domain.answer import Accepted, EscrowedToken, Goodbye
from ostiary.domain.decision import Change, Snapshot
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.ledger import SealedToken, succeed
from ostiary.domain.pairing import EnrollmentIsOut, require_paired, rolled_back
from ostiary.domain.token import TokenState, TokenStep
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import Unavailable
from ostiary.protocol.mdm.checkin import NotOnThisChannel
from ostiary.protocol.mdm.identity import Channel


class EscrowedTokenGone(Unavailable):
    """The enrollment holds a bootstrap token whose record is not in the ledger."""

    hint = "The database was damaged or restored in part; restore it whole. The device was not told that there is none."


SetAnswer = Accepted | Goodbye
GetAnswer = EscrowedToken | Goodbye


def apply_set(
    seen: Snapshot,
    channel: Channel | None,
    token: SealedToken | None,
    identity: DeviceIdentity,
    now: datetime,
) -> Change[SetAnswer]:
    """Hold the token, or let it go if the device takes it back (`token` None).

    Accepted before the first TokenUpdate too (row 14). A value that came again moves only the time (row 2).
    """
    device = _device(seen, channel, identity)
    if isinstance(device, Goodbye):
        return Change(at=now, answer=device)
    base = rolled_back(seen, device)
    if token is None:
        return _remove(base, now, changed=base is not device)
    held = succeed(base, token, identity, now, source="SetBootstrapToken")
    row = replace(base, bootstrap=held.pointer)
    return Change(
        at=now, answer=Accepted(), rows=(row,), steps=held.steps, records=held.records, seen=row.key
    )


def _remove(base: Enrollment, now: datetime, *, changed: bool) -> Change[SetAnswer]:
    """Row 3: the value goes to history with its reason."""
    if base.bootstrap is None:
        return Change(at=now, answer=Accepted(), rows=(base,) if changed else (), seen=base.key)
    gone = TokenStep(
        record_id=base.bootstrap.record_id, state=TokenState.RETIRED, cause="removed by the device"
    )
    row = replace(base, bootstrap=None)
    return Change(at=now, answer=Accepted(), rows=(row,), steps=(gone,), seen=row.key)


def apply_get(
    seen: Snapshot, channel: Channel | None, identity: DeviceIdentity, now: datetime
) -> Change[GetAnswer]:
    """Show the record that this relationship holds, or that it holds none; never another relationship's.

    Whoever opens the record must let a failure rise: it is not "none". (row 8, BT-13)
    """
    device = _device(seen, channel, identity)
    if isinstance(device, Goodbye):
        return Change(at=now, answer=device)
    base = rolled_back(seen, device)
    if device.bootstrap is not None and seen.token is None:
        raise EscrowedTokenGone(enrollment_id=device.id)
    held = seen.token if device.bootstrap is not None else None
    return Change(
        at=now,
        answer=EscrowedToken(held),
        rows=(base,) if base is not device else (),
        seen=device.key,
    )


def _device(
    seen: Snapshot, channel: Channel | None, identity: DeviceIdentity
) -> Enrollment | Goodbye:
    device = require_paired(seen, identity, channel)
    if isinstance(device, Goodbye):
        return device
    if device.type.is_user_enrollment:
        raise NotOnThisChannel(message="bootstrap token")
    if device.state is State.OUT:
        raise EnrollmentIsOut(enrollment_id=device.id)
    return device
