"""The ledger's words: a token record, its kind, form, state, and how a generation follows another."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NewType

from ostiary.values import dataclass

TenantId = NewType("TenantId", str)
Holder = NewType("Holder", str)
"""Who a token belongs to: an enrollment id, an invitation's id, a name. Unique within a tenant and kind."""
RecordId = NewType("RecordId", str)
"""32 hex digits, random; the primary key of a record and part of what its sealing is bound to."""
KeyedDigest = NewType("KeyedDigest", bytes)
"""HMAC-SHA-256 under a tenant key: tells equal from different without opening either."""
SealedValue = NewType("SealedValue", bytes)
Fingerprint = NewType("Fingerprint", str)
"""Lower-case hex SHA-256 of a certificate's DER. (check-in-and-commands.md 3.8)"""

DEFAULT_TENANT: Final = TenantId("default")


class TokenKind(StrEnum):
    """The kinds of token that the ledger holds today."""

    PUSH = "push"
    UNLOCK = "unlock"
    BOOTSTRAP = "bootstrap"
    FILEVAULT_KEY = "filevault-key"
    """The personal recovery key of a Mac's disk."""
    FILEVAULT_ESCROW_KEY = "filevault-escrow-key"
    """Our private key and certificate to which one Mac encrypts its recovery keys."""
    FILEVAULT_ENVELOPE = "filevault-envelope"
    """A recovery key as it came, encrypted for a key that we do not hold or cannot use yet."""
    RECOVERY_LOCK = "recovery-lock"
    FIRMWARE_PASSWORD = "firmware-password"  # noqa: S105 - the name of a kind, not a password
    ADMIN_PASSWORD = "admin-password"  # noqa: S105 - the name of a kind, not a password
    LOCK_PIN = "lock-pin"
    BYPASS_DEVICE = "activation-bypass-device"
    """The Activation Lock bypass code that the device made."""
    BYPASS_SERVER = "activation-bypass-server"
    """The one that we made."""
    IDENTITY = "identity"
    ENROLLMENT_CHALLENGE = "enrollment-challenge"
    API_TOKEN = "api-token"  # noqa: S105 - the name of a kind, not a token
    PUSH_CERTIFICATE = "push-certificate"


class Form(StrEnum):
    """What we keep of a token: the value to give back, a digest to compare with, or a public value."""

    SEALED = "sealed"
    DIGEST = "digest"
    PUBLIC = "public"


FORM_OF: Final[Mapping[TokenKind, Form]] = MappingProxyType(
    {
        TokenKind.PUSH: Form.SEALED,
        TokenKind.UNLOCK: Form.SEALED,
        TokenKind.BOOTSTRAP: Form.SEALED,
        TokenKind.FILEVAULT_KEY: Form.SEALED,
        TokenKind.FILEVAULT_ESCROW_KEY: Form.SEALED,
        TokenKind.FILEVAULT_ENVELOPE: Form.SEALED,
        TokenKind.RECOVERY_LOCK: Form.SEALED,
        TokenKind.FIRMWARE_PASSWORD: Form.SEALED,
        TokenKind.ADMIN_PASSWORD: Form.SEALED,
        TokenKind.LOCK_PIN: Form.SEALED,
        TokenKind.BYPASS_DEVICE: Form.SEALED,
        TokenKind.BYPASS_SERVER: Form.SEALED,
        TokenKind.IDENTITY: Form.PUBLIC,
        TokenKind.ENROLLMENT_CHALLENGE: Form.DIGEST,
        TokenKind.API_TOKEN: Form.DIGEST,
        TokenKind.PUSH_CERTIFICATE: Form.SEALED,
    }
)


class TokenState(StrEnum):
    """What is stored of where a generation stands; `domain/token_standing.py` adds what time and proof say. (design.md 2)"""

    OK = "ok"
    CANDIDATE = "candidate"
    SUSPECT = "suspect"
    SUPERSEDED = "superseded"
    RETIRED = "retired"
    REVOKED = "revoked"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """One generation of one token: appended once, its state moves, its value never does.

    `value` is sealed bytes, or the public value, or empty for the form `digest`. `generation` counts
    from 1 per (tenant, holder, kind) and is given by storage when the record is appended (0 before).
    """

    id: RecordId
    tenant: TenantId
    holder: Holder
    kind: TokenKind
    generation: int = 0
    value: SealedValue
    digest: KeyedDigest
    size: int
    """Bytes of the value in clear."""
    state: TokenState
    cause: str
    """Why it is in this state, one short sentence for people."""
    source: str
    """The message, command or person that brought it, e.g. `TokenUpdate`."""
    fingerprint: Fingerprint | None
    """The certificate that signed that message, where one did."""
    relationship: str | None
    """Key of the enrollment row it came with; None for tokens that no device holds."""
    received_at: datetime
    changed_at: datetime
    expires_at: datetime | None = None
    proven_at: datetime | None = None
    proven_by: str | None = None
    disclosed_at: datetime | None = None
    """When a person was last shown the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPointer:
    """What an enrollment row knows of its current generation: enough to compare, not to open."""

    record_id: RecordId
    digest: KeyedDigest
    received_at: datetime
    """When this value first came."""
    arrived_at: datetime
    """When it last came, the same or not; APNs' 410 is judged against it. (TU-20)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStep:
    """One record's move to another state."""

    record_id: RecordId
    state: TokenState
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenProof:
    """A record demonstrably worked: stored is not proven."""

    record_id: RecordId
    proven_by: str
