"""What is due of escrowed secrets: answers to give up, rotations after a disclosure, questions to ask again."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from ostiary.domain.bypass_codes import ask_for_code
from ostiary.domain.command import ClosedCommand, CommandState, LiveCommand
from ostiary.domain.decision import Ask, ByName, Change, EscrowView, QueueView, Snapshot
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_booking import (
    BACK_OFF,
    ESCROW_WORKER,
    News,
    lost,
    of_turn,
    standard_command,
)
from ostiary.domain.escrow_machine import ASK_OF_RESTART, verify_again
from ostiary.domain.escrow_orders import follow_up
from ostiary.domain.first_commands import SECURITY_INFO
from ostiary.domain.token import TokenKind
from ostiary.domain.wake import debounced
from ostiary.errors import OstiaryError, Unavailable
from ostiary.ports.clock import Clock
from ostiary.ports.escrow import Escrows
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.caller import Caller, Scope
from ostiary.services.escrow import EscrowDesk, Wish

log = structlog.get_logger()

LEASE: Final = timedelta(minutes=10)
"""Nobody else looks at what one node has taken for so long; then it is due again."""
AT_ONCE: Final = 50
ASK_DAILY: Final = timedelta(days=1)


class EscrowWatch:
    """Takes what is due, one at a time; each is decided by itself, so that a crash leaves it due again."""

    def __init__(
        self, enrollments: Enrollments, escrows: Escrows, desk: EscrowDesk, clock: Clock
    ) -> None:
        self._enrollments = enrollments
        self._escrows = escrows
        self._desk = desk
        self._clock = clock

    async def tend(self) -> int:
        """Handle what is due now, as far as one round goes; how many there were."""
        due = await self._escrows.claim_due(self._clock.now(), limit=AT_ONCE, lease=LEASE)
        for escrow in due:
            try:
                await self._handle(escrow)
            except Unavailable:
                raise
            except OstiaryError as error:
                log.info("escrow_put_off", kind=escrow.kind.value, reason=error.code)
                await self._put_off(escrow)
        return len(due)

    async def _handle(self, escrow: Escrow) -> None:
        if escrow.state is EscrowState.SETTLED and _is_rotation(escrow):
            caller = Caller(
                name=ESCROW_WORKER,
                tenant=escrow.tenant,
                scopes=frozenset({Scope.COMMANDS, Scope.COMMANDS_SECRET}),
            )
            wish = Wish(
                enrollment_id=EnrollmentId(escrow.holder),
                kind=escrow.kind,
                reason="its value was disclosed, or its time had come",
            )
            await self._desk.change_or_defer(wish, caller, again_after=BACK_OFF)
            return
        await self._decide(escrow, _tended)

    async def _put_off(self, escrow: Escrow) -> None:
        await self._decide(escrow, _postponed)

    async def _decide(
        self,
        escrow: Escrow,
        rule: Callable[[Snapshot, Enrollment, Escrow, datetime], News],
    ) -> None:
        now = self._clock.now()

        def decided(seen: Snapshot) -> Change[None]:
            nothing: Change[None] = Change(at=now, answer=None)
            before = seen.escrow(escrow.kind)
            if seen.device is None or before is None:
                return nothing
            news = rule(seen, seen.device, before, now)
            change = news.into(replace(nothing, close=_unanswered(seen, before, news, now)))
            if not news.enqueue:
                return change
            wake = debounced(seen.device.key, now, seen.wake)
            return replace(change, wakes=(wake,) if wake != seen.wake else ())

        who = ByName(tenant=escrow.tenant, enrollment_id=EnrollmentId(escrow.holder))
        ask = Ask(
            who=who,
            escrows=EscrowView.ALWAYS,
            queue=QueueView.WHOLE,
            reported=escrow.verify_uuid if _asks(escrow) else escrow.set_uuid,
        )
        await self._enrollments.decide(ask, decided)


def _is_rotation(escrow: Escrow) -> bool:
    return escrow.kind in (
        TokenKind.RECOVERY_LOCK,
        TokenKind.FIRMWARE_PASSWORD,
        TokenKind.ADMIN_PASSWORD,
        TokenKind.FILEVAULT_KEY,
    )


def _asks(escrow: Escrow) -> bool:
    return escrow.state in (EscrowState.VERIFYING, EscrowState.CHECKING)


def _unanswered(
    seen: Snapshot, before: Escrow, news: News, now: datetime
) -> tuple[ClosedCommand, ...]:
    """The command whose answer is given up must not be carried out afterwards: then nobody would book what it did."""
    command = seen.reported
    given_up = any(
        one.kind is before.kind and before.state.is_unresolved and not one.state.is_unresolved
        for one in news.escrows
    )
    if command is None or not given_up:
        return ()
    why = {"cause": "the device did not answer for long"}
    return (
        ClosedCommand(
            uuid=command.uuid,
            enrollment_key=command.enrollment_key,
            request_type=command.request_type,
            state=CommandState.CANCELLED,
            queued_at=command.queued_at,
            closed_at=now,
            source=command.source,
            result=json.dumps(why),
            hand_outs=command.hand_outs,
        ),
    )


def _tended(seen: Snapshot, device: Enrollment, before: Escrow, now: datetime) -> News:
    if before.kind is TokenKind.BYPASS_DEVICE:
        return ask_for_code(device, before, now)
    if before.state is EscrowState.PENDING_RESTART:
        return _asked(seen, device, before, SECURITY_INFO, now, again_at=now + ASK_OF_RESTART)
    if before.state.is_unresolved:
        # It was handed out and never answered, or asked about and never answered. (row 9)
        return lost(device, before, f"no answer since {before.since:%Y-%m-%d %H:%M} UTC", now)
    if before.kind is TokenKind.FILEVAULT_ESCROW_KEY:
        return _asked(seen, device, before, SECURITY_INFO, now, again_at=now + ASK_DAILY)
    if before.state is EscrowState.UNCERTAIN and device.state.is_served:
        # It was asked, and could not say. (row 7b)
        uuid = follow_up(before, "again", now)
        asked = verify_again(replace(before, due_at=None), uuid, now)
        return of_turn(device, before, asked, now)
    return News(escrows=(replace(before, due_at=None),))


def _asked(
    seen: Snapshot,
    device: Enrollment,
    before: Escrow,
    name: str,
    now: datetime,
    *,
    again_at: datetime,
) -> News:
    """One question of this kind in the queue is enough: a device that is away for a month answers one, not thirty."""
    later = replace(before, due_at=again_at)
    if not device.state.is_served or any(one.request_type == name for one in seen.queue):
        return News(escrows=(later,))
    command: LiveCommand = standard_command(device, name, follow_up(before, name, now), now)
    return News(escrows=(later,), enqueue=(command,))


def _postponed(_seen: Snapshot, _device: Enrollment, before: Escrow, now: datetime) -> News:
    return News(escrows=(replace(before, due_at=now + BACK_OFF),))
