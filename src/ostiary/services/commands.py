"""The command desk: every command, through any door, is classified by its RequestType and queued sealed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from ostiary.domain.command import ClosedCommand
from ostiary.domain.decision import Ask, AuditEntry, ByName, QueueView
from ostiary.domain.enqueueing import CLEAR_PASSCODE, Order, apply_order
from ostiary.domain.first_commands import STANDARD_PAYLOAD
from ostiary.domain.operator import apply_cancel
from ostiary.domain.token import SealedValue, TenantId
from ostiary.errors import Malformed, OstiaryError, TooLarge
from ostiary.ports.clock import Clock
from ostiary.ports.sealer import Sealer
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.commands import Command, Kind, decode_raw_command, device_lock, nature_of
from ostiary.protocol.mdm.connect import LONGEST_COMMAND_UUID, CommandUuid, encode_command
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.caller import Caller, Scope
from ostiary.services.connect import command_label

LARGEST_COMMAND: Final = 4 * 1024 * 1024
MOST_TARGETS: Final = 10_000
_ORDERS_AT_ONCE: Final = 32
"""Of one request. They share commits, and a device's message stands behind no more of them."""


class CommandTooLarge(TooLarge):
    """The command is larger than we queue."""


class TooManyTargets(TooLarge):
    """The command names more enrollments than one request may."""


class NobodyNamed(Malformed):
    """The command names no enrollment."""


class CommandUuidUnusable(Malformed):
    """The CommandUUID is too long, or holds characters that cannot be printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What became of one request: per enrollment id None or the reason why not."""

    uuid: CommandUuid
    request_type: str
    refused: dict[EnrollmentId, OstiaryError | None]


class CommandDesk:
    """Queues and cancels commands. Payloads are sealed under their CommandUUID before storage sees them."""

    def __init__(self, enrollments: Enrollments, sealer: Sealer, clock: Clock) -> None:
        self._enrollments = enrollments
        self._sealer = sealer
        self._clock = clock

    async def enqueue_raw(
        self, targets: Sequence[EnrollmentId], body: bytes, caller: Caller, *, pushes: bool
    ) -> Enqueued:
        """Queue a command that somebody wrote as a property list, for each target.

        Raises:
            Malformed, CommandTooLarge, ScopeMissing: nothing was queued for anybody.
        """
        if len(body) > LARGEST_COMMAND:
            raise CommandTooLarge(limit_bytes=LARGEST_COMMAND)
        raw = decode_raw_command(body)
        uuid = CommandUuid(raw.uuid or str(uuid4()).upper())
        if len(uuid) > LONGEST_COMMAND_UUID or not uuid.isprintable():
            raise CommandUuidUnusable(field="CommandUUID")
        command = _typed(raw.request_type, raw.command.as_mapping())
        return await self.enqueue(targets, command, caller, pushes=pushes, uuid=uuid, by_hand=True)

    async def enqueue(
        self,
        targets: Sequence[EnrollmentId],
        command: Command,
        caller: Caller,
        *,
        pushes: bool = True,
        uuid: CommandUuid | None = None,
        by_hand: bool = False,
    ) -> Enqueued:
        """Queue one command for each target, under one CommandUUID; each target is decided by itself.

        Raises:
            NobodyNamed, TooManyTargets, ScopeMissing
        """
        if not targets:
            raise NobodyNamed
        if len(targets) > MOST_TARGETS:
            raise TooManyTargets(limit=MOST_TARGETS)
        request_type = str(command["RequestType"])
        _require_scope(request_type, caller)
        uuid = uuid or CommandUuid(str(uuid4()).upper())
        order = Order(
            uuid=uuid,
            request_type=request_type,
            payload=self._sealed(caller.tenant, uuid, command),
            source=caller.name,
            pushes=pushes,
            lacks_pin=not by_hand and "PIN" not in command,
            now=self._clock.now(),
        )
        refused: dict[EnrollmentId, OstiaryError | None] = dict.fromkeys(targets)
        await self._order_all(caller.tenant, refused, order)
        return Enqueued(uuid=uuid, request_type=request_type, refused=refused)

    async def cancel(
        self, enrollment_id: EnrollmentId, uuid: CommandUuid, caller: Caller, reason: str
    ) -> ClosedCommand:
        """Cancel one live command. Raises EnrollmentUnknown, CommandIsOver."""
        audit = AuditEntry(
            tenant=caller.tenant,
            actor=caller.name,
            verb="queue-cancel",
            subject=f"{enrollment_id} {uuid}",
            reason=reason,
        )
        now = self._clock.now()
        ask = Ask(
            who=ByName(tenant=caller.tenant, enrollment_id=enrollment_id),
            queue=QueueView.WHOLE,
            reported=uuid,
        )
        change = await self._enrollments.decide(
            ask, lambda seen: apply_cancel(seen, enrollment_id, audit, now)
        )
        return change.answer

    async def _order_all(
        self, tenant: TenantId, refused: dict[EnrollmentId, OstiaryError | None], order: Order
    ) -> None:
        """Order for each, a few at once: ten thousand would fill the queue before storage, and devices be refused."""
        waiting = iter(tuple(refused))

        async def work() -> None:
            for target in waiting:
                refused[target] = await self._order(tenant, target, order)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_ORDERS_AT_ONCE, len(refused))):
                group.create_task(work())

    async def _order(
        self, tenant: TenantId, target: EnrollmentId, order: Order
    ) -> OstiaryError | None:
        ask = Ask(who=ByName(tenant=tenant, enrollment_id=target), reported=order.uuid)
        try:
            await self._enrollments.decide(ask, lambda seen: apply_order(seen, target, order))
        except OstiaryError as error:
            return error
        return None

    def _sealed(self, tenant: TenantId, uuid: CommandUuid, command: Command) -> SealedValue:
        if command["RequestType"] == CLEAR_PASSCODE:
            return STANDARD_PAYLOAD
        return self._sealer.seal(Secret(encode_command(uuid, command)), command_label(tenant, uuid))


def _typed(request_type: str, command: Command) -> Command:
    """A raw command on the typed path: what is wrong with it is said now, not by the device."""
    match request_type:
        case "ClearPasscode":
            # Whatever token came with it: the one we hold is filled in at hand-out.
            return {"RequestType": request_type}
        case "DeviceLock":
            pin, message, phone = (command.get(key) for key in ("PIN", "Message", "PhoneNumber"))
            return device_lock(
                pin=Secret(str(pin).encode()) if pin is not None else None,
                message=str(message) if message is not None else None,
                phone_number=str(phone) if phone is not None else None,
            )
        case _:
            return command


def _require_scope(request_type: str, caller: Caller) -> None:
    match nature_of(request_type).kind:
        case Kind.DESTRUCTIVE:
            caller.require(Scope.COMMANDS_DESTRUCTIVE)
        case Kind.SECRET:
            caller.require(Scope.COMMANDS_SECRET)
        case Kind.ORDINARY:
            caller.require(Scope.COMMANDS)
