"""Escrow keys: what Macs encrypt their recovery keys to, made one per device and used where the secret is held."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ostiary.errors import Unavailable
from ostiary.formats.cms_envelope import Envelope
from ostiary.secret import Secret


class EscrowKeyDamaged(Unavailable):
    """An escrow key that was stored is no key and certificate that belong together."""

    hint = "Restore the database from a backup; envelopes made for this key open with no other."


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowKey:
    """The key pair that one Mac's recovery keys are encrypted to.

    Keep it as long as any envelope for it may exist, also after another took its place. (FV-10)
    """

    certificate: bytes = field(repr=False)
    """DER, public: for the profile and for RotateFileVaultKey's ReplyEncryptionCertificate."""
    bundle: Secret
    """Private key and certificate as one value, to be sealed and stored before any Mac sees the certificate."""


class EscrowKeys(Protocol):
    """Makes escrow keys, and opens envelopes with them."""

    async def make(self, holder: str, now: datetime) -> EscrowKey:
        """A new key for one device. It takes a tenth of a second of CPU, beside the loop."""

    async def read(self, bundle: Secret) -> EscrowKey:
        """The key that was stored as one value. Raises EscrowKeyDamaged."""

    async def open(self, bundle: Secret, envelope: Envelope) -> Secret:
        """What the envelope hides.

        Raises:
            NotForThisKey, EnvelopeBroken, CipherNotKnown: as formats.cms_envelope.open_envelope.
            EscrowKeyDamaged: the bundle is no escrow key.
        """
