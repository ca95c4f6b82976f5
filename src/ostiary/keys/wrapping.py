"""Tenant keys wrapped under the root key, and the key derivation that all of sealing shares."""

import hmac
import os
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.domain.token import TenantId
from ostiary.errors import Unavailable
from ostiary.ports.storage import EpochRow
from ostiary.secret import Secret

KEY_BYTES: Final = 32
EPOCH_BYTES: Final = 4
NONCE_BYTES: Final = 12
_CHECK_BYTES: Final = 8


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


class RootKeyring:
    """The root key at work: wrapping epoch keys, and telling whether it is the right one."""

    __slots__ = ("_check_key", "_wrapping")

    def __init__(self, root: Secret) -> None:
        root_prk = extract(root.reveal())
        self._wrapping = AESGCM(expand(root_prk, b"ostiary wrap epoch keys"))
        self._check_key = expand(root_prk, b"ostiary key check value")

    def wrap(self, tenant: TenantId, epoch: int, key: bytes, now: datetime) -> EpochRow:
        """The key as it is stored; `now` is when it was made."""
        nonce = os.urandom(NONCE_BYTES)
        place = _place(tenant, epoch)
        return EpochRow(
            tenant=tenant,
            epoch=epoch,
            wrapped=nonce + self._wrapping.encrypt(nonce, key, place),
            check=self._check(place),
            created_at=now,
        )

    def fits(self, row: EpochRow) -> bool:
        """Whether the row was wrapped under this root key; told without opening it."""
        return hmac.compare_digest(row.check, self._check(_place(row.tenant, row.epoch)))

    def unwrap(self, row: EpochRow) -> bytes:
        """The key in it. Raises RootKeyDoesNotMatch, EpochKeyDamaged."""
        if not self.fits(row):
            raise RootKeyDoesNotMatch(tenant=row.tenant, epoch=row.epoch)
        place = _place(row.tenant, row.epoch)
        nonce, wrapped = row.wrapped[:NONCE_BYTES], row.wrapped[NONCE_BYTES:]
        try:
            return self._wrapping.decrypt(nonce, wrapped, place)
        except (InvalidTag, ValueError):
            raise EpochKeyDamaged(tenant=row.tenant, epoch=row.epoch) from None

    def _check(self, place: bytes) -> bytes:
        return hmac.digest(self._check_key, place, "sha256")[:_CHECK_BYTES]


def extract(key: bytes) -> bytes:
    """HKDF-Extract with an empty salt (RFC 5869, 2.2); done once a key, at start."""
    return hmac.digest(bytes(KEY_BYTES), key, "sha256")


def expand(pseudorandom_key: bytes, purpose: bytes) -> bytes:
    """HKDF-Expand to 32 bytes, which for SHA-256 is its first block (RFC 5869, 2.3); under a microsecond."""
    return hmac.digest(pseudorandom_key, purpose + b"\x01", "sha256")


def _place(tenant: TenantId, epoch: int) -> bytes:
    return epoch.to_bytes(EPOCH_BYTES) + tenant.encode()
