"""Queueing the commands that set, change, fetch and verify secrets: the value first, then the command, in one change.

Source: escrowed-secrets.md 4.0.3 rows 1 and 2.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from ostiary.domain import escrow_fetched, escrow_machine
from ostiary.domain.command import Reference
from ostiary.domain.decision import Change, Snapshot
from ostiary.domain.enqueueing import ERASE_DEVICE, Order, Queued, apply_order
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.erasing import erase_needs_pin
from ostiary.domain.escrow import MANNERS, Escrow, EscrowState
from ostiary.domain.escrow_booking import FETCHED, News, of_turn
from ostiary.domain.ledger import SealedToken
from ostiary.domain.operator import require_known
from ostiary.domain.platform import machine_of
from ostiary.domain.token import Holder, TokenKind, TokenRecord, TokenState
from ostiary.errors import Conflicting, Missing, Refused
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId


class SecretNotHeld(Missing):
    """No value of this secret is held for the device."""

    hint = "`ostiary token escrow ENROLLMENT` shows what is held, `--all` with history."


class RecoveryKeyNotHeld(Conflicting):
    """A FileVault key is rotated with the key in force, or with a user's password; neither is at hand."""

    hint = "Give the password of a FileVault user with --unlock-with-stdin, or wait until the Mac has escrowed its key."


class PinNotForThisPlatform(Refused):
    """Only Macs take a PIN; this device would ignore it, and its own passcode unlocks it. Nothing was queued for this device."""

    hint = "Leave the PIN out. Whether the device has a passcode at all, it says in its answer to a lock with --message."


class AnotherPinPending(Conflicting):
    """The device has not answered an earlier lock or erase, and may be locked with its PIN: none can be given now. Nothing was queued for this device.

    The same digits are refused with the same words: whoever may lock, but not reveal, would find the PIN by trying.
    """

    hint = (
        "Leave the PIN out, and the command goes out with the pending one: `ostiary token reveal ENROLLMENT lock-pin` "
        "shows it, with `--generation` as long as no command with it was fetched. If only one was queued and the device has "
        "not fetched it yet, cancel that with `ostiary queue cancel`, then give your PIN."
    )


class NothingToVerify(Conflicting):
    """Devices cannot be asked about this kind of secret, or its change is under way."""

    hint = "Recovery Locks and firmware passwords can be verified, once their last change has been answered."


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOrder:
    """A command that carries or brings a secret, with the values that must be stored before it can be handed out."""

    order: Order
    kind: TokenKind
    candidate: SealedToken | None = None
    """The value it carries; None where the device makes it, and where the secret is to be cleared."""
    is_given: bool = False
    """Somebody chose the value; else it was drawn."""
    key: str | None = None
    """Where in the command the value goes; None if its payload holds what is needed (a password's hash)."""
    current_key: str | None = None
    """Where the value in force goes, if one is held."""
    escrow_key: SealedToken | None = None
    """A new key pair to which the device encrypts its answer."""


def apply_secret_order(
    seen: Snapshot, enrollment_id: EnrollmentId, wanted: SecretOrder
) -> Change[Queued]:
    """Commit the candidate and queue its command.

    A PIN whose lock was never answered goes out again with a second lock: a person may already have read it. (DL-03)

    Raises:
        SetUnderWay, SecretUncertain, RecoveryKeyNotHeld, AnotherPinPending, and what `apply_order` raises.
    """
    now = wanted.order.now
    queued = apply_order(seen, enrollment_id, wanted.order)
    device = queued.answer.enrollment
    before = seen.escrow(wanted.kind) or _nothing_held(device, wanted.kind, now)
    if wanted.kind in FETCHED:
        if wanted.current_key is not None and before.current is None:
            raise RecoveryKeyNotHeld(enrollment_id=enrollment_id)
        news = News(escrows=(escrow_fetched.begin(before, wanted.order.uuid, now),))
        return _with_escrow_key(seen, device, wanted, now, news).into(
            _filled(queued, wanted, before)
        )
    if _goes_out_again(before):
        if wanted.is_given:
            raise AnotherPinPending(enrollment_id=enrollment_id)
        queued = replace(queued, answer=replace(queued.answer, carries_pending=True))
        turn = escrow_machine.go_out_again(before, wanted.order.uuid, now)
        return of_turn(device, before, turn, now).into(_filled(queued, wanted, turn.escrow))
    token = wanted.candidate
    if token is None and before.current is None:
        raise SecretNotHeld(kind=wanted.kind.value, enrollment_id=enrollment_id)
    record_id = None if token is None else token.record_id
    turn = escrow_machine.ask(before, record_id, wanted.order.uuid, now)
    records = () if token is None else (candidate_record(device, token, wanted.order),)
    news = of_turn(device, before, turn, now) + News(records=records)
    return news.into(_filled(queued, wanted, turn.escrow))


def apply_lock_order(
    seen: Snapshot, enrollment_id: EnrollmentId, wanted: SecretOrder
) -> Change[Queued]:
    """Queue a DeviceLock or an EraseDevice: with the PIN for a Mac that takes one, without for everything else. (4.6, 4.7)

    A device that never said what it is gets one too: a Mac could be opened by nobody without it, and others ignore it.
    What somebody gave goes out to every Mac, for a Mac that needs none for its erase takes it all the same.

    Raises:
        PinNotForThisPlatform, and what `apply_secret_order` raises.
    """
    device = require_known(seen, enrollment_id)
    machine = machine_of(device, seen.facts)
    erases = wanted.order.request_type == ERASE_DEVICE
    takes_pin = erase_needs_pin(machine) if erases else machine.may_be_mac
    if takes_pin or (wanted.is_given and machine.may_be_mac):
        return apply_secret_order(seen, enrollment_id, wanted)
    queued = apply_order(seen, enrollment_id, wanted.order)
    if wanted.is_given:
        raise PinNotForThisPlatform(platform=machine.platform, enrollment_id=enrollment_id)
    return queued


def apply_verify(
    seen: Snapshot, enrollment_id: EnrollmentId, kind: TokenKind, order: Order
) -> Change[Queued]:
    """Ask the device whether it holds the value that is in doubt, or else the current one.

    Raises:
        SecretNotHeld, NothingToVerify, and what `apply_order` raises.
    """
    before = seen.escrow(kind)
    if before is None or (before.current or before.candidate) is None:
        raise SecretNotHeld(kind=kind.value, enrollment_id=enrollment_id)
    turn = escrow_machine.verify_again(before, order.uuid, order.now)
    if turn.verify is None:
        raise NothingToVerify(kind=kind.value, state=before.state.value)
    password = Reference(key="Password", kind=kind, record_id=turn.verify.record_id)
    asked = apply_order(seen, enrollment_id, replace(order, references=(password,)))
    return replace(asked, escrows=(*asked.escrows, turn.escrow))


def _goes_out_again(before: Escrow) -> bool:
    """A PIN that no device has answered yet, though its command was cancelled or given up: the Mac may be locked with it."""
    is_unanswered = before.state is not EscrowState.SETTLED and before.candidate is not None
    return before.kind is TokenKind.LOCK_PIN and is_unanswered


def _filled(queued: Change[Queued], wanted: SecretOrder, after: Escrow) -> Change[Queued]:
    """The queued command with its references: the pinned new value, the latest one in force."""
    references = list(wanted.order.references)
    if wanted.key is not None and after.candidate is not None:
        references.append(Reference(key=wanted.key, kind=wanted.kind, record_id=after.candidate))
    if wanted.current_key is not None and after.current is not None:
        references.append(Reference(key=wanted.current_key, kind=wanted.kind, optional=True))
    (command,) = queued.enqueue
    return replace(queued, enqueue=(replace(command, references=tuple(references)),))


def _with_escrow_key(
    seen: Snapshot, device: Enrollment, wanted: SecretOrder, now: datetime, news: News
) -> News:
    """The key pair for the answer is stored before the command can be fetched. (4.3 row 7)"""
    if wanted.escrow_key is None:
        return news
    record = candidate_record(device, wanted.escrow_key, wanted.order)
    return news + escrow_key_held(seen, device, record, now)


def escrow_key_held(seen: Snapshot, device: Enrollment, record: TokenRecord, now: datetime) -> News:
    """One more escrow key for this device is current; those before stay, as long as envelopes may come for them. (FV-10)"""
    kind = TokenKind.FILEVAULT_ESCROW_KEY
    before = seen.escrow(kind) or _nothing_held(device, kind, now)
    held = replace(before, current=record.id, since=now)
    return News(escrows=(held,), records=(replace(record, state=TokenState.OK),))


def candidate_record(device: Enrollment, token: SealedToken, order: Order) -> TokenRecord:
    return TokenRecord(
        id=token.record_id,
        tenant=device.tenant,
        holder=Holder(device.id),
        kind=token.kind,
        value=token.value,
        digest=token.digest,
        size=token.size,
        state=TokenState.CANDIDATE,
        cause=f"made for {order.request_type} {order.uuid}",
        source=f"{order.request_type}, asked by {order.source}",
        fingerprint=None,
        relationship=device.key,
        received_at=order.now,
        changed_at=order.now,
    )


def _nothing_held(device: Enrollment, kind: TokenKind, now: datetime) -> Escrow:
    return Escrow(
        tenant=device.tenant,
        holder=Holder(device.id),
        kind=kind,
        state=EscrowState.SETTLED,
        since=now,
    )


def verify_command(kind: TokenKind) -> str:
    """The request type that asks. KeyError for kinds that cannot be verified."""
    verify = MANNERS[kind].verify
    if verify is None:
        raise KeyError(kind)
    return verify


def follow_up(escrow: Escrow, what: str, now: datetime) -> CommandUuid:
    """The CommandUUID of something that a worker asks for; new each time it is due."""
    return escrow_machine.follow_up_uuid(escrow, CommandUuid(now.isoformat()), what)
