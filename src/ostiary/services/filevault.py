"""FileVault: the profile by which a Mac encrypts its disk and escrows the recovery key here."""

from collections.abc import Callable
from uuid import uuid4

from ostiary.domain.decision import Ask, ByName, Change, EscrowView, Snapshot
from ostiary.domain.enqueueing import Order, Queued, apply_order
from ostiary.domain.escrow_orders import candidate_record, escrow_key_held
from ostiary.domain.filevault import require_filevault
from ostiary.domain.ledger import SealedToken
from ostiary.domain.token import Holder, TenantId, TokenKind
from ostiary.ports.clock import Clock
from ostiary.ports.escrow import Escrows
from ostiary.ports.escrow_keys import EscrowKey, EscrowKeys
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.commands import install_profile
from ostiary.protocol.mdm.connect import CommandUuid, encode_command
from ostiary.protocol.mdm.enrollment_profile import EnrollmentUrls
from ostiary.protocol.mdm.filevault_profile import (
    ESCROW,
    FILEVAULT,
    FileVaultOffer,
    FileVaultOptions,
    filevault_profile,
)
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.caller import Caller, Scope
from ostiary.services.rendering import command_label
from ostiary.services.sealing import seal_for


class FileVaultDesk:
    """Sends escrow profiles. A device has one key pair, stored before its certificate leaves, and used again."""

    def __init__(
        self,
        enrollments: Enrollments,
        escrows: Escrows,
        sealer: Sealer,
        keys: EscrowKeys,
        clock: Clock,
        *,
        urls: EnrollmentUrls,
        sign: Callable[[bytes], bytes] | None,
    ) -> None:
        self._enrollments = enrollments
        self._escrows = escrows
        self._sealer = sealer
        self._keys = keys
        self._clock = clock
        self._urls = urls
        self._sign = sign

    async def install(
        self,
        enrollment_id: EnrollmentId,
        caller: Caller,
        *,
        location: str,
        options: FileVaultOptions,
    ) -> CommandUuid:
        """Queue the profile that turns FileVault on and has the recovery key escrowed here.

        Raises:
            ScopeMissing, EnrollmentUnknown, NotEnrolled
            CommandNotForThisPlatform, SystemTooOld: no Mac, or one that knows no escrow.
            NotByAutomatedEnrollment, NotAwaiting: in Setup Assistant alone, and the Mac is not there.
            ProfileNotForThisEnrollment: somebody's own Mac, whose disk Apple lets nobody else encrypt.
            FileVaultTextUnusable
        """
        caller.require(Scope.COMMANDS_SECRET)
        held = await self._held_key(caller.tenant, Holder(enrollment_id))
        key = held or await self._keys.make(enrollment_id, self._clock.now())
        offer = FileVaultOffer(
            urls=self._urls,
            device=enrollment_id,
            certificate=key.certificate,
            location=location,
            options=options,
        )
        profile = filevault_profile(offer)
        signed = self._sign(profile) if self._sign is not None else profile
        order = self._order(caller, signed)
        made = self._sealed(caller.tenant, enrollment_id, key.bundle) if held is None else None
        ask = Ask(
            who=ByName(tenant=caller.tenant, enrollment_id=enrollment_id),
            escrows=EscrowView.ALWAYS,
            facts=True,
        )

        def rule(seen: Snapshot) -> Change[Queued]:
            queued = _queue_with_key(seen, enrollment_id, order, made)
            require_filevault(queued.answer.enrollment, options, seen.facts)
            return queued

        await self._enrollments.decide(ask, rule)
        return order.uuid

    async def _held_key(self, tenant: TenantId, holder: Holder) -> EscrowKey | None:
        """The key pair in force, or None if this device never had one."""
        found = await self._escrows.find(tenant, holder)
        held = next((one for one in found if one.kind is TokenKind.FILEVAULT_ESCROW_KEY), None)
        if held is None or held.current is None:
            return None
        record = await self._enrollments.load_record(held.current)
        if record is None:
            return None
        label = SealLabel(tenant=tenant, holder=holder, kind=record.kind, record_id=record.id)
        return await self._keys.read(self._sealer.unseal(record.value, label))

    def _order(self, caller: Caller, profile: bytes) -> Order:
        uuid = CommandUuid(str(uuid4()).upper())
        written = Secret(encode_command(uuid, install_profile(profile)))
        return Order(
            uuid=uuid,
            request_type="InstallProfile",
            forbidden_payloads=frozenset({FILEVAULT, ESCROW}),
            payload=self._sealer.seal(written, command_label(caller.tenant, uuid)),
            source=caller.name,
            pushes=True,
            now=self._clock.now(),
        )

    def _sealed(self, tenant: TenantId, enrollment_id: EnrollmentId, value: Secret) -> SealedToken:
        kind = TokenKind.FILEVAULT_ESCROW_KEY
        return seal_for(self._sealer, tenant, enrollment_id, kind, value, self._clock.now())


def _queue_with_key(
    seen: Snapshot, enrollment_id: EnrollmentId, order: Order, key: SealedToken | None
) -> Change[Queued]:
    """Raises as `apply_order`."""
    queued = apply_order(seen, enrollment_id, order)
    if key is None:
        return queued
    device = queued.answer.enrollment
    record = candidate_record(device, key, order)
    return escrow_key_held(seen, device, record, order.now).into(queued)
