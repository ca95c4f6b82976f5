"""A process to be killed: it decides on SQLite and says so, line by line, after each answer.

It reads one order a line, forks a child that carries it out until it dies, and then says `died`. The fork
spares the start of an interpreter, so a thousand deaths take a minute.
"""

import asyncio
import faulthandler
import hashlib
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ostiary.domain.command import ClosedCommand, CommandState, LiveCommand, Priority
from ostiary.domain.decision import Alert, Ask, ByKey, Change, Snapshot, Wake
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Proof, Standing, State
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Holder,
    KeyedDigest,
    RecordId,
    SealedValue,
    TokenKind,
    TokenPointer,
    TokenRecord,
    TokenState,
    TokenStep,
)
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType
from ostiary.storage.sqlite.storage import open_sqlite

DEVICES = 12
PATIENCE_SECONDS = 120.0
"""After which a child that neither ends nor dies says where it stands, and fails."""
KINDS = (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP)
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Where to work, how much, and when to die: at the nth passing of a step, or after some microseconds."""

    path: str
    decisions: int
    step: str
    count: int

    def encode(self) -> str:
        return json.dumps([self.path, self.decisions, self.step, self.count])

    @classmethod
    def decode(cls, line: str) -> "Order":
        path, decisions, step, count = json.loads(line)
        return cls(path=path, decisions=decisions, step=step, count=count)


class StandingClock:
    def now(self) -> datetime:
        return START


def device_key(device: int) -> EnrollmentKey:
    return EnrollmentKey(f"{device:032x}")


def kinds_of(number: int) -> tuple[TokenKind, ...]:
    """What the nth update brings: always a push token, the others now and then."""
    return tuple(kind for place, kind in enumerate(KINDS, 1) if number % place == 0)


def record_id(device: int, number: int, kind: TokenKind) -> RecordId:
    return RecordId(hashlib.sha256(f"{device} {number} {kind}".encode()).hexdigest()[:32])


def command_uuid(device: int, number: int) -> CommandUuid:
    return CommandUuid(f"{device}-{number}")


def update(device: int, snapshot: Snapshot) -> Change[int]:
    """One update of one device, with a part in nearly every table; the answer is its number."""
    row = snapshot.device or _new(device)
    number = row.token_updates + 1
    at = START + timedelta(seconds=number)
    steps, records = [], []
    pointers = {}
    for kind in kinds_of(number):
        if (old := row.pointer(kind)) is not None:
            cause = f"Replaced by {number}."
            steps.append(
                TokenStep(record_id=old.record_id, state=TokenState.SUPERSEDED, cause=cause)
            )
        record = _record(device, number, kind, at)
        records.append(record)
        pointers[kind.value] = TokenPointer(
            record_id=record.id, digest=record.digest, received_at=at, arrived_at=at
        )
    changed = replace(row, token_updates=number, **pointers)  # type: ignore[arg-type]  # the kinds' names are the fields'
    alert = Alert(tenant=DEFAULT_TENANT, subject=row.id, kind="update", sentence=str(number))
    escrow = Escrow(
        tenant=DEFAULT_TENANT,
        holder=Holder(row.id),
        kind=TokenKind.RECOVERY_LOCK,
        state=EscrowState.IN_FLIGHT,
        since=at,
        trouble=str(number),
    )
    told = FactSheet(
        enrollment_key=row.key, name=SheetName.DEVICE, facts={"n": number}, reported_at=at
    )
    return Change(
        at=at,
        answer=number,
        rows=(changed,),
        steps=tuple(steps),
        records=tuple(records),
        escrows=(escrow,),
        facts=(told,),
        close=(_closed(device, number - 1, at),) if number > 1 else (),
        enqueue=(_command(device, number, at),),
        wakes=(Wake(enrollment_key=row.key, due_at=at, attempt=number),),
        alerts=(alert,),
        seen=row.key,
    )


def _new(device: int) -> Enrollment:
    return Enrollment(
        key=device_key(device),
        tenant=DEFAULT_TENANT,
        id=EnrollmentId(f"UDID-{device}"),
        type=EnrollmentType.DEVICE,
        parent_key=None,
        state=State.ENROLLED,
        standing=Standing.CURRENT,
        proof=Proof.PROVEN,
        facts=DeviceFacts(),
        topic=Topic("com.apple.mgmt.External.crash"),
        created_at=START,
        authenticated_at=START,
    )


def _record(device: int, number: int, kind: TokenKind, at: datetime) -> TokenRecord:
    value = hashlib.sha512(f"{device} {number} {kind}".encode()).digest() * 16
    return TokenRecord(
        id=record_id(device, number, kind),
        tenant=DEFAULT_TENANT,
        holder=Holder(f"UDID-{device}"),
        kind=kind,
        value=SealedValue(value),
        digest=KeyedDigest(hashlib.sha256(value).digest()),
        size=len(value),
        state=TokenState.OK,
        cause=f"Received in {number}.",
        source="TokenUpdate",
        fingerprint=None,
        relationship=device_key(device),
        received_at=at,
        changed_at=at,
    )


def _command(device: int, number: int, at: datetime) -> LiveCommand:
    return LiveCommand(
        uuid=command_uuid(device, number),
        enrollment_key=device_key(device),
        request_type="DeviceInformation",
        priority=Priority.NORMAL,
        payload=SealedValue(b"sealed"),
        references=(),
        state=CommandState.QUEUED,
        queued_at=at,
        source="crash",
    )


def _closed(device: int, number: int, at: datetime) -> ClosedCommand:
    return ClosedCommand(
        uuid=command_uuid(device, number),
        enrollment_key=device_key(device),
        request_type="DeviceInformation",
        state=CommandState.DONE,
        queued_at=at,
        closed_at=at,
        source="crash",
        result="{}",
        hand_outs=1,
    )


def live(order: Order) -> None:
    """Work until the ordered death; without one, until the work is done."""
    passed: Counter[str] = Counter()

    def trace(step: str) -> None:
        passed[step] += 1
        if step == order.step and passed[step] == order.count:
            os.kill(os.getpid(), signal.SIGKILL)

    if order.step == "any-moment":
        # Nobody handles SIGALRM, so the kernel ends the process wherever it is.
        signal.setitimer(signal.ITIMER_REAL, order.count / 1_000_000)
    asyncio.run(_work(order, trace))


async def _work(order: Order, trace: object) -> None:
    async with open_sqlite(Path(order.path), clock=StandingClock(), trace=trace) as storage:  # type: ignore[arg-type]  # it is a Trace
        left = iter(range(order.decisions))

        async def serve(device: int) -> None:
            ask = Ask(who=ByKey(key=device_key(device)))
            for _ in left:
                change = await storage.enrollments.decide(
                    ask, lambda snapshot: update(device, snapshot)
                )
                os.write(1, f"{device} {change.answer}\n".encode())

        await asyncio.gather(*(serve(device) for device in range(DEVICES)))


def main() -> None:
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)
            live(Order.decode(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, f"died {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
