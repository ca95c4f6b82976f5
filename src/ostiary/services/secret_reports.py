"""Secrets and facts in reports: read, opened and sealed before storage is asked to decide."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

import structlog

from ostiary.domain.facts import Fact, SheetName
from ostiary.domain.ledger import SealedToken
from ostiary.domain.token import Fingerprint, Holder, TenantId, TokenKind, TokenRecord
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import OstiaryError
from ostiary.formats.cms_envelope import NotForThisKey
from ostiary.formats.cms_envelope_reader import read_envelope
from ostiary.ports.clock import Clock
from ostiary.ports.escrow import Escrows
from ostiary.ports.escrow_keys import EscrowKeys
from ostiary.ports.sealer import EpochUnknown, SealBroken, Sealer, SealLabel
from ostiary.protocol.mdm import secret_answers
from ostiary.protocol.mdm.connect import ConnectReport, Status
from ostiary.protocol.mdm.device_information import decode_hardware
from ostiary.protocol.mdm.lights_out import decode_lights_out
from ostiary.protocol.mdm.recovery_key import RecoveryKey, read_recovery_key
from ostiary.protocol.mdm.security_info import decode_security_info
from ostiary.protocol.mdm.user_list import decode_user_list
from ostiary.secret import Secret
from ostiary.services.sealing import seal_for

log = structlog.get_logger()

_BRINGS: Final = frozenset({"SecurityInfo", "RotateResult", "ActivationLockBypassCode"})
Sheet: TypeAlias = tuple[SheetName, Mapping[str, Fact]]
LARGEST_ENVELOPE: Final = 64 * 1024


class SecretReader:
    """Takes out of a report what must be kept: recovery keys, bypass codes, envelopes that nobody can open yet."""

    def __init__(self, escrows: Escrows, keys: EscrowKeys, sealer: Sealer, clock: Clock) -> None:
        self._escrows = escrows
        self._keys = keys
        self._sealer = sealer
        self._clock = clock

    async def read(
        self, identity: DeviceIdentity, message: ConnectReport
    ) -> tuple[SealedToken, ...]:
        """The secrets that an acknowledged report brings, sealed; none for most reports.

        An envelope that no key of this device opens is kept as it came: it may be read later. (FV-03)
        """
        if message.status is not Status.ACKNOWLEDGED or message.channel.is_user_channel:
            return ()
        if _BRINGS.isdisjoint(message.result.keys()):
            return ()
        return tuple([token async for token in self._tokens(identity, message)])

    async def kept(
        self, identity: DeviceIdentity, message: ConnectReport, brought: Iterable[SealedToken]
    ) -> tuple[TokenRecord, ...]:
        """The generations that are held of the kinds that a report brings."""
        holder = Holder(message.channel.device_id)
        found = [
            await self._escrows.records_of(identity.tenant, holder, kind)
            for kind in sorted({token.kind for token in brought})
        ]
        return tuple(record for records in found for record in records)

    async def _tokens(
        self, identity: DeviceIdentity, message: ConnectReport
    ) -> AsyncIterator[SealedToken]:
        holder = Holder(message.channel.device_id)
        envelope = secret_answers.recovery_key_envelope(message.result)
        if envelope is not None and len(envelope) > LARGEST_ENVELOPE:
            log.warning("filevault_envelope_too_large", holder=holder, size=len(envelope))
        elif envelope is not None:
            key = await self._open(identity.tenant, holder, envelope)
            if key is not None:
                token = self._sealed(identity.tenant, holder, TokenKind.FILEVAULT_KEY, key.value)
                yield await self._marked(identity.tenant, token, holder) if key.looks_odd else token
            else:
                kept = Secret(envelope)
                yield self._sealed(identity.tenant, holder, TokenKind.FILEVAULT_ENVELOPE, kept)
        if (code := secret_answers.bypass_code(message.result)) is not None:
            value = Secret(code.encode()[:LARGEST_ENVELOPE])
            yield self._sealed(identity.tenant, holder, TokenKind.BYPASS_DEVICE, value)

    async def _marked(self, tenant: TenantId, token: SealedToken, holder: Holder) -> SealedToken:
        """A key that looks odd, and which generation holds it already: told daily, it is one all the same."""
        kept = await self._escrows.records_of(tenant, holder, token.kind)
        same = next((one.id for one in kept if one.digest == token.digest), None)
        return replace(token, looks_odd=True, same_as=same)

    async def _open(self, tenant: TenantId, holder: Holder, message: bytes) -> RecoveryKey | None:
        """The recovery key, by whichever of the device's escrow keys opens it, older ones too. (FV-10)

        Raises:
            EpochUnknown: the device reports it again.
        """
        try:
            envelope = read_envelope(message)
        except OstiaryError as error:
            log.warning(
                "filevault_envelope_unreadable", holder=holder, problem=type(error).__name__
            )
            return None
        for record in await self._escrows.records_of(
            tenant, holder, TokenKind.FILEVAULT_ESCROW_KEY
        ):
            label = SealLabel(tenant=tenant, holder=holder, kind=record.kind, record_id=record.id)
            try:
                bundle = self._sealer.unseal(record.value, label)
            except EpochUnknown:
                raise
            except SealBroken:
                # A key of ours that is damaged must not keep the device's report, and all behind it, out for ever.
                log.error("filevault_escrow_key_does_not_open", record_id=record.id)
                continue
            try:
                opened = await self._keys.open(bundle, envelope)
                key = read_recovery_key(opened.reveal())
            except NotForThisKey:
                continue
            except OstiaryError as error:
                log.warning(
                    "filevault_envelope_closed", holder=holder, problem=type(error).__name__
                )
            else:
                if key.looks_odd:
                    log.warning("filevault_key_looks_odd", holder=holder, size=len(key.value))
                return key
        return None

    def _sealed(
        self, tenant: TenantId, holder: Holder, kind: TokenKind, value: Secret
    ) -> SealedToken:
        return seal_for(self._sealer, tenant, holder, kind, value, self._clock.now())


def read_sheet(message: ConnectReport) -> Sheet | None:
    """The facts that an acknowledged report tells of the device; None for most reports."""
    if message.status is not Status.ACKNOWLEDGED or message.channel.is_user_channel:
        return None
    for key, name, decode in _SHEETS:
        if message.result.has(key):
            facts = decode(message.result)
            return (name, facts) if facts else None
    return None


_SHEETS: Final = (
    ("QueryResponses", SheetName.DEVICE, decode_hardware),
    ("SecurityInfo", SheetName.SECURITY, decode_security_info),
    ("Users", SheetName.USERS, decode_user_list),
    ("PrimaryIPv6AddressList", SheetName.LIGHTS_OUT, decode_lights_out),
)


class SheetMemory:
    """What this process last stored of each device's reports: the same report once more is no news.

    A memory that is wrong or empty costs a write, never a fact.
    """

    def __init__(self, *, most: int = 20_000) -> None:
        self._most = most
        self._stored: dict[tuple[Fingerprint, SheetName], int] = {}

    def is_news(self, who: Fingerprint, sheet: Sheet) -> bool:
        name, facts = sheet
        return self._stored.get((who, name)) != _hash(facts)

    def note(self, who: Fingerprint, sheet: Sheet) -> None:
        """It is stored now."""
        name, facts = sheet
        if len(self._stored) >= self._most:
            self._stored.clear()
        self._stored[(who, name)] = _hash(facts)


def _hash(facts: Mapping[str, Fact]) -> int:
    return hash(json.dumps(facts, sort_keys=True))
