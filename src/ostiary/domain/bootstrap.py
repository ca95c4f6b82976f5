"""The bootstrap token's life: set, taken back, fetched. (escrowed-secrets.md 4.2, the state machine)"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain import alerts
from ostiary.domain.answer import Accepted, EscrowedToken, Goodbye
from ostiary.domain.decision import Alert, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.ledger import SealedToken, succeed
from ostiary.domain.pairing import EnrollmentIsOut, require_paired, rolled_back
from ostiary.domain.token import TokenProof, TokenRecord, TokenState, TokenStep
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import Unavailable
from ostiary.protocol.mdm.checkin import NotOnThisChannel
from ostiary.protocol.mdm.identity import Channel

CONTACT_WINDOW: Final = timedelta(days=1)
"""A device that asks has a reason, and is awake: it was heard of not long before. (design.md 5)"""
YOUNG_CERTIFICATE: Final = timedelta(minutes=15)
"""So new, and asking for a token that is older than itself, a certificate deserves a look. (users.md 1G, G6)"""
MANY_READS: Final = 50
"""In a day, of one certificate: more than users log in anew on one Mac."""
PROVEN_ONCE_IN: Final = timedelta(days=1)
"""A use is written down once in a while, so that most of them cost no write."""


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
    seen: Snapshot,
    channel: Channel | None,
    identity: DeviceIdentity,
    now: datetime,
    *,
    reads_today: int = 1,
) -> Change[GetAnswer]:
    """Show the record that this relationship holds, or that it holds none; never another relationship's.

    Whoever opens the record must let a failure rise: it is not "none". (row 8, BT-13)
    `reads_today` counts this certificate's requests, this one included, as far as they are known.
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
        answer=EscrowedToken(held, device.id),
        rows=(base,) if base is not device else (),
        proofs=_use(held, now),
        alerts=_unexpected(seen, device, reads_today, now) if held is not None else (),
        seen=device.key,
    )


def _use(held: TokenRecord | None, now: datetime) -> tuple[TokenProof, ...]:
    """That the device fetched it: whether it worked there, only a preflight tells."""
    if held is None:
        return ()
    if held.proven_at is not None and timedelta(0) <= now - held.proven_at < PROVEN_ONCE_IN:
        return ()
    return (TokenProof(record_id=held.id, proven_by="fetched by the device"),)


def _unexpected(
    seen: Snapshot, device: Enrollment, reads_today: int, now: datetime
) -> tuple[Alert, ...]:
    """What an operator is to look at. The signature over this message never changes: a logged one can be played again."""
    heard_at = device.last_seen_at or device.authenticated_at
    if now - heard_at > CONTACT_WINDOW:
        why = f"after silence since {heard_at:%Y-%m-%d %H:%M} UTC"
        return (alerts.bootstrap_read(device, why),)
    if reads_today > MANY_READS and reads_today % MANY_READS == 1:
        return (alerts.bootstrap_read(device, f"more than {reads_today - 1} times within a day"),)
    binding, pointer = seen.binding, device.bootstrap
    if binding is not None and pointer is not None:
        is_young = now - binding.bound_at < YOUNG_CERTIFICATE
        if is_young and pointer.arrived_at < binding.bound_at:
            why = "with a certificate that is only minutes old, and younger than the token"
            return (alerts.bootstrap_read(device, why),)
    return ()


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
