"""Sealing under tenant epoch keys: one derived key a record, bound to where the record belongs."""

import hmac
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.domain.token import DEFAULT_TENANT, KeyedDigest, RecordId, SealedValue, TenantId
from ostiary.errors import Unavailable
from ostiary.keys.wrapping import (
    EPOCH_BYTES,
    KEY_BYTES,
    NONCE_BYTES,
    EpochKeyDamaged,
    RootKeyring,
    expand,
    extract,
)
from ostiary.ports.sealer import EpochUnknown, SealBroken, SealLabel
from ostiary.ports.storage import EpochRow
from ostiary.secret import Secret

DIGEST_EPOCH: Final = 0
FIRST_SEALING_EPOCH: Final = 1

_VERSION: Final = 1
_TAG_BYTES: Final = 16
_HEADER: Final = 1 + EPOCH_BYTES
_SHORTEST: Final = _HEADER + NONCE_BYTES + _TAG_BYTES


class TenantWithoutKeys(Unavailable):
    """There is no key to seal this tenant's values with."""

    hint = "Tenants get their keys when they are created; restart the server after a restore."


@dataclass(frozen=True, slots=True, repr=False)
class TenantKeys:
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

    __slots__ = ("_keys", "when_unknown")

    def __init__(self, keys: Mapping[TenantId, TenantKeys]) -> None:
        self._keys = keys
        self.when_unknown: Callable[[], object] = _nothing
        """Called when a value names an epoch that is not known here yet; another process may have made it."""

    def seal(self, value: Secret, label: SealLabel) -> SealedValue:
        """The value under the tenant's current epoch. Raises TenantWithoutKeys."""
        keys = self._tenant(label.tenant)
        nonce = os.urandom(NONCE_BYTES)
        cipher = AESGCM(_record_key(keys.expand_from[keys.current], label.record_id))
        header = bytes((_VERSION,)) + keys.current.to_bytes(EPOCH_BYTES)
        return SealedValue(
            header + nonce + cipher.encrypt(nonce, value.reveal(), _associated(header, label))
        )

    def unseal(self, sealed: SealedValue, label: SealLabel) -> Secret:
        """The value in clear. Raises SealBroken; EpochUnknown where the key is what is missing."""
        if len(sealed) < _SHORTEST or sealed[0] != _VERSION:
            raise SealBroken(record=label.record_id, kind=label.kind)
        header = sealed[:_HEADER]
        keys = self._keys.get(label.tenant)
        expand_from = None if keys is None else keys.expand_from.get(int.from_bytes(header[1:]))
        if expand_from is None:
            self.when_unknown()
            raise EpochUnknown(record=label.record_id, kind=label.kind)
        nonce = sealed[_HEADER : _HEADER + NONCE_BYTES]
        try:
            value = AESGCM(_record_key(expand_from, label.record_id)).decrypt(
                nonce, sealed[_HEADER + NONCE_BYTES :], _associated(header, label)
            )
        except InvalidTag:
            raise SealBroken(record=label.record_id, kind=label.kind) from None
        return Secret(value)

    def digest(self, tenant: TenantId, value: Secret) -> KeyedDigest:
        """HMAC-SHA-256 under the tenant's digest key. Raises TenantWithoutKeys."""
        return KeyedDigest(hmac.digest(self._tenant(tenant).digest_key, value.reveal(), "sha256"))

    def tenants(self) -> tuple[TenantId, ...]:
        """Every tenant that has keys."""
        return tuple(self._keys)

    def current_epoch(self, tenant: TenantId) -> int:
        """Under which epoch values are sealed now. Raises TenantWithoutKeys."""
        return self._tenant(tenant).current

    def newest_epoch(self, tenant: TenantId) -> int:
        """The latest epoch of which values open. Raises TenantWithoutKeys."""
        return max(self._tenant(tenant).expand_from)

    def epoch_of(self, head: bytes) -> int:
        """The epoch that the first bytes of a sealed value name; 0 if they are none."""
        if len(head) < _HEADER or head[0] != _VERSION:
            return 0
        return int.from_bytes(head[1:_HEADER])

    def knows(self, row: EpochRow) -> bool:
        """Whether the key in this row is open here."""
        keys = self._keys.get(row.tenant)
        return keys is not None and (row.epoch == DIGEST_EPOCH or row.epoch in keys.expand_from)

    def put_in_force(
        self, opened: Mapping[TenantId, TenantKeys], current: Mapping[TenantId, int]
    ) -> None:
        """Add these keys to what is open, and seal under the epochs in `current` from now on.

        What is being sealed or opened meanwhile sees all of the old keys or all of the new: one assignment.
        """
        keys = dict(self._keys)
        for tenant, new in opened.items():
            old = keys.get(tenant)
            known = {} if old is None else old.expand_from
            keys[tenant] = replace(new, expand_from={**known, **new.expand_from})
        for tenant, epoch in current.items():
            keys[tenant] = replace(keys[tenant], current=epoch)
        self._keys = keys

    def _tenant(self, tenant: TenantId) -> TenantKeys:
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
    keyring = RootKeyring(root)
    key_by_epoch = _unwrapped(keyring, rows)
    new_rows: list[EpochRow] = []
    for tenant in tenants:
        if tenant in key_by_epoch:
            continue
        keys = key_by_epoch[tenant] = {}
        for epoch in (DIGEST_EPOCH, FIRST_SEALING_EPOCH):
            keys[epoch] = os.urandom(KEY_BYTES)
            new_rows.append(keyring.wrap(tenant, epoch, keys[epoch], now))
    opened = {tenant: _opened(tenant, keys) for tenant, keys in key_by_epoch.items()}
    return EpochSealer(opened), tuple(new_rows)


def open_keys(keyring: RootKeyring, rows: Sequence[EpochRow]) -> dict[TenantId, TenantKeys]:
    """The keys in all rows of a database. Raises RootKeyDoesNotMatch, EpochKeyDamaged."""
    return {tenant: _opened(tenant, keys) for tenant, keys in _unwrapped(keyring, rows).items()}


def _unwrapped(keyring: RootKeyring, rows: Sequence[EpochRow]) -> dict[TenantId, dict[int, bytes]]:
    key_by_epoch: dict[TenantId, dict[int, bytes]] = {}
    for row in rows:
        key_by_epoch.setdefault(row.tenant, {})[row.epoch] = keyring.unwrap(row)
    return key_by_epoch


def _opened(tenant: TenantId, key_by_epoch: Mapping[int, bytes]) -> TenantKeys:
    # A tenant that lost one kind of key is damaged, not new: a fresh digest key would make every
    # token look changed, silently.
    sealing = {epoch: extract(key) for epoch, key in key_by_epoch.items() if epoch != DIGEST_EPOCH}
    if DIGEST_EPOCH not in key_by_epoch or not sealing:
        raise EpochKeyDamaged("one of a tenant's keys is missing", tenant=tenant)
    return TenantKeys(
        digest_key=key_by_epoch[DIGEST_EPOCH], expand_from=sealing, current=max(sealing)
    )


def _record_key(expand_from: bytes, record_id: RecordId) -> bytes:
    return expand(expand_from, b"ostiary record\0" + record_id.encode())


def _associated(header: bytes, label: SealLabel) -> bytes:
    fields = (label.tenant, label.holder, label.kind, label.record_id)
    return header + "".join([f"{len(field)}:{field}" for field in fields]).encode()


def _nothing() -> None:
    """Nobody looks for keys that are not known."""
