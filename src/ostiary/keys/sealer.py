"""Sealing under tenant epoch keys: one derived key a record, bound to where the record belongs."""

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.domain.token import DEFAULT_TENANT, KeyedDigest, RecordId, SealedValue, TenantId
from ostiary.errors import Unavailable
from ostiary.ports.sealer import SealBroken, SealLabel
from ostiary.ports.storage import EpochRow
from ostiary.secret import Secret

DIGEST_EPOCH: Final = 0
FIRST_SEALING_EPOCH: Final = 1

_VERSION: Final = 1
_EPOCH_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_CHECK_BYTES: Final = 8
_HEADER: Final = 1 + _EPOCH_BYTES
_SHORTEST: Final = _HEADER + _NONCE_BYTES + _TAG_BYTES


class RootKeyDoesNotMatch(Unavailable):
    """The root key is not the one that this database's keys were wrapped with."""

    hint = (
        "Restore the keys directory that belongs to this database; a new root key cannot open it."
    )


class EpochKeyDamaged(Unavailable):
    """A wrapped tenant key in the database was altered, or one of a tenant's keys is missing."""

    hint = (
        "Restore the database from a backup; values sealed under this key do not open without it."
    )


class TenantWithoutKeys(Unavailable):
    """There is no key to seal this tenant's values with."""

    hint = "Tenants get their keys when they are created; restart the server after a restore."


@dataclass(frozen=True, slots=True, repr=False)
class _TenantKeys:
    """One tenant's opened keys: for digests, and by epoch what record keys are expanded from."""

    digest_key: bytes
    expand_from: Mapping[int, bytes]
    current: int


class EpochSealer:
    """Implements ports.sealer.Sealer with keys held in memory.

    A sealed value is: version, epoch (4 bytes), nonce (12), ciphertext and tag of AES-256-GCM. Its key is
    HKDF-SHA-256 of the tenant's epoch key and the record id; tenant, holder, kind and record id are associated
    data, written as `length:field` one after the other, so no two labels read alike.

    Source: design.md 2; escrowed-secrets.md 4.0.2 rules 3 and 4.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[TenantId, _TenantKeys]) -> None:
        self._keys = keys

    def seal(self, value: Secret, label: SealLabel) -> SealedValue:
        """The value under the tenant's current epoch. Raises TenantWithoutKeys."""
        keys = self._tenant(label.tenant)
        nonce = os.urandom(_NONCE_BYTES)
        cipher = AESGCM(_record_key(keys.expand_from[keys.current], label.record_id))
        header = bytes((_VERSION,)) + keys.current.to_bytes(_EPOCH_BYTES)
        return SealedValue(
            header + nonce + cipher.encrypt(nonce, value.reveal(), _associated(header, label))
        )

    def unseal(self, sealed: SealedValue, label: SealLabel) -> Secret:
        """The value in clear. Raises SealBroken, whatever is wrong."""
        keys = self._keys.get(label.tenant)
        if keys is None or len(sealed) < _SHORTEST or sealed[0] != _VERSION:
            raise SealBroken(record=label.record_id, kind=label.kind)
        header = sealed[:_HEADER]
        expand_from = keys.expand_from.get(int.from_bytes(header[1:]))
        if expand_from is None:
            raise SealBroken(record=label.record_id, kind=label.kind)
        nonce = sealed[_HEADER : _HEADER + _NONCE_BYTES]
        try:
            value = AESGCM(_record_key(expand_from, label.record_id)).decrypt(
                nonce, sealed[_HEADER + _NONCE_BYTES :], _associated(header, label)
            )
        except InvalidTag:
            raise SealBroken(record=label.record_id, kind=label.kind) from None
        return Secret(value)

    def digest(self, tenant: TenantId, value: Secret) -> KeyedDigest:
        """HMAC-SHA-256 under the tenant's digest key. Raises TenantWithoutKeys."""
        return KeyedDigest(hmac.digest(self._tenant(tenant).digest_key, value.reveal(), "sha256"))

    def _tenant(self, tenant: TenantId) -> _TenantKeys:
        keys = self._keys.get(tenant)
        if keys is None:
            raise TenantWithoutKeys(tenant=tenant)
        return keys


def open_sealer(
    root: Secret,
    rows: Sequence[EpochRow],
    *,
    now: datetime,
    tenants: Iterable[TenantId] = (DEFAULT_TENANT,),
) -> tuple[EpochSealer, tuple[EpochRow, ...]]:
    """The sealer for all tenants of `rows` and `tenants`, and the rows to store before anything is sealed.

    A tenant without any row gets a digest key and a first sealing key.

    Raises:
        RootKeyDoesNotMatch: `rows` were wrapped by another root key.
        EpochKeyDamaged: a row does not open although the root key is right, or a tenant's row is missing.
    """
    keyring = _RootKeyring(root)
    key_by_epoch: dict[TenantId, dict[int, bytes]] = {}
    for row in rows:
        key_by_epoch.setdefault(row.tenant, {})[row.epoch] = keyring.unwrap(row)
    new_rows: list[EpochRow] = []
    for tenant in tenants:
        if tenant in key_by_epoch:
            continue
        keys = key_by_epoch[tenant] = {}
        for epoch in (DIGEST_EPOCH, FIRST_SEALING_EPOCH):
            keys[epoch] = os.urandom(_KEY_BYTES)
            new_rows.append(keyring.wrap(tenant, epoch, keys[epoch], now))
    opened = {tenant: _opened(tenant, keys) for tenant, keys in key_by_epoch.items()}
    return EpochSealer(opened), tuple(new_rows)


class _RootKeyring:
    """The root key at work: wrapping epoch keys, and telling whether it is the right one."""

    __slots__ = ("_check_key", "_wrapping")

    def __init__(self, root: Secret) -> None:
        root_prk = _extract(root.reveal())
        self._wrapping = AESGCM(_expand(root_prk, b"ostiary wrap epoch keys"))
        self._check_key = _expand(root_prk, b"ostiary key check value")

    def wrap(self, tenant: TenantId, epoch: int, key: bytes, now: datetime) -> EpochRow:
        nonce = os.urandom(_NONCE_BYTES)
        place = _place(tenant, epoch)
        return EpochRow(
            tenant=tenant,
            epoch=epoch,
            wrapped=nonce + self._wrapping.encrypt(nonce, key, place),
            check=self._check(place),
            created_at=now,
        )

    def unwrap(self, row: EpochRow) -> bytes:
        place = _place(row.tenant, row.epoch)
        if not hmac.compare_digest(row.check, self._check(place)):
            raise RootKeyDoesNotMatch(tenant=row.tenant, epoch=row.epoch)
        nonce, wrapped = row.wrapped[:_NONCE_BYTES], row.wrapped[_NONCE_BYTES:]
        try:
            return self._wrapping.decrypt(nonce, wrapped, place)
        except (InvalidTag, ValueError):
            raise EpochKeyDamaged(tenant=row.tenant, epoch=row.epoch) from None

    def _check(self, place: bytes) -> bytes:
        return hmac.digest(self._check_key, place, "sha256")[:_CHECK_BYTES]


def _opened(tenant: TenantId, key_by_epoch: Mapping[int, bytes]) -> _TenantKeys:
    # A tenant that lost one kind of key is damaged, not new: a fresh digest key would make every
    # token look changed, silently.
    sealing = {epoch: _extract(key) for epoch, key in key_by_epoch.items() if epoch != DIGEST_EPOCH}
    if DIGEST_EPOCH not in key_by_epoch or not sealing:
        raise EpochKeyDamaged("one of a tenant's keys is missing", tenant=tenant)
    return _TenantKeys(
        digest_key=key_by_epoch[DIGEST_EPOCH], expand_from=sealing, current=max(sealing)
    )


def _record_key(expand_from: bytes, record_id: RecordId) -> bytes:
    return _expand(expand_from, b"ostiary record\0" + record_id.encode())


def _extract(key: bytes) -> bytes:
    """HKDF-Extract with an empty salt (RFC 5869, 2.2); done once a key, at start."""
    return hmac.digest(bytes(_KEY_BYTES), key, "sha256")


def _expand(pseudorandom_key: bytes, purpose: bytes) -> bytes:
    """HKDF-Expand to 32 bytes, which for SHA-256 is its first block (RFC 5869, 2.3); under a microsecond."""
    return hmac.digest(pseudorandom_key, purpose + b"\x01", "sha256")


def _associated(header: bytes, label: SealLabel) -> bytes:
    fields = (label.tenant, label.holder, label.kind, label.record_id)
    return header + "".join([f"{len(field)}:{field}" for field in fields]).encode()


def _place(tenant: TenantId, epoch: int) -> bytes:
    return epoch.to_bytes(_EPOCH_BYTES) + tenant.encode()
