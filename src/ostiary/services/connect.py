"""The command channel: a report booked, the next command rendered and handed out."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from ostiary.domain.answer import Declined, Goodbye, HandOut
from ostiary.domain.command import LiveCommand, Reference
from ostiary.domain.command_queue import (
    Report,
    ReportAnswer,
    StrayNotLookedAt,
    apply_report,
)
from ostiary.domain.contest import settling
from ostiary.domain.decision import Ask, ByCertificate, Change, EscrowView, QueueView
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.last_look import Look, TargetNotLookedAt
from ostiary.domain.ledger import SealedToken
from ostiary.domain.pairing import CertificateNotPaired
from ostiary.domain.policy import Policy
from ostiary.domain.token import Holder, RecordId, TenantId, TokenKind
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import Unavailable
from ostiary.formats.plist import PlistValue
from ostiary.ports.clock import Clock
from ostiary.ports.meter import Meter
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.commands import decode_raw_command, standard_form
from ostiary.protocol.mdm.connect import CommandUuid, ConnectReport, Status, encode_command
from ostiary.protocol.mdm.filling import fill
from ostiary.protocol.mdm.redaction import render_result
from ostiary.secret import Secret
from ostiary.services.adoption import adopt
from ostiary.services.enrollment import NoPushCertificate
from ostiary.services.farewell import say_goodbye
from ostiary.services.reply import Farewell, Media, Reply, UserIsNotManaged
from ostiary.services.secret_reports import SecretReader, Sheet, SheetMemory, read_sheet

log = structlog.get_logger()

MakeProfile = Callable[[Enrollment], Awaitable[bytes]]
"""Mints the enrollment profile with which an erased device comes back."""
COMMAND_KIND: Final = "command"
_DATA: Final = frozenset({TokenKind.UNLOCK, TokenKind.BOOTSTRAP})


class SecretGone(Unavailable):
    """The ledger has no record of a secret that a queued command carries."""

    hint = "The database was damaged or restored in part; restore it whole, or cancel the command."


class CommandChannel:
    """Answers reports. The payload of a command is in clear only here, between the commit and the wire."""

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
        for closed in change.close:
            self._meter.command_closed(closed.request_type, closed.state)
        if message.command_uuid is not None and not (change.close or change.moves):
            log.info(
                "report_for_no_live_command",
                command_uuid=message.command_uuid,
                status=message.status,
            )
        match change.answer:
            case HandOut(command, fills, with_profile):
                minted = profile if with_profile else None
                device = Holder(message.channel.device_id)
                body = await self._render(identity.tenant, device, command, fills, minted)
                return Reply(Media.COMMAND, body)
            case Goodbye() as goodbye:
                return say_goodbye(goodbye)
            case Declined():
                raise UserIsNotManaged
            case _:
                return Reply.EMPTY

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
        return await self._enrollments.decide(
            ask, settling(lambda seen: apply_report(seen, report), policy, report.now)
        )

    async def _profile_for(self, target: TargetNotLookedAt) -> tuple[bytes | None, str | None]:
        """The profile that goes along, if the command wants one; or why there is none."""
        if not any(reference.is_minted for reference in target.command.references):
            return None, None
        try:
            return await self._make_profile(target.device), None
        except NoPushCertificate as error:
            return None, str(error)

    async def _render(
        self,
        tenant: TenantId,
        device: Holder,
        command: LiveCommand,
        fills: tuple[tuple[Reference, RecordId], ...],
        profile: bytes | None,
    ) -> bytes:
        """The command's body, its references filled with the values as they are now. (escrowed-secrets.md 4.0.2 rule 6)

        Each is opened as this device's: a pointer that names another's record gives nothing away. (rule 3)
        """
        if not command.payload:
            body = dict(standard_form(command.request_type))
        else:
            written = self._sealer.unseal(command.payload, command_label(tenant, command.uuid))
            if not fills and profile is None:
                return written.reveal()
            body = dict(decode_raw_command(written.reveal()).command.as_mapping())
        for reference, record_id in fills:
            label = SealLabel(
                tenant=tenant, holder=device, kind=reference.kind, record_id=record_id
            )
            value = await self._value(command, label)
            fill(body, reference.key, _written(reference.kind, value))
        for reference in command.references:
            if profile is not None and reference.is_minted:
                fill(body, reference.key, profile)
        return encode_command(command.uuid, body)

    async def _value(self, command: LiveCommand, label: SealLabel) -> Secret:
        record = await self._enrollments.load_record(label.record_id)
        if record is None:
            raise SecretGone(command_uuid=command.uuid, record_id=label.record_id)
        return self._sealer.unseal(record.value, label)


def _written(kind: TokenKind, value: Secret) -> PlistValue:
    """Tokens are data in a command, passwords and codes are text.

    A recovery key may be any bytes: as text it is one that the Mac refuses, and no report is refused for it here.
    """
    return value.reveal() if kind in _DATA else value.reveal().decode("utf-8", "replace")


def command_label(tenant: TenantId, uuid: CommandUuid) -> SealLabel:
    """What a queued payload is sealed under: it opens as this command's only."""
    return SealLabel(
        tenant=tenant, holder=Holder(uuid), kind=COMMAND_KIND, record_id=RecordId(uuid)
    )


def _by(identity: DeviceIdentity, message: ConnectReport) -> ByCertificate:
    return ByCertificate(
        fingerprint=identity.fingerprint, channel=message.channel, tenant=identity.tenant
    )
