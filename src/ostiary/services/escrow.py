"""The escrow desk: secrets are set, changed, fetched and verified here, and each value is stored before its command."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import uuid4

from ostiary.domain.auto_admin import LOOK_FOR_GUID, AdminAccountNotKnown, apply_deferral
from ostiary.domain.decision import (
    Ask,
    AuditEntry,
    ByName,
    Change,
    EscrowView,
    QueueView,
    Snapshot,
)
from ostiary.domain.enqueueing import Order, Queued
from ostiary.domain.escrow_orders import (
    SecretOrder,
    apply_secret_order,
    apply_verify,
    verify_command,
)
from ostiary.domain.escrow_wishes import (
    CannotBeChanged,
    UnlockedByNothing,
    Verb,
    require_allowed,
)
from ostiary.domain.facts import SheetName
from ostiary.domain.first_commands import DEVICE_INFORMATION
from ostiary.domain.ledger import SealedToken
from ostiary.domain.operator import require_known
from ostiary.domain.token import TenantId, TokenKind
from ostiary.ports.clock import Clock
from ostiary.ports.draws import Draws
from ostiary.ports.escrow_keys import EscrowKey, EscrowKeys
from ostiary.ports.sealer import Sealer
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm import account_commands, secret_commands
from ostiary.protocol.mdm.commands import Command, standard_form
from ostiary.protocol.mdm.connect import CommandUuid, encode_command
from ostiary.protocol.mdm.device_information import HardwareFacts
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.password_hash import salted_sha512_pbkdf2
from ostiary.protocol.mdm.passwords import require_admin_password, require_lock_password
from ostiary.secret import Secret
from ostiary.services.caller import Caller, Scope
from ostiary.services.rendering import command_label
from ostiary.services.sealing import seal_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to become of one secret of one device."""

    enrollment_id: EnrollmentId
    kind: TokenKind
    value: Secret | None = None
    """None: one is drawn."""
    clears: bool = False
    unlock_with: Secret | None = None
    """The password of a FileVault user, for a Mac whose recovery key we do not hold."""
    reason: str = ""

    @property
    def verb(self) -> Verb:
        """What it comes to."""
        if self.clears:
            return Verb.CLEAR
        return Verb.ROTATE if self.value is None else Verb.SET


@dataclass(frozen=True, slots=True, kw_only=True)
class Changing:
    """What was queued for a wish, and what has to come first, if anything has."""

    uuid: CommandUuid
    waits_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A command and the sealed values around it."""

    command: Command
    value: Secret | None = None
    key: str | None = None
    current_key: str | None = None
    escrow_key: EscrowKey | None = None


_NEW, _CURRENT = "NewPassword", "CurrentPassword"
_UNLOCK: Final = "FileVaultUnlock/Password"


class EscrowDesk:
    """Whatever changes a secret comes through here: drawn or given, sealed, committed, and only then sent."""

    def __init__(
        self,
        enrollments: Enrollments,
        sealer: Sealer,
        keys: EscrowKeys,
        draws: Draws,
        clock: Clock,
    ) -> None:
        self._enrollments = enrollments
        self._sealer = sealer
        self._keys = keys
        self._draws = draws
        self._clock = clock

    async def change(
        self,
        wish: Wish,
        caller: Caller,
        *,
        uuid: CommandUuid | None = None,
        pushes: bool = True,
    ) -> CommandUuid:
        """Set or change a secret, or have the device bring another one.

        Raises:
            ScopeMissing, EnrollmentUnknown, NotEnrolled, CannotBeChanged, UnlockedByNothing
            UnusablePassword: the value that was given cannot be typed there.
            SetUnderWay, SecretUncertain: one change at a time.
            RecoveryKeyNotHeld: nothing is at hand to rotate a FileVault key with.
            CommandUuidTaken
            Refused: the device cannot do that.
        """
        caller.require(Scope.COMMANDS_SECRET)
        require_allowed(wish.verb, wish.kind)
        if wish.unlock_with is not None and wish.kind is not TokenKind.FILEVAULT_KEY:
            raise UnlockedByNothing(kind=wish.kind.value)
        prepared = await self._prepared(wish, caller)
        request_type = str(prepared.command["RequestType"])
        order = self._order(request_type, uuid or _fresh_uuid(), caller, prepared.command)
        return await self._send(wish, prepared, caller, replace(order, pushes=pushes))

    async def change_or_defer(
        self, wish: Wish, caller: Caller, *, again_after: timedelta = LOOK_FOR_GUID
    ) -> Changing:
        """The same; where a Mac must tell its account's GUID first, it is asked, and the rotation follows. (AA-03)

        A password that somebody chose is not kept waiting: it is refused, as `change` refuses it.
        """
        try:
            return Changing(uuid=await self.change(wish, caller))
        except AdminAccountNotKnown:
            if wish.value is not None:
                raise
        question = self._order(DEVICE_INFORMATION, _fresh_uuid(), caller)
        audit, again_at = _audit(wish, caller), question.now + again_after
        change = await self._enrollments.decide(
            replace(_ask(caller.tenant, wish.enrollment_id), queue=QueueView.WHOLE),
            lambda seen: apply_deferral(seen, wish.enrollment_id, question, audit, again_at),
        )
        return Changing(uuid=change.answer.uuid, waits_for="the GUID of the account")

    async def verify(
        self, enrollment_id: EnrollmentId, kind: TokenKind, caller: Caller
    ) -> CommandUuid:
        """Ask the device whether it holds what we believe.

        Raises:
            ScopeMissing, CannotBeVerified, EnrollmentUnknown, SecretNotHeld, NothingToVerify
        """
        caller.require(Scope.COMMANDS_SECRET)
        require_allowed(Verb.VERIFY, kind)
        order = self._order(verify_command(kind), _fresh_uuid(), caller)
        ask = _ask(caller.tenant, enrollment_id)
        change = await self._enrollments.decide(
            ask, lambda seen: apply_verify(seen, enrollment_id, kind, order)
        )
        return change.answer.uuid

    async def _prepared(self, wish: Wish, caller: Caller) -> _Prepared:
        match wish.kind:
            case TokenKind.RECOVERY_LOCK:
                return self._lock_password(
                    wish, secret_commands.set_recovery_lock(clears=wish.clears)
                )
            case TokenKind.FIRMWARE_PASSWORD:
                return self._lock_password(
                    wish, secret_commands.set_firmware_password(clears=wish.clears)
                )
            case TokenKind.ADMIN_PASSWORD:
                return await self._admin_password(wish, caller)
            case TokenKind.FILEVAULT_KEY:
                return await self._rotation(wish)
            case TokenKind.BYPASS_DEVICE:
                return _Prepared(command=secret_commands.activation_lock_bypass_code())
            case _:
                raise CannotBeChanged(kind=wish.kind.value)  # refused before, by `require_allowed`

    def _lock_password(self, wish: Wish, command: Command) -> _Prepared:
        if wish.clears:
            return _Prepared(command=command, current_key=_CURRENT)
        value = (
            require_lock_password(wish.value) if wish.value is not None else self._draws.password()
        )
        return _Prepared(command=command, value=value, key=_NEW, current_key=_CURRENT)

    async def _admin_password(self, wish: Wish, caller: Caller) -> _Prepared:
        guid = await self._admin_guid(wish.enrollment_id, caller)
        value = (
            require_admin_password(wish.value) if wish.value is not None else self._draws.password()
        )
        salt = self._draws.salt()
        hashed = await asyncio.to_thread(salted_sha512_pbkdf2, value, salt=salt)
        command = account_commands.set_auto_admin_password(guid=guid, password_hash=hashed)
        return _Prepared(command=command, value=value)

    async def _rotation(self, wish: Wish) -> _Prepared:
        key = await self._make_key(wish.enrollment_id)
        command = dict(secret_commands.rotate_filevault_key(reply_certificate=key.certificate))
        if wish.unlock_with is not None:
            command["FileVaultUnlock"] = {"Password": wish.unlock_with.reveal().decode()}
            return _Prepared(command=command, escrow_key=key)
        return _Prepared(command=command, current_key=_UNLOCK, escrow_key=key)

    async def _admin_guid(self, enrollment_id: EnrollmentId, caller: Caller) -> str:
        def rule(seen: Snapshot) -> Change[str | None]:
            require_known(seen, enrollment_id)
            sheet = next((one for one in seen.facts if one.name is SheetName.DEVICE), None)
            accounts = HardwareFacts.read(sheet.facts).admin_accounts if sheet else None
            return Change(at=self._clock.now(), answer=accounts[0].guid if accounts else None)

        who = ByName(tenant=caller.tenant, enrollment_id=enrollment_id)
        guid = (await self._enrollments.decide(Ask(who=who, facts=True), rule)).answer
        if guid is None:
            raise AdminAccountNotKnown(enrollment_id=enrollment_id)
        return guid

    async def _send(
        self, wish: Wish, prepared: _Prepared, caller: Caller, order: Order
    ) -> CommandUuid:
        wanted = SecretOrder(
            order=order,
            kind=wish.kind,
            candidate=None
            if prepared.value is None
            else self._sealed(caller.tenant, wish, prepared.value),
            key=prepared.key,
            current_key=prepared.current_key,
            escrow_key=None
            if prepared.escrow_key is None
            else self._sealed(
                caller.tenant,
                replace(wish, kind=TokenKind.FILEVAULT_ESCROW_KEY),
                prepared.escrow_key.bundle,
            ),
        )
        audit = _audit(wish, caller)

        def rule(seen: Snapshot) -> Change[Queued]:
            return replace(apply_secret_order(seen, wish.enrollment_id, wanted), audit=audit)

        ask = replace(_ask(caller.tenant, wish.enrollment_id), reported=order.uuid)
        await self._enrollments.decide(ask, rule)
        return order.uuid

    def _order(
        self, request_type: str, uuid: CommandUuid, caller: Caller, command: Command | None = None
    ) -> Order:
        """The command as it waits in the queue, sealed; the standard form of its type if no other is given."""
        written = Secret(encode_command(uuid, command or standard_form(request_type)))
        return Order(
            uuid=uuid,
            request_type=request_type,
            payload=self._sealer.seal(written, command_label(caller.tenant, uuid)),
            source=caller.name,
            pushes=True,
            now=self._clock.now(),
        )

    async def _make_key(self, enrollment_id: EnrollmentId) -> EscrowKey:
        return await self._keys.make(enrollment_id, self._clock.now())

    def _sealed(self, tenant: TenantId, wish: Wish, value: Secret) -> SealedToken:
        return seal_for(
            self._sealer, tenant, wish.enrollment_id, wish.kind, value, self._clock.now()
        )


def _ask(tenant: TenantId, enrollment_id: EnrollmentId) -> Ask:
    who = ByName(tenant=tenant, enrollment_id=enrollment_id)
    return Ask(who=who, escrows=EscrowView.ALWAYS, facts=True)


def _audit(wish: Wish, caller: Caller) -> AuditEntry:
    return AuditEntry(
        tenant=caller.tenant,
        actor=caller.name,
        verb=f"change {wish.kind}",
        subject=wish.enrollment_id,
        reason=wish.reason,
    )


def _fresh_uuid() -> CommandUuid:
    return CommandUuid(str(uuid4()).upper())
