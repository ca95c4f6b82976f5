"""A device in the return-to-service mode asks how to reset itself: what it is given, and whether it may.

Source: check-in-and-commands.md 1.3.8; case CI-39.
"""

from datetime import datetime

from ostiary.domain.answer import Goodbye
from ostiary.domain.bootstrap import apply_get
from ostiary.domain.decision import Change, Snapshot
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.pairing import require_enrolled, require_paired
from ostiary.domain.platform import machine_of
from ostiary.domain.token import TokenRecord
from ostiary.domain.visitor import DeviceIdentity
from ostiary.protocol.mdm.identity import Channel
from ostiary.values import dataclass


@dataclass(frozen=True, slots=True)
class ReturnDeclined:
    """Enabled false: the device stays as it is."""


@dataclass(frozen=True, slots=True)
class ReturnGranted:
    """The bootstrap token that keeps the apps, if one is held, and who needs a profile to come back with."""

    record: TokenRecord | None
    comes_by_profile: Enrollment | None


ReturnAnswer = ReturnDeclined | ReturnGranted | Goodbye


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnAsked:
    """The message, and whether policy lets devices reset themselves."""

    channel: Channel
    identity: DeviceIdentity
    allowed: bool
    now: datetime


def apply_return(
    seen: Snapshot, asked: ReturnAsked, *, reads_today: int = 1
) -> Change[ReturnAnswer]:
    """Grant it with the latest bootstrap token, which counts as a fetch of that token, expected or not.

    Whoever is only one side of a contest is told to stay as it is: nobody knows whose data would be lost.

    Raises:
        CertificateNotPaired, EnrollmentIsOut, EscrowedTokenGone
    """
    device = require_paired(seen, asked.identity, asked.channel)
    if isinstance(device, Goodbye):
        return Change(at=asked.now, answer=device)
    require_enrolled(device.state, device.id, enrolled=True)
    is_sure = device.standing is Standing.CURRENT and not device.type.is_user_enrollment
    if not asked.allowed or not is_sure:
        return Change(at=asked.now, answer=ReturnDeclined(), seen=device.key)
    got = apply_get(seen, asked.channel, asked.identity, asked.now, reads_today=reads_today)
    is_automated = machine_of(device, seen.facts).automated is True
    record = None if isinstance(got.answer, Goodbye) else got.answer.record
    return _answered(got, ReturnGranted(record, None if is_automated else device))


def _answered(got: Change[object], answer: ReturnAnswer) -> Change[ReturnAnswer]:
    return Change(
        at=got.at,
        answer=answer,
        rows=got.rows,
        proofs=got.proofs,
        alerts=got.alerts,
        seen=got.seen,
    )
