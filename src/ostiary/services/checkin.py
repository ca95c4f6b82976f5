"""The check-in door: each message sealed, decided in one load and one commit, and answered after the commit."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from ostiary.domain.answer import (
    Accepted,
    Declined,
    EscrowedToken,
    Goodbye,
    LoginChallenge,
    LoginDecided,
    Refusal,
)
from ostiary.domain.authenticate import Arrival, apply_authenticate
from ostiary.domain.auto_admin import AdminPasswordWanted, admin_command_uuid
from ostiary.domain.bootstrap import apply_get, apply_set
from ostiary.domain.check_out import apply_check_out
from ostiary.domain.contest import settling
from ostiary.domain.decision import Ask, ByCertificate, Change, EscrowView, QueueView, Snapshot
from ostiary.domain.enrollment import EnrollmentKey
from ostiary.domain.ledger import SealedToken
from ostiary.domain.pairing import CertificateNotPaired, require_enrolled, require_paired
from ostiary.domain.policy import Policy
from ostiary.domain.push_value import encode_push_value
from ostiary.domain.returning import ReturnAsked, ReturnDeclined, ReturnGranted, apply_return
from ostiary.domain.token import Holder, KeyedDigest, RecordId, TokenKind, TokenRecord
from ostiary.domain.token_update import Update, apply_token_update
from ostiary.domain.user_login import Login, apply_login
from ostiary.domain.visitor import DeviceIdentity
from ostiary.formats import plist
from ostiary.ports.clock import Clock
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import AnswerT, Enrollments, StorageFailed
from ostiary.ports.trace import Trace, no_trace
from ostiary.protocol.mdm.checkin import (
    Authenticate,
    CheckinMessage,
    CheckOut,
    DeclarativeManagement,
    GetBootstrapToken,
    GetToken,
    ReturnToService,
    SetBootstrapToken,
    TokenUpdate,
    UserAuthenticate,
)
from ostiary.protocol.mdm.identity import Channel, EnrollmentId
from ostiary.secret import Secret
from ostiary.services.admin_account import AdminAccounts, account_of
from ostiary.services.adoption import adopt
from ostiary.services.bootstrap_reads import BootstrapReads
from ostiary.services.connect import MakeProfile
from ostiary.services.declarations import answer_declarative_management
from ostiary.services.farewell import say_goodbye
from ostiary.services.gone_records import decide_whatever_is_gone
from ostiary.services.identifiers import new_identifier
from ostiary.services.minted_tokens import refuse_to_mint
from ostiary.services.network_users import NetworkUsers
from ostiary.services.reply import Farewell, Media, Reply, UserIsNotManaged

log = structlog.get_logger()

Answer = Accepted | Declined | Goodbye | Refusal | EscrowedToken | LoginChallenge | LoginDecided


class CheckinService:
    """Handles the nine messages. One door: what holds for every message is written here, once."""

    def __init__(
        self,
        enrollments: Enrollments,
        sealer: Sealer,
        clock: Clock,
        policy: Callable[[], Policy],
        *,
        network_users: NetworkUsers,
        admins: AdminAccounts,
        make_profile: MakeProfile,
        trace: Trace = no_trace,
    ) -> None:
        self._admins = admins
        self._make_profile = make_profile
        self._enrollments = enrollments
        self._sealer = sealer
        self._clock = clock
        self._policy = policy
        self._network_users = network_users
        self._trace = trace
        self._bootstrap_reads = BootstrapReads()

    async def handle(self, identity: DeviceIdentity, message: CheckinMessage) -> Reply | Farewell:
        """Answer one message of a proven certificate. What was to be kept is on disk when this returns.

        Raises:
            Refused, Malformed: the device may not, or said nonsense; never answered 401.
            UserIsNotManaged: answered 410, user channels only.
            Unavailable: nothing was stored; the device repeats.
        """
        try:
            return await self._decide(identity, message)
        except CertificateNotPaired:
            if isinstance(message, Authenticate) or not await self._adopt(identity, message):
                raise
            return await self._decide(identity, message)

    async def _decide(self, identity: DeviceIdentity, message: CheckinMessage) -> Reply | Farewell:
        match message:
            case Authenticate():
                return await self._authenticate(identity, message)
            case TokenUpdate():
                return await self._token_update(identity, message)
            case CheckOut():
                return await self._check_out(identity, message)
            case UserAuthenticate():
                return await self._user_authenticate(identity, message)
            case SetBootstrapToken():
                return await self._set_bootstrap_token(identity, message)
            case GetBootstrapToken():
                return await self._get_bootstrap_token(identity, message)
            case GetToken():
                return await self._get_token(identity, message)
            case DeclarativeManagement():
                return await self._declarative_management(identity, message)
            case ReturnToService():
                return await self._return_to_service(identity, message)

    async def _authenticate(
        self, identity: DeviceIdentity, message: Authenticate
    ) -> Reply | Farewell:
        now = self._clock.now()
        arrival = Arrival(
            message=message,
            identity=identity,
            key=EnrollmentKey(new_identifier(now)),
            now=now,
        )
        ask = Ask(
            who=_by(identity, message.channel),
            relationships=True,
            topic=message.topic,
            escrows=EscrowView.ALWAYS,
        )
        change = await self._ask(ask, lambda seen: apply_authenticate(seen, arrival))
        return _plain(change.answer)

    async def _token_update(
        self, identity: DeviceIdentity, message: TokenUpdate
    ) -> Reply | Farewell:
        if message.unlock_token is not None and message.channel.is_user_channel:
            log.warning("unlock_token_on_user_channel_dropped", enrollment_id=message.channel.id)
        address = Secret(
            encode_push_value(message.push.token.reveal(), message.push.magic.reveal())
        )
        keeps_unlock = message.unlock_token is not None and not message.channel.is_user_channel
        now = self._clock.now()
        update = Update(
            message=message,
            identity=identity,
            push=self._sealed(identity, message.channel.id, TokenKind.PUSH, address, now),
            unlock=self._sealed(
                identity, message.channel.id, TokenKind.UNLOCK, message.unlock_token, now
            )
            if keeps_unlock and message.unlock_token is not None
            else None,
            auth_token=self._digest(identity, message.auth_token),
            policy=self._policy(),
            now=now,
        )
        self._trace("sealed")
        ask = Ask(
            who=_by(identity, message.channel),
            topic=message.push.topic,
            # Only a device that says it waits may get its release again, unless one is on its way. (TU-12)
            queue=QueueView.WHOLE if message.awaiting_configuration else QueueView.NONE,
            escrows=EscrowView.WHILE_ENROLLING,
        )
        try:
            change = await self._ask(ask, lambda seen: apply_token_update(seen, update))
        except AdminPasswordWanted:
            drawn = await self._with_admin(identity, update)
            change = await self._ask(ask, lambda seen: apply_token_update(seen, drawn))
        return _plain(change.answer)

    async def _with_admin(self, identity: DeviceIdentity, update: Update) -> Update:
        """The same, with an administrator account for this Mac; drawn only where one is made. (4.8)"""
        admin = await self._admins.draw(
            account_of(update.policy),
            identity.tenant,
            update.message.channel.id,
            admin_command_uuid(update.push.record_id),
            update.now,
        )
        return replace(update, admin=admin)

    async def _check_out(self, identity: DeviceIdentity, message: CheckOut) -> Reply | Farewell:
        now = self._clock.now()
        ask = Ask(who=_by(identity, message.channel), relationships=True, escrows=EscrowView.ALWAYS)
        change = await self._ask(ask, lambda seen: apply_check_out(seen, message, identity, now))
        return _plain(change.answer)

    async def _user_authenticate(
        self, identity: DeviceIdentity, message: UserAuthenticate
    ) -> Reply | Farewell:
        token = Secret(secrets.token_urlsafe(32).encode())
        now = self._clock.now()
        login = Login(
            message=message,
            identity=identity,
            nonce=secrets.token_hex(16),
            auth_token=self._sealer.digest(identity.tenant, token),
            answered=self._network_users.prove(message.digest_response),
            key=EnrollmentKey(new_identifier(now)),
            policy=self._policy(),
            now=now,
        )
        change = await self._ask(
            Ask(who=_by(identity, message.channel)), lambda seen: apply_login(seen, login)
        )
        match change.answer:
            case LoginChallenge(nonce):
                challenge = "" if nonce is None else self._network_users.challenge(nonce)
                return Reply(Media.PLIST, plist.encode({"DigestChallenge": challenge}))
            case LoginDecided(proven):
                given = token.reveal().decode() if proven else ""
                return Reply(Media.PLIST, plist.encode({"AuthToken": given}))
            case answer:
                return _plain(answer)

    async def _set_bootstrap_token(
        self, identity: DeviceIdentity, message: SetBootstrapToken
    ) -> Reply | Farewell:
        token = None
        now = self._clock.now()
        if message.bootstrap_token is not None:
            holder = message.channel.id if message.channel else await self._bound_id(identity)
            token = self._sealed(
                identity, holder, TokenKind.BOOTSTRAP, message.bootstrap_token, now
            )
        self._trace("sealed")
        change = await self._ask(
            Ask(who=_by(identity, message.channel)),
            lambda seen: apply_set(seen, message.channel, token, identity, now),
        )
        return _plain(change.answer)

    async def _get_bootstrap_token(
        self, identity: DeviceIdentity, message: GetBootstrapToken
    ) -> Reply | Farewell:
        now = self._clock.now()
        reads = self._bootstrap_reads.count(identity.fingerprint, now)
        change = await self._shown(
            Ask(who=_by(identity, message.channel), value_of=TokenKind.BOOTSTRAP),
            lambda seen: apply_get(seen, message.channel, identity, now, reads_today=reads),
        )
        match change.answer:
            case EscrowedToken(None, _):
                log.warning("bootstrap_token_asked_and_none_held", fingerprint=identity.fingerprint)
                return Reply(Media.PLIST, plist.encode({"BootstrapToken": b""}))
            case EscrowedToken(record, device_id) if record is not None:
                value = self._opened(identity, device_id, record)
                log.info(
                    "bootstrap_token_handed_out",
                    enrollment_id=record.holder,
                    generation=record.generation,
                )
                return Reply(Media.PLIST, plist.encode({"BootstrapToken": value.reveal()}))
            case answer:
                return _plain(answer)

    async def _get_token(self, identity: DeviceIdentity, message: GetToken) -> Reply | Farewell:
        gone = await self._served(identity, message.channel)
        return gone or refuse_to_mint(message)

    async def _declarative_management(
        self, identity: DeviceIdentity, message: DeclarativeManagement
    ) -> Reply | Farewell:
        gone = await self._served(identity, message.channel, enrolled=True)
        return gone or answer_declarative_management(message)

    async def _return_to_service(
        self, identity: DeviceIdentity, message: ReturnToService
    ) -> Reply | Farewell:
        now, policy = self._clock.now(), self._policy()
        reads = self._bootstrap_reads.count(identity.fingerprint, now)
        asked = ReturnAsked(
            channel=message.channel, identity=identity, allowed=policy.return_to_service, now=now
        )
        ask = Ask(who=_by(identity, message.channel), value_of=TokenKind.BOOTSTRAP, facts=True)
        change = await self._ask(ask, lambda seen: apply_return(seen, asked, reads_today=reads))
        match change.answer:
            case ReturnDeclined():
                return _return_reply({"Enabled": False})
            case ReturnGranted(record, comes_by_profile):
                granted: dict[str, plist.PlistValue] = {"Enabled": True}
                if record is not None:
                    value = self._opened(identity, message.channel.device_id, record)
                    granted["BootstrapToken"] = value.reveal()
                if comes_by_profile is not None:
                    granted["MDMProfileData"] = await self._make_profile(comes_by_profile)
                log.info("return_to_service_granted", enrollment_id=message.channel.id)
                return _return_reply(granted)
            case goodbye:
                return say_goodbye(goodbye)

    async def _served(
        self, identity: DeviceIdentity, channel: Channel, *, enrolled: bool = False
    ) -> Farewell | None:
        """Check the binding for a message that changes nothing; a farewell if the operator released the device."""
        now = self._clock.now()

        def rule(seen: Snapshot) -> Change[Accepted | Goodbye]:
            device = require_paired(seen, identity, channel)
            if isinstance(device, Goodbye):
                return Change(at=now, answer=device)
            require_enrolled(device.state, device.id, enrolled=enrolled)
            return Change(at=now, answer=Accepted(), seen=device.key)

        change = await self._ask(Ask(who=_by(identity, channel)), rule)
        return say_goodbye(change.answer) if isinstance(change.answer, Goodbye) else None

    async def _ask(self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]) -> Change[AnswerT]:
        return await decide_whatever_is_gone(
            self._enrollments, ask, settling(rule, self._policy(), self._clock.now())
        )

    async def _shown(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        """What is held is shown also while nothing can be written down about its use: somebody waits to log in."""
        try:
            return await self._ask(ask, rule)
        except StorageFailed:
            change = await self._ask(ask, lambda seen: replace(rule(seen), proofs=(), alerts=()))
            log.error("bootstrap_token_read_not_written_down", why="the database takes no changes")
            return change

    async def _adopt(self, identity: DeviceIdentity, message: CheckinMessage) -> bool:
        channel = message.channel
        if channel is None:
            return False
        return await adopt(self._enrollments, identity, channel, self._policy(), self._clock)

    async def _bound_id(self, identity: DeviceIdentity) -> EnrollmentId:
        """Whom the certificate speaks for, for a message that names nobody. (1.3.6)"""
        now = self._clock.now()

        def rule(seen: Snapshot) -> Change[EnrollmentId]:
            if seen.device is None:
                raise CertificateNotPaired(fingerprint=identity.fingerprint)
            return Change(at=now, answer=seen.device.id)

        change = await self._enrollments.decide(Ask(who=_by(identity, None)), rule)
        return change.answer

    def _sealed(
        self,
        identity: DeviceIdentity,
        holder: EnrollmentId,
        kind: TokenKind,
        value: Secret,
        now: datetime,
    ) -> SealedToken:
        record_id = RecordId(new_identifier(now))
        label = SealLabel(
            tenant=identity.tenant, holder=Holder(holder), kind=kind, record_id=record_id
        )
        return SealedToken(
            record_id=record_id,
            kind=kind,
            value=self._sealer.seal(value, label),
            digest=self._sealer.digest(identity.tenant, value),
            size=len(value),
        )

    def _opened(
        self, identity: DeviceIdentity, device_id: EnrollmentId, record: TokenRecord
    ) -> Secret:
        """The value, as the bootstrap token of whoever asks: another device's does not open. (escrowed-secrets.md 4.0.2 rule 3)"""
        label = SealLabel(
            tenant=identity.tenant,
            holder=Holder(device_id),
            kind=TokenKind.BOOTSTRAP,
            record_id=record.id,
        )
        return self._sealer.unseal(record.value, label)

    def _digest(self, identity: DeviceIdentity, value: Secret | None) -> KeyedDigest | None:
        return None if value is None else self._sealer.digest(identity.tenant, value)


def _by(identity: DeviceIdentity, channel: Channel | None) -> ByCertificate:
    return ByCertificate(fingerprint=identity.fingerprint, channel=channel, tenant=identity.tenant)


def _return_reply(said: dict[str, plist.PlistValue]) -> Reply:
    return Reply(Media.PLIST, plist.encode({"ReturnToService": said}))


def _plain(answer: Answer) -> Reply | Farewell:
    """The reply to an answer that carries nothing to say."""
    match answer:
        case Goodbye():
            return say_goodbye(answer)
        case Declined():
            raise UserIsNotManaged
        case Refusal(error):
            raise error
        case _:
            return Reply.EMPTY
