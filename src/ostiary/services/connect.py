"""The command channel: a report booked, the next command rendered and handed out."""

from collections.abc import Callable
from typing import Final

import structlog

from ostiary.domain.answer import Declined, Goodbye, HandOut
from ostiary.domain.command import LiveCommand, TokenReference
from ostiary.domain.command_queue import Report, apply_report
from ostiary.domain.contest import settling
from ostiary.domain.decision import Ask, ByCertificate, QueueView
from ostiary.domain.pairing import CertificateNotPaired
from ostiary.domain.policy import Policy
from ostiary.domain.token import Holder, RecordId, TenantId
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import Unavailable
from ostiary.ports.clock import Clock
from ostiary.ports.meter import Meter
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.commands import standard_form
from ostiary.protocol.mdm.connect import CommandUuid, ConnectReport, Status, encode_command
from ostiary.protocol.mdm.redaction import render_result
from ostiary.secret import Secret
from ostiary.services.adoption import adopt
from ostiary.services.farewell import say_goodbye
from ostiary.services.reply import Farewell, Media, Reply, UserIsNotManaged

log = structlog.get_logger()

COMMAND_KIND: Final = "command"


class UnlockTokenGone(Unavailable):
    """The unlock token that a queued command needs is no longer current."""

    hint = "Cancel the command; `ostiary token history` shows what became of the token."


class CommandChannel:
    """Answers reports. The payload of a command is in clear only here, between the commit and the wire."""

    def __init__(
        self,
        enrollments: Enrollments,
        sealer: Sealer,
        clock: Clock,
        policy: Callable[[], Policy],
        meter: Meter,
    ) -> None:
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
        report = Report(
            message=message,
            identity=identity,
            auth_token=self._sealer.digest(identity.tenant, token) if token is not None else None,
            result="" if message.status is Status.IDLE else render_result(message),
            now=now,
        )
        ask = Ask(
            who=_by(identity, message),
            queue=QueueView.WHOLE if message.status is Status.IDLE else QueueView.WITHOUT_DEFERRED,
            reported=message.command_uuid,
        )
        change = await self._enrollments.decide(
            ask, settling(lambda seen: apply_report(seen, report), self._policy(), now)
        )
        for closed in change.close:
            self._meter.command_closed(closed.request_type, closed.state)
        if message.command_uuid is not None and not (change.close or change.moves):
            log.info(
                "report_for_no_live_command",
                command_uuid=message.command_uuid,
                status=message.status,
            )
        match change.answer:
            case HandOut(command, unlock):
                return Reply(Media.COMMAND, await self._render(identity.tenant, command, unlock))
            case Goodbye() as goodbye:
                return say_goodbye(goodbye)
            case Declined():
                raise UserIsNotManaged
            case _:
                return Reply.EMPTY

    async def _render(
        self, tenant: TenantId, command: LiveCommand, unlock: RecordId | None
    ) -> bytes:
        """The command's body, its reference filled with the token as it is now. (escrowed-secrets.md 4.0.2 rule 6)"""
        if command.payload:
            # Rendered when it was queued; only the standard form of a command refers to anything.
            return self._sealer.unseal(
                command.payload, command_label(tenant, command.uuid)
            ).reveal()
        body = dict(standard_form(command.request_type))
        if command.reference is TokenReference.LATEST_UNLOCK:
            body["UnlockToken"] = (await self._unlock_token(command, unlock)).reveal()
        return encode_command(command.uuid, body)

    async def _unlock_token(self, command: LiveCommand, unlock: RecordId | None) -> Secret:
        record = await self._enrollments.load_record(unlock) if unlock is not None else None
        if record is None:
            raise UnlockTokenGone(command_uuid=command.uuid)
        label = SealLabel(
            tenant=record.tenant, holder=record.holder, kind=record.kind, record_id=record.id
        )
        return self._sealer.unseal(record.value, label)


def command_label(tenant: TenantId, uuid: CommandUuid) -> SealLabel:
    """What a queued payload is sealed under: it opens as this command's only."""
    return SealLabel(
        tenant=tenant, holder=Holder(uuid), kind=COMMAND_KIND, record_id=RecordId(uuid)
    )


def _by(identity: DeviceIdentity, message: ConnectReport) -> ByCertificate:
    return ByCertificate(
        fingerprint=identity.fingerprint, channel=message.channel, tenant=identity.tenant
    )
