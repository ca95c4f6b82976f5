"""A device that truly holds a value, a channel that loses things, and a server that must never lose track of it.

The device does one command at a time, and comes again only once its answer is delivered or lost with a crash. What the
server gives up, it closes; from then on that command is not handed out any more. Source: escrowed-secrets.md 4.0.3.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from escrow_world import DEVICE, IDENTITY, NOON, UDID, escrow, sealed, shown, told
from ostiary.domain import escrow_fetched, escrow_machine
from ostiary.domain.command import CommandState, LiveCommand, Reference
from ostiary.domain.escrow import MANNERS, Escrow, EscrowState
from ostiary.domain.escrow_booking import (
    FETCHED,
    News,
    book_cancelled,
    book_hand_out,
    book_report,
    book_stray,
    lost,
    of_turn,
    standard_command,
)
from ostiary.domain.escrow_lifecycle import Cause, relationship_ended
from ostiary.domain.escrow_view import may_be_in_force
from ostiary.domain.ledger import SealedToken
from ostiary.domain.token import RecordId, TokenKind, TokenRecord, TokenState
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.connect import CommandUuid, Status
from ostiary.values import dataclass

KNOWN = (TokenState.OK, TokenState.CANDIDATE, TokenState.SUSPECT)
"""States in which a generation is one that may be in force."""
ENOUGH = 12
"""Rounds of honest work after which everything must be settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A command as the device sees it: its holes filled."""

    uuid: CommandUuid
    name: str
    current: str | None
    new: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the device has to say of a command, and has not brought to the server yet."""

    uuid: CommandUuid
    status: Status
    result: dict[str, PlistValue]
    brought: str | None = None


class Mac:
    """Holds one secret, and does what it is told in the way Apple's pages say."""

    def __init__(self, kind: TokenKind) -> None:
        self.kind = kind
        self.value: str | None = "disk 0" if kind is TokenKind.FILEVAULT_KEY else None
        self.waiting: tuple[str | None] | None = None
        self.drawn = 0

    def do(self, order: Handed, how: str) -> Answer:
        """`how`: `done`, `pretended` (acknowledged, nothing done), `silent` (nothing said of it), `failed`."""
        if order.name.startswith("Verify"):
            if how == "failed":
                return self._fails(order)
            if how == "silent":
                return self._says(order)
            return self._says(order, PasswordVerified=self.value == order.current)
        if order.name == "SecurityInfo":
            return self._security(order)
        if how == "failed":
            return self._fails(order)
        match self.kind:
            case TokenKind.RECOVERY_LOCK:
                return self._set_lock(order, how)
            case TokenKind.FIRMWARE_PASSWORD:
                return self._set_firmware(order)
            case TokenKind.FILEVAULT_KEY:
                return self._rotate(order, how)
            case _:
                self.value = order.new
                return self._fails(order) if order.name == "EraseDevice" else self._says(order)

    def restart(self) -> None:
        if self.waiting is not None:
            (self.value,) = self.waiting
        self.waiting = None

    def _set_lock(self, order: Handed, how: str) -> Answer:
        if self.value is not None and order.current != self.value:
            return self._fails(order)
        if how != "pretended":
            self.value = order.new
        return self._says(order)

    def _set_firmware(self, order: Handed) -> Answer:
        changes = self.waiting is None and self.value in (None, order.current)
        if changes:
            self.waiting = (order.new,)
        inner: dict[str, PlistValue] = {"PasswordChanged": changes}
        return self._says(order, SetFirmwarePassword=inner)

    def _rotate(self, order: Handed, how: str) -> Answer:
        if order.current != self.value:
            return self._fails(order)
        self.drawn += 1
        self.value = f"disk {self.drawn}"
        told_key = None if how == "silent" else self.value
        return Answer(uuid=order.uuid, status=Status.ACKNOWLEDGED, result={}, brought=told_key)

    def _security(self, order: Handed) -> Answer:
        said: dict[str, PlistValue] = {"FDE_Enabled": True}
        if self.kind is TokenKind.RECOVERY_LOCK:
            said["IsRecoveryLockEnabled"] = self.value is not None
        if self.kind is TokenKind.FIRMWARE_PASSWORD:
            said["FirmwarePasswordStatus"] = {
                "PasswordExists": self.value is not None,
                "ChangePending": self.waiting is not None,
            }
        answer = self._says(order, SecurityInfo=said)
        return replace(answer, brought=self.value if self.kind in FETCHED else None)

    def _says(self, order: Handed, **result: PlistValue) -> Answer:
        return Answer(uuid=order.uuid, status=Status.ACKNOWLEDGED, result=result)

    def _fails(self, order: Handed) -> Answer:
        return Answer(uuid=order.uuid, status=Status.ERROR, result={})


class LossyWorld(RuleBasedStateMachine):
    """One secret of one device, and everything that can happen to it."""

    kind: ClassVar[TokenKind]
    set_names: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = NOON
        self.mac = Mac(self.kind)
        self.outbox: Answer | None = None
        self.escrow: Escrow = escrow(self.kind)
        self.ledger: dict[RecordId, TokenRecord] = {}
        self.values: dict[RecordId, str] = {}
        self.queue: list[LiveCommand] = []
        self.numbers = 0

    # The server -----------------------------------------------------------------------------------------------------

    def _fresh(self) -> int:
        self.numbers += 1
        self.now += timedelta(seconds=1)
        return self.numbers

    def _store(self, news: News) -> None:
        stepped = [step.record_id for step in news.steps]
        assert len(set(stepped)) == len(stepped), "an engine may do them in any order"
        for step in news.steps:
            assert step.record_id in self.ledger, "a step names a record that does not exist"
            self.ledger[step.record_id] = replace(
                self.ledger[step.record_id],
                state=step.state,
                cause=step.cause,
                changed_at=self.now,
            )
        for record in news.records:
            self._append(record.id, record.digest.decode(), record.state)
        for proof in news.proofs:
            proven = replace(self.ledger[proof.record_id], proven_at=self.now)
            self.ledger[proof.record_id] = proven
        for one in news.escrows:
            assert one.kind is self.kind
            self.escrow = one
        for pointer in (self.escrow.current, self.escrow.candidate):
            assert pointer is None or pointer in self.ledger
        self.queue.extend(news.enqueue)

    def _append(self, record_id: RecordId, value: str, state: TokenState) -> None:
        self.values[record_id] = value
        record = escrow_fetched.brought_record(
            sealed(self.kind, record_id, value),
            DEVICE,
            IDENTITY,
            self.now,
            source="a change",
            state=state,
        )
        self.ledger.setdefault(record_id, replace(record, generation=len(self.ledger) + 1))

    def _find(self, uuid: CommandUuid | None) -> LiveCommand | None:
        return next((one for one in self.queue if one.uuid == uuid), None)

    def _close(self, uuid: CommandUuid) -> None:
        self.queue = [one for one in self.queue if one.uuid != uuid]

    def _move(self, moved: LiveCommand) -> None:
        self.queue = [moved if one.uuid == moved.uuid else one for one in self.queue]

    def _queue_set(self, name: str, *, clears: bool = False) -> None:
        """Rows 1 and 2, as an order does it: the value is stored with the command."""
        number = self._fresh()
        uuid = CommandUuid(f"SET-{number}")
        if self.kind in FETCHED:
            self._store(News(escrows=(escrow_fetched.begin(self.escrow, uuid, self.now),)))
            holes = (Reference(key="Current", kind=self.kind, optional=True),)
            self.queue.append(standard_command(DEVICE, name, uuid, self.now, *holes))
            return
        candidate = None if clears else RecordId(f"{number:032x}")
        turn = escrow_machine.ask(self.escrow, candidate, uuid, self.now)
        if candidate is not None:
            self._append(candidate, f"value {number}", TokenState.CANDIDATE)
        self._store(of_turn(DEVICE, self.escrow, turn, self.now))
        self._queue_with_values(name, uuid, candidate)

    def _queue_with_values(self, name: str, uuid: CommandUuid, candidate: RecordId | None) -> None:
        holes = [Reference(key="Current", kind=self.kind, optional=True)]
        if candidate is not None:
            holes.append(Reference(key="New", kind=self.kind, record_id=candidate))
        self.queue.append(standard_command(DEVICE, name, uuid, self.now, *holes))

    def _filled(self, command: LiveCommand) -> Handed:
        current = new = None
        for hole in command.references:
            record = hole.record_id or self.escrow.current
            value = None if record is None else self.values[record]
            if hole.key == "New":
                new = value
            else:
                current = value
        return Handed(uuid=command.uuid, name=command.request_type, current=current, new=new)

    def _hand_out(self) -> Handed | None:
        """An Idle: what was deferred is lifted, what was sent goes first."""
        self.queue = [
            replace(one, state=CommandState.QUEUED) if one.state is CommandState.DEFERRED else one
            for one in self.queue
        ]
        in_turn = sorted(self.queue, key=lambda one: one.state is not CommandState.SENT)
        if not in_turn:
            return None
        command = in_turn[0]
        handed = self._filled(command)
        self._store(book_hand_out(shown(self.escrow), command, self.now))
        was_put_off = command.state is not CommandState.SENT and command.hand_outs > 0
        hand_outs = command.hand_outs if was_put_off else command.hand_outs + 1
        sent = replace(command, state=CommandState.SENT, hand_outs=hand_outs)
        self._move(sent)
        return handed

    def _book(self, answer: Answer) -> None:
        self._fresh()
        brought: tuple[SealedToken, ...] = ()
        if answer.brought is not None and answer.status is Status.ACKNOWLEDGED:
            record = RecordId(f"{self.numbers:032x}")
            brought = (sealed(self.kind, record, answer.brought),)
        said = told(
            answer.status, answer.uuid, *brought, result=answer.result, error="no", now=self.now
        )
        command = self._find(answer.uuid)
        if command is None:
            if brought:
                self._store(book_stray(shown(self.escrow), DEVICE, said))
            return
        news = book_report(shown(self.escrow), DEVICE, command, said)
        if answer.status is Status.NOT_NOW:
            self._move(replace(command, state=CommandState.DEFERRED))
        else:
            self._close(answer.uuid)
        self._store(news)

    # What people do -------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self._pin_goes_out_again())
    @rule(data=st.data())
    def an_operator_asks_for_another_value(self, data: st.DataObject) -> None:
        clears = self.kind in (TokenKind.RECOVERY_LOCK, TokenKind.FIRMWARE_PASSWORD)
        clears = clears and self.escrow.current is not None and data.draw(st.booleans())
        try:
            self._queue_set(data.draw(st.sampled_from(self.set_names)), clears=clears)
        except escrow_machine.SetUnderWay:
            assert self.escrow.state.is_unresolved
        except escrow_machine.SecretUncertain:
            again = escrow_machine.verify_again(self.escrow, CommandUuid("?"), self.now)
            assert again.verify is not None or self._waits_for_restart(), "no way on"

    def _waits_for_restart(self) -> bool:
        return MANNERS[self.kind].takes_restart and self.escrow.set_uuid is not None

    def _pin_goes_out_again(self) -> bool:
        return self.kind is TokenKind.LOCK_PIN and self.escrow.candidate is not None

    @precondition(lambda self: self._pin_goes_out_again())
    @rule(name=st.sampled_from(["DeviceLock", "EraseDevice"]))
    def an_operator_locks_once_more(self, name: str) -> None:
        """The same PIN with another command. (4.6)"""
        uuid = CommandUuid(f"SET-{self._fresh()}")
        candidate = self.escrow.candidate
        turn = escrow_machine.go_out_again(self.escrow, uuid, self.now)
        self._store(of_turn(DEVICE, self.escrow, turn, self.now))
        self._queue_with_values(name, uuid, candidate)

    @rule()
    def an_operator_has_it_verified(self) -> None:
        uuid = CommandUuid(f"VERIFY-{self._fresh()}")
        turn = escrow_machine.verify_again(self.escrow, uuid, self.now)
        self._store(of_turn(DEVICE, self.escrow, turn, self.now))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def an_operator_cancels_a_command(self, data: st.DataObject) -> None:
        command = data.draw(st.sampled_from(self.queue))
        self._close(command.uuid)
        self._store(
            book_cancelled(
                shown(self.escrow), DEVICE, command, "an operator cancelled it", self.now
            )
        )

    @rule()
    def security_facts_are_asked_for(self) -> None:
        uuid = CommandUuid(f"INFO-{self._fresh()}")
        self.queue.append(standard_command(DEVICE, "SecurityInfo", uuid, self.now))

    @precondition(lambda self: self.escrow.state.is_unresolved and self.escrow.due_at)
    @rule()
    def an_answer_is_given_up(self) -> None:
        """Row 9: and the command is closed with it."""
        before = self.escrow
        for uuid in (before.set_uuid, before.verify_uuid):
            if uuid is not None:
                self._close(uuid)
        self._store(lost(DEVICE, before, "no answer for long", self.now))

    @precondition(lambda self: self.escrow.state is EscrowState.UNCERTAIN and self.escrow.due_at)
    @rule()
    def it_is_asked_again(self) -> None:
        """A day after the device could not say. (Row 7b)"""
        assert self.escrow.due_at is not None
        self.now = max(self.now, self.escrow.due_at)
        uuid = CommandUuid(f"AGAIN-{self._fresh()}")
        again = escrow_machine.verify_again(replace(self.escrow, due_at=None), uuid, self.now)
        self._store(of_turn(DEVICE, self.escrow, again, self.now))

    # What the device does -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.outbox is None)
    @rule(
        how=st.sampled_from(["done", "done", "pretended", "silent", "failed"]),
        fate=st.sampled_from(["told", "told", "told", "not now", "never came", "crashed"]),
    )
    def the_device_polls(self, how: str, fate: str) -> None:
        """A command comes, is done, and answered; unless the line breaks before, or the device after."""
        handed = self._hand_out()
        if handed is None or fate == "never came":
            return
        if fate == "not now":
            self.outbox = Answer(uuid=handed.uuid, status=Status.NOT_NOW, result={})
            return
        answer = self.mac.do(handed, how)
        self.outbox = None if fate == "crashed" else answer

    @precondition(lambda self: self.outbox is not None)
    @rule(times=st.integers(1, 3))
    def its_answer_comes(self, times: int) -> None:
        """More than once, where our own answer to it was lost."""
        assert self.outbox is not None
        for _ in range(times):
            self._book(self.outbox)
        self.outbox = None

    @precondition(lambda self: self.outbox is not None)
    @rule()
    def its_answer_is_lost(self) -> None:
        self.outbox = None

    @rule()
    def the_device_restarts(self) -> None:
        self.mac.restart()

    @precondition(lambda self: self.outbox is None)
    @rule(rounds=st.integers(1, 4))
    def a_while_goes_well(self, rounds: int) -> None:
        """Commands come and are done and answered."""
        for _ in range(rounds):
            if (handed := self._hand_out()) is not None:
                self._book(self.mac.do(handed, "done"))

    @precondition(lambda self: self.outbox is None and not self._pin_goes_out_again())
    @precondition(lambda self: self.escrow.state is EscrowState.SETTLED)
    @rule(again=st.booleans())
    def a_change_is_done_and_its_answer_lost(self, again: bool) -> None:
        self._queue_set(self.set_names[0])
        while (handed := self._hand_out()) is not None:
            answer = self.mac.do(handed, "done")
            if not handed.name.startswith(("Set", "Rotate", "DeviceLock")):
                self._book(answer)
                continue
            if not again:
                return
            again = False

    # What becomes of the relationship -------------------------------------------------------------------------------

    def _ends(self, cause: Cause) -> None:
        self.outbox = None
        self.queue = []
        self._store(relationship_ended((self.escrow,), DEVICE, cause, self.now))

    @rule(cause=st.sampled_from(list(Cause)), drops=st.booleans(), luck=st.integers(0, 3))
    def the_relationship_ends(self, cause: Cause, drops: bool, luck: int) -> None:
        """A Mac drops its Recovery Lock when it is unenrolled; here or there it may not. (4.4) Rare, as in life."""
        if luck:
            return
        if cause is Cause.ERASED:
            self._erase()
        elif self.kind is TokenKind.RECOVERY_LOCK and (drops or cause is Cause.CHECKED_OUT):
            self.mac.value = None
        self._ends(cause)

    def _erase(self) -> None:
        """All but the firmware forgets, and the device restarts."""
        self.mac.restart()
        if self.kind is TokenKind.FILEVAULT_KEY:
            self.mac.drawn += 1
            self.mac.value = f"disk {self.mac.drawn}"
        elif self.kind is not TokenKind.FIRMWARE_PASSWORD:
            self.mac.value = None

    # What must hold -------------------------------------------------------------------------------------------------

    def _is_known(self, value: str) -> bool:
        """Whether a pointer names it, or the ledger says that it may be in force."""
        records = [record for record, kept in self.values.items() if kept == value]
        pointers = (self.escrow.current, self.escrow.candidate)
        return any(one in pointers or self.ledger[one].state in KNOWN for one in records)

    @invariant()
    def no_value_that_the_device_may_hold_is_lost(self) -> None:
        """It was stored before it could leave, and is shown, or called one that may be in force."""
        if self.kind in FETCHED:
            return
        for value in (self.mac.value, *(self.mac.waiting or ())):
            assert value is None or self._is_known(value)

    @invariant()
    def what_the_device_holds_is_shown_to_whoever_asks(self) -> None:
        """No failure of a later change hides it. (row 9)"""
        if self.kind in FETCHED or self.mac.value is None:
            return
        shown_now = may_be_in_force(self.escrow, tuple(self.ledger.values()))
        assert self.mac.value in [self.values[one] for one in shown_now]

    @invariant()
    def what_is_settled_is_so(self) -> None:
        """Nobody is told that one value is in force while the device holds another. (rows 5 to 8)"""
        if self.escrow.state is not EscrowState.SETTLED:
            return
        current = self.escrow.current
        believed = None if current is None else self.values[current]
        if self.kind in FETCHED:
            assert current is None or believed == self.mac.value
            return
        assert believed == self.mac.value
        assert self.mac.waiting is None

    @invariant()
    def a_candidate_has_a_state_of_its_own(self) -> None:
        """SETTLED shows one value, so there must be no other to show."""
        if self.escrow.state is EscrowState.SETTLED:
            assert self.escrow.candidate is None

    @invariant()
    def there_are_never_two_sets(self) -> None:
        """(RL-05) A PIN alone goes out with a second command, and then with the same value. (4.6)"""
        sets = [one for one in self.queue if one.request_type in MANNERS[self.kind].sets]
        if self.kind is not TokenKind.LOCK_PIN:
            assert len(sets) <= 1
        pinned = {hole.record_id for one in sets for hole in one.references if hole.record_id}
        assert len(pinned) <= 1

    @invariant()
    def some_way_leads_on(self) -> None:
        """What waits, waits for something: a live command, a restart; else an operator can verify, or set another."""
        state = self.escrow.state
        if state in (EscrowState.CANDIDATE, EscrowState.IN_FLIGHT):
            assert self._find(self.escrow.set_uuid) is not None
        if state in (EscrowState.VERIFYING, EscrowState.CHECKING):
            assert self._find(self.escrow.verify_uuid) is not None

    @override
    def teardown(self) -> None:
        """Once everybody is honest and the line holds, the matter ends, and another value can be set."""
        if self.kind is TokenKind.FILEVAULT_KEY:
            self._settle_disk()
            return
        for _ in range(ENOUGH):
            self._work_honestly()
            if self.escrow.state is not EscrowState.SETTLED:
                self._help()
                continue
            self._queue_set(self.set_names[0])
            self._work_honestly()
            self.mac.restart()
            self._help()
            self._work_honestly()
            assert self.escrow.state is EscrowState.SETTLED
            assert self.escrow.current is not None
            assert self.values[self.escrow.current] == self.mac.value
            return
        pytest.fail(f"{UDID} is wedged: {self.escrow}, {self.mac.value!r}, {self.mac.waiting!r}")

    def _settle_disk(self) -> None:
        self._work_honestly()
        self.security_facts_are_asked_for()
        self._work_honestly()
        assert self.escrow.current is not None
        assert self.values[self.escrow.current] == self.mac.value
        assert self.escrow.state is EscrowState.SETTLED

    def _work_honestly(self) -> None:
        if self.outbox is not None:
            self.its_answer_comes(1)
        while (handed := self._hand_out()) is not None:
            self._book(self.mac.do(handed, "done"))

    def _help(self) -> None:
        """What an operator does about a secret that is not settled."""
        self.mac.restart()
        self.security_facts_are_asked_for()
        self._work_honestly()
        self.an_operator_has_it_verified()
        self._work_honestly()
        if self._pin_goes_out_again():
            self.an_operator_locks_once_more(self.set_names[0])
        elif self.escrow.state is EscrowState.UNCERTAIN:
            self._queue_set(self.set_names[0])


class RecoveryLock(LossyWorld):
    kind = TokenKind.RECOVERY_LOCK
    set_names = ("SetRecoveryLock",)


class FirmwarePassword(LossyWorld):
    kind = TokenKind.FIRMWARE_PASSWORD
    set_names = ("SetFirmwarePassword",)


class AdminPassword(LossyWorld):
    kind = TokenKind.ADMIN_PASSWORD
    set_names = ("SetAutoAdminPassword",)


class LockPin(LossyWorld):
    kind = TokenKind.LOCK_PIN
    set_names = ("DeviceLock", "EraseDevice")


class RecoveryKey(LossyWorld):
    kind = TokenKind.FILEVAULT_KEY
    set_names = ("RotateFileVaultKey",)


TestRecoveryLock = RecoveryLock.TestCase
TestFirmwarePassword = FirmwarePassword.TestCase
TestAdminPassword = AdminPassword.TestCase
TestLockPin = LockPin.TestCase
TestRecoveryKey = RecoveryKey.TestCase
