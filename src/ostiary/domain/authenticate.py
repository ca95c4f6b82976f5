"""What an Authenticate means: a first enrollment, a proven renewal, a new start, or a contest. (2.3, 2.4)"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain import alerts
from ostiary.domain.answer import Accepted, Goodbye, Refusal
from ostiary.domain.contest import asking, contends, join, turn_away
from ostiary.domain.decision import (
    CancelCommands,
    Change,
    DisableUsers,
    Snapshot,
    Supersede,
    Wake,
)
from ostiary.domain.enrollment import (
    Binding,
    Credential,
    Enrollment,
    EnrollmentKey,
    Proof,
    Purpose,
    Standing,
    State,
)
from ostiary.domain.escrow_lifecycle import Cause, relationship_ended
from ostiary.domain.ledger import identity_record, retire
from ostiary.domain.pairing import require_paired
from ostiary.domain.token import TokenKind
from ostiary.domain.visitor import DeviceIdentity
from ostiary.domain.wake import RENEWAL_QUIET
from ostiary.errors import Refused
from ostiary.protocol.mdm.checkin import Authenticate
from ostiary.values import dataclass

JUST_NOW: Final = timedelta(hours=1)
"""Between the issue of an identity and its first use; a device takes seconds."""
MOST_CONTENDERS: Final = 7
"""Newcomers that may contest one enrollment at a time; more are refused until an operator has looked."""


class TopicNotHeld(Refused):
    """No push certificate is held for the topic that the device names."""

    hint = "Import the push certificate of this topic with `ostiary apns import`."


class InvitedAnother(Refused):
    """The enrollment credential was issued for another device."""

    hint = "Invite this device by its own serial number; an identity renewed for one enrollment serves no other."


class EnrollmentWasReleased(Refused):
    """An operator released this device; only a credential issued for it since then enrolls it again."""

    hint = "Invite it with `ostiary enroll invite --serial`, if it is to come back."


class TooManyContenders(Refused):
    """Too many certificates claim this enrollment at once."""

    hint = "Look at `ostiary device show`, then accept one certificate, or keep the one in use with `ostiary device keep-certificate`."


AuthenticateAnswer = Accepted | Goodbye | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An Authenticate with everything the rule needs beside what storage shows."""

    message: Authenticate
    identity: DeviceIdentity
    key: EnrollmentKey
    """Fresh, for a relationship that begins."""
    now: datetime


def apply_authenticate(seen: Snapshot, arrival: Arrival) -> Change[AuthenticateAnswer]:
    """Bind the certificate and begin, renew, or contest a relationship.

    Nothing a device held before is offered to a certificate that did not prove itself, and a live
    relationship loses nothing to one. Source: check-in-and-commands.md 2.3, 2.4 rows 1, 3, 6, 9.

    Raises:
        CertificateNotPaired: the certificate is bound to another enrollment. (CI-46)
        InvitedAnother, EnrollmentWasReleased, TooManyContenders
    """
    message, identity, now = arrival.message, arrival.identity, arrival.now
    if seen.binding is not None:
        device = require_paired(seen, identity, message.channel)
        if isinstance(device, Goodbye):
            return Change(at=now, answer=device)
        if not seen.topic_is_held and device.topic != message.topic:
            return _refuse_topic(arrival)
        return _again(seen, device, arrival)
    if not seen.topic_is_held:
        return _refuse_topic(arrival)
    _require_invited(seen.credential, message)
    current = next((row for row in seen.relationships if row.standing is Standing.CURRENT), None)
    if not may_speak_of(seen.credential, current):
        raise InvitedAnother(enrollment_id=message.channel.device_id)
    if current is None:
        return _begin(seen, arrival, Standing.CURRENT)
    if proves_renewal(seen.credential, current) and current.state.is_served:
        return _renew(current, arrival)
    proven = _proves_device(seen.credential, current)
    accepted = current.accepted_fingerprint == identity.fingerprint
    if current.state is State.REVOKED:
        if not (proven and _is_new_invitation(seen.credential, current.released_at, now)):
            raise EnrollmentWasReleased(enrollment_id=current.id)
        return _take_over(seen, current, arrival, Proof.PROVEN)
    if proven or accepted:
        return _take_over(seen, current, arrival, Proof.PROVEN if proven else Proof.ACCEPTED)
    if _is_worth_protecting(current):
        if sum(contends(row) for row in seen.relationships) >= MOST_CONTENDERS:
            raise TooManyContenders(enrollment_id=current.id)
        begun = _begin(seen, arrival, Standing.CONTESTED)
        return replace(begun, wakes=asking(current, arrival.now))
    return _take_over(seen, current, arrival, Proof.FIRST_USE)


def _refuse_topic(arrival: Arrival) -> Change[AuthenticateAnswer]:
    topic = arrival.message.topic
    alert = alerts.topic_not_held(arrival.identity.tenant, topic)
    return Change(at=arrival.now, answer=Refusal(TopicNotHeld(topic=topic)), alerts=(alert,))


def _require_invited(credential: Credential | None, message: Authenticate) -> None:
    """A credential bound to one serial number does not enroll a device that says it has another."""
    if credential is None or credential.bound.serial_number is None:
        return
    said = message.facts.serial_number
    if said is not None and said != credential.bound.serial_number:
        raise InvitedAnother(enrollment_id=message.channel.device_id)


def may_speak_of(credential: Credential | None, current: Enrollment | None) -> bool:
    """Whether a credential may be used here at all: one minted for a relationship is good for that one only.

    A device mints renewals for itself whenever it likes. Were they good for anybody, one device could
    contest every other, and enroll others that nobody invited. (users.md 5.4 case 22)
    """
    key = credential.bound.enrollment_key if credential is not None else None
    return key is None or (current is not None and current.key == key)


def proves_renewal(credential: Credential | None, current: Enrollment) -> bool:
    """Issued by us, for this very relationship's renewal; a pending flag alone would prove nothing. (2.3)"""
    return (
        credential is not None
        and credential.purpose is Purpose.RENEW
        and credential.bound.enrollment_key == current.key
    )


def _proves_device(credential: Credential | None, current: Enrollment) -> bool:
    """Issued by us for this device: minted for its serial number, or for this enrollment."""
    if credential is None:
        return False
    bound = credential.bound
    by_serial = (
        bound.serial_number is not None and bound.serial_number == current.facts.serial_number
    )
    return by_serial or bound.enrollment_key == current.key


def _is_new_invitation(
    credential: Credential | None, released_at: datetime | None, now: datetime
) -> bool:
    """A renewal minted before the release, or an old invitation, does not bring a released device back.

    Where the clock was set back since the release, new is what was issued just now.
    """
    if credential is None or credential.purpose is not Purpose.ENROLL:
        return False
    if released_at is not None and released_at > now:
        return credential.issued_at >= now - JUST_NOW
    return released_at is None or credential.issued_at > released_at


def _is_worth_protecting(current: Enrollment) -> bool:
    """Whether an unproven newcomer must stand beside this relationship instead of taking its place."""
    return current.state.is_served or (
        current.state is State.PENDING and current.proof is Proof.PROVEN
    )


def _begin(seen: Snapshot, arrival: Arrival, standing: Standing) -> Change[AuthenticateAnswer]:
    """A relationship that did not exist: the first, or a contested one beside it."""
    message, identity, now = arrival.message, arrival.identity, arrival.now
    credential = seen.credential
    contested = standing is Standing.CONTESTED
    row = Enrollment(
        key=arrival.key,
        tenant=identity.tenant,
        id=message.channel.id,
        type=message.channel.type,
        parent_key=None,
        state=State.PENDING,
        standing=standing,
        proof=_first_proof(credential, message),
        facts=message.facts,
        topic=message.topic,
        created_at=now,
        authenticated_at=now,
        contested_at=now if contested else None,
        profile=credential.profile if credential else None,
    )
    raised = (alerts.contested(row.id, row.tenant, identity.fingerprint),) if contested else ()
    return Change(
        at=now,
        answer=Accepted(),
        rows=(row,),
        bind=(_binding(row, identity, now),),
        records=(identity_record(row, identity, now, source="Authenticate"),),
        alerts=raised,
        seen=row.key,
    )


def _first_proof(credential: Credential | None, message: Authenticate) -> Proof:
    if credential is None or credential.bound.serial_number is None:
        return Proof.FIRST_USE
    return (
        Proof.PROVEN
        if credential.bound.serial_number == message.facts.serial_number
        else Proof.FIRST_USE
    )


def _again(seen: Snapshot, device: Enrollment, arrival: Arrival) -> Change[AuthenticateAnswer]:
    """The certificate that is bound here authenticates again."""
    message, now = arrival.message, arrival.now
    renews = device.renewing_fingerprint == arrival.identity.fingerprint
    if device.state is State.PENDING or (device.state is State.RENEWING and renews):
        # A retry of the same installation: what came since the first try stays.
        row = replace(device, facts=message.facts.over(device.facts), topic=message.topic)
        return Change(at=now, answer=Accepted(), rows=(row,), seen=row.key)
    return _start_over(seen, device, arrival, device.proof)


def _take_over(
    seen: Snapshot, current: Enrollment, arrival: Arrival, proof: Proof
) -> Change[AuthenticateAnswer]:
    """Another certificate takes an enrollment's place: proven, vouched for, or nobody live to protect."""
    begun = _start_over(seen, current, arrival, proof)
    (row,) = begun.rows
    profile = seen.credential.profile if seen.credential else None
    row = replace(row, accepted_fingerprint=None, profile=profile)
    identity = arrival.identity
    taken = replace(
        begun,
        rows=(row,),
        supersede=(
            Supersede(
                enrollment_key=row.key, keep=identity.fingerprint, cause="the device enrolled again"
            ),
        ),
        bind=(_binding(row, identity, arrival.now),),
        records=(identity_record(row, identity, arrival.now, source="Authenticate"),),
    )
    # Whoever contested the old side has been answered: by proof, or by an operator's word.
    return taken if proof is Proof.FIRST_USE else join(turn_away(seen, arrival.now), taken)


def _start_over(
    seen: Snapshot, device: Enrollment, arrival: Arrival, proof: Proof
) -> Change[AuthenticateAnswer]:
    """Cause C, E or the beginning of D: old tokens to history, old commands cancelled, users out. (2.3)"""
    message, now = arrival.message, arrival.now
    cause = "the device enrolled again"
    held = (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP)
    row = replace(
        device,
        type=message.channel.type,
        state=State.PENDING,
        proof=proof,
        facts=message.facts,
        topic=message.topic,
        authenticated_at=now,
        released_at=None,
        renewing_fingerprint=None,
        enrolled_at=None,
        push=None,
        push_dead_since=None,
        push_dead_reason=None,
        unlock=None,
        bootstrap=None,
        awaiting=False,
        # What an erase took from the other side of a contest is gone, however often the newcomer begins anew.
        came_erased=device.came_erased and device.standing is Standing.CONTESTED,
        session=None,
        token_updates=0,
    )
    begun: Change[AuthenticateAnswer] = Change(
        at=now,
        answer=Accepted(),
        rows=(row,),
        disable_users=(DisableUsers(device_key=row.key),),
        cancel=(CancelCommands(enrollment_key=row.key, users=True, cause=cause),),
        steps=retire(device, held, cause),
        drop_wakes=(row.key,),
        seen=row.key,
    )
    if device.standing is not Standing.CURRENT:
        return begun
    return relationship_ended(seen.escrows, row, Cause.ENROLLED_AGAIN, now).into(begun)


def _renew(current: Enrollment, arrival: Arrival) -> Change[AuthenticateAnswer]:
    """Cause B, proven: everything stays, the new certificate is bound beside the old one. (2.4 row 6)"""
    identity, now = arrival.identity, arrival.now
    row = replace(
        current,
        state=State.RENEWING,
        renewing_fingerprint=identity.fingerprint,
        # Its first commands are not asked again, and Authenticate leaves out what they told, such as its name.
        facts=arrival.message.facts.over(current.facts),
        authenticated_at=_after_all_that_came(current, now),
        token_updates=0,
        proof=Proof.PROVEN,
    )
    return Change(
        at=now,
        answer=Accepted(),
        rows=(row,),
        bind=(_binding(row, identity, now),),
        records=(identity_record(row, identity, now, source="Authenticate (renewal)"),),
        wakes=(Wake(enrollment_key=row.key, due_at=now + RENEWAL_QUIET),),
        seen=row.key,
    )


def _after_all_that_came(row: Enrollment, now: datetime) -> datetime:
    """A moment by which what comes from now on is told from what is held, though the clock was set back meanwhile."""
    held = (row.pointer(kind) for kind in (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP))
    came = (pointer.arrived_at for pointer in held if pointer is not None)
    return max([now, *(at + timedelta(microseconds=1) for at in came)])


def _binding(row: Enrollment, identity: DeviceIdentity, now: datetime) -> Binding:
    return Binding(
        fingerprint=identity.fingerprint,
        tenant=identity.tenant,
        enrollment_key=row.key,
        proof=row.proof,
        bound_at=now,
        not_after=identity.not_after,
    )


def bind_accepted(
    row: Enrollment, identity: DeviceIdentity, now: datetime, *, proof: Proof
) -> Change[None]:
    """Bind one more certificate to a relationship, as an operator or a policy allowed. (3.8 rules 3, 6)"""
    bound = replace(row, accepted_fingerprint=None)
    return Change(
        at=now,
        answer=None,
        rows=(bound,),
        bind=(replace(_binding(bound, identity, now), proof=proof),),
        records=(identity_record(bound, identity, now, source=f"bound: {proof}"),),
    )
