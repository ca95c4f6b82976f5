"""The command channel: a report booked, the next command rendered and handed out."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from ostiary.domain.alerts import command_waits_for_key
from ostiary.domain.answer import Declined, Goodbye, HandOut
from ostiary.domain.command import LiveCommand
from ostiary.domain.command_queue import (
    Report,
    ReportAnswer,
    StrayNotLookedAt,
    apply_report,
)
from ostiary.domain.contest import settling
from ostiary.domain.decision import (
    Ask,
    ByCertificate,
    Change,
    CommandMove,
    EscrowView,
    QueueView,
    Snapshot,
)
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.last_look import Look, TargetNotLookedAt
from ostiary.domain.ledger import SealedToken
from ostiary.domain.pairing import CertificateNotPaired
from ostiary.domain.policy import Policy
from ostiary.domain.unopened import Unopened
from ostiary.domain.visitor import DeviceIdentity
from ostiary.ports.clock import Clock
from ostiary.ports.meter import Meter
from ostiary.ports.sealer import EpochUnknown, Sealer
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.connect import ConnectReport, Status
from ostiary.protocol.mdm.redaction import render_result
from ostiary.services.adoption import adopt
from ostiary.services.enrollment import NoPushCertificate
from ostiary.services.farewell import say_goodbye
from ostiary.services.gone_records import decide_whatever_is_gone
from ostiary.services.rendering import CommandDoesNotOpen, CommandWriter
from ostiary.services.reply import Farewell, Media, Reply, UserIsNotManaged
from ostiary.services.secret_reports import SecretReader, Sheet, SheetMemory, read_sheet

log = structlog.get_logger()

MakeProfile = Callable[[Enrollment], Awaitable[bytes]]
"""Mints the enrollment profile with which an erased device comes back."""
_PATIENCE: Final = 5
"""Hand-outs in vain, before a key that is not known here is no matter of seconds any more."""


class CommandChannel:
    """Answers reports: what a device says is booked, and stored, before it is answered."""

    def __init__(
        self,
        enrollments: Enrollments,
        sealer: Sealer,
        clock: Clock,
        policy: Callable[[], Policy],
        meter: Meter,
        secrets: SecretReader,
        make_profile: MakeProfile,
    ) -> None:
        self._make_profile = make_profile
        self._secrets = secrets
        self._sheets = SheetMemory()
        self._enrollments = enrollments
        self._sealer = sealer
        self._writer = CommandWriter(enrollments, sealer)
        self._clock = clock
        self._policy = policy
        self._meter = meter

    async def handle(self, identity: DeviceIdentity, message: ConnectReport) -> Reply | Farewell:
        """Book a report of a proven certificate and answer with the next command, or with nothing.

        Raises:
            Refused, UserIsNotManaged, Unavailable: as the check-in door; never answered 401.
        """
        try:
            return await self._decide(identity, message)
        except CertificateNotPaired:
            policy = self._policy()
            if not await adopt(self._enrollments, identity, message.channel, policy, self._clock):
                raise
            return await self._decide(identity, message)

    async def _decide(self, identity: DeviceIdentity, message: ConnectReport) -> Reply | Farewell:
        now = self._clock.now()
        token = message.auth_token
        brought: tuple[SealedToken, ...] = ()
        sheet: Sheet | None = None
        if message.status is Status.ACKNOWLEDGED:
            brought = await self._secrets.read(identity, message)
            sheet = self._news(identity, message)
        report = Report(
            message=message,
            identity=identity,
            auth_token=self._sealer.digest(identity.tenant, token) if token is not None else None,
            result="" if message.status is Status.IDLE else render_result(message),
            brought=brought,
            sheet=sheet,
            now=now,
        )
        ask = Ask(
            who=_by(identity, message),
            queue=QueueView.WHOLE if message.status is Status.IDLE else QueueView.WITHOUT_DEFERRED,
            reported=message.command_uuid,
            escrows=EscrowView.ALWAYS if brought or sheet else EscrowView.WITH_COMMANDS,
            facts=sheet is not None,
        )
        change, profile = await self._decided(ask, report)
        if sheet is not None and change.facts:
            self._sheets.note(identity.fingerprint, sheet)
        if message.command_uuid is not None and not (change.close or change.moves):
            log.info(
                "report_for_no_live_command",
                command_uuid=message.command_uuid,
                status=message.status,
            )
        self._count(change)
        return await self._answered(ask, report, change, profile)

    async def _answered(
        self, ask: Ask, report: Report, change: Change[ReportAnswer], profile: bytes | None
    ) -> Reply | Farewell:
        """What was decided as a reply. A command that cannot be written ends, and the next one goes out instead."""
        while isinstance(change.answer, HandOut):
            going = change.answer
            try:
                body = await self._writer.write(report.identity, report.message, going, profile)
                return Reply(Media.COMMAND, body)
            except EpochUnknown:
                await self._tell_of_key(ask, going, change)
                raise
            except CommandDoesNotOpen as error:
                unopened = _unopened(change, going.command, error)
            log.error(
                "command_does_not_open",
                command_uuid=unopened.uuid,
                request_type=going.command.request_type,
                why=unopened.sentence,
                record_id=unopened.record_id,
            )
            ended = replace(ask, reported=unopened.uuid)
            change, profile = await self._decided(ended, replace(report, unopened=unopened))
            self._count(change)
        match change.answer:
            case Goodbye() as goodbye:
                return say_goodbye(goodbye)
            case Declined():
                raise UserIsNotManaged
            case _:
                return Reply.EMPTY

    async def _tell_of_key(self, ask: Ask, going: HandOut, change: Change[ReportAnswer]) -> None:
        """A key that stays unknown: the command waits, for it may come from a backup; somebody is told what waits."""
        if _stored(change, going.command).hand_outs <= _PATIENCE:
            return
        log.error("command_waits_for_key", command_uuid=going.command.uuid)

        def told(seen: Snapshot) -> Change[None]:
            device = seen.device
            raised = () if device is None else (command_waits_for_key(device, going.command),)
            return Change(at=change.at, answer=None, alerts=raised)

        await self._enrollments.decide(Ask(who=ask.who), told)

    def _count(self, change: Change[ReportAnswer]) -> None:
        for closed in change.close:
            self._meter.command_closed(closed.request_type, closed.state)

    def _news(self, identity: DeviceIdentity, message: ConnectReport) -> Sheet | None:
        """The facts that the report tells, if they are not those that were stored last."""
        sheet = read_sheet(message)
        if sheet is None or not self._sheets.is_news(identity.fingerprint, sheet):
            return None
        return sheet

    async def _decided(self, ask: Ask, report: Report) -> tuple[Change[ReportAnswer], bytes | None]:
        """Decide; and once more with all that is known of the target where a destructive command is about to leave."""
        policy = self._policy()
        try:
            return await self._asked(ask, report, policy), None
        except StrayNotLookedAt:
            kept = await self._secrets.kept(report.identity, report.message, report.brought)
            return await self._decided(ask, replace(report, kept=kept))
        except TargetNotLookedAt as target:
            profile, lacks = await self._profile_for(target)
            look = Look(expires_after=policy.destructive_expires_after, no_profile=lacks)
            closer = replace(ask, relationships=True, facts=True)
            return await self._asked(closer, replace(report, look=look), policy), profile

    async def _asked(self, ask: Ask, report: Report, policy: Policy) -> Change[ReportAnswer]:
        rule = settling(lambda seen: apply_report(seen, report), policy, report.now)
        uuid = report.message.command_uuid
        return await decide_whatever_is_gone(self._enrollments, ask, rule, uuid=uuid)

    async def _profile_for(self, target: TargetNotLookedAt) -> tuple[bytes | None, str | None]:
        """The profile that goes along, if the command wants one; or why there is none."""
        if not any(reference.is_minted for reference in target.command.references):
            return None, None
        try:
            return await self._make_profile(target.device), None
        except NoPushCertificate as error:
            return None, str(error)


def _stored(change: Change[ReportAnswer], command: LiveCommand) -> CommandMove:
    """How a hand-out was stored."""
    return next(move for move in change.moves if move.uuid == command.uuid)


def _unopened(
    change: Change[ReportAnswer], command: LiveCommand, error: CommandDoesNotOpen
) -> Unopened:
    """What stood in the way of a hand-out, and how it was stored though it did not take place."""
    stored = _stored(change, command)
    return Unopened(
        uuid=command.uuid,
        sent_at=stored.sent_at or change.at,
        hand_outs=stored.hand_outs,
        kind=error.kind,
        record_id=error.record_id,
        is_own=error.is_own,
        is_gone=error.is_gone,
        unwritable=error.unwritable,
    )


def _by(identity: DeviceIdentity, message: ConnectReport) -> ByCertificate:
    return ByCertificate(
        fingerprint=identity.fingerprint, channel=message.channel, tenant=identity.tenant
    )
