"""Escrow keys, one per device: an RSA key and its self-signed certificate, kept together as one secret value."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from ostiary.formats.cms_envelope import Envelope, open_envelope
from ostiary.keys.signer import encode_private_key
from ostiary.ports.escrow_keys import EscrowKey, EscrowKeyDamaged
from ostiary.secret import Secret

KEY_BITS: Final = 3072
"""For twenty years of recovery keys; a Mac encrypts to any size. Making one takes a tenth of a second."""
VALID_FOR: Final = timedelta(days=20 * 365)
"""Peers use ten and twenty years; replacing the certificate means another profile on the Mac. (4.3)"""
BACK_DATED: Final = timedelta(days=1)
_LONGEST_HOLDER: Final = 40  # a common name has 64 characters


def make_escrow_key(holder: str, now: datetime, *, bits: int = KEY_BITS) -> EscrowKey:
    """A new escrow key for the device that `holder` names; the name is for people and decides nothing.

    Source: escrowed-secrets.md 4.3 (Server state machine).
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name(
        [
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"FileVault escrow {holder[:_LONGEST_HOLDER]}".strip()
            )
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = encode_private_key(key) + certificate.public_bytes(serialization.Encoding.PEM)
    return _escrow_key(certificate, Secret(pem))


def read_escrow_key(bundle: Secret) -> EscrowKey:
    """The escrow key that was stored as one value. Raises EscrowKeyDamaged."""
    return _escrow_key(_load(bundle)[1], bundle)


def open_with(bundle: Secret, envelope: Envelope) -> Secret:
    """What the envelope hides. Raises EscrowKeyDamaged, or as `open_envelope` does."""
    key, certificate = _load(bundle)
    opened = open_envelope(envelope, key, certificate.public_bytes(serialization.Encoding.DER))
    return Secret(opened)


class ThreadedEscrowKeys:
    """Implements ports.escrow_keys.EscrowKeys: the mathematics in a thread, out of the loop's way."""

    __slots__ = ("_bits",)

    def __init__(self, *, bits: int = KEY_BITS) -> None:
        self._bits = bits

    async def make(self, holder: str, now: datetime) -> EscrowKey:
        """A new key for one device."""
        return await asyncio.to_thread(make_escrow_key, holder, now, bits=self._bits)

    async def read(self, bundle: Secret) -> EscrowKey:
        """The key that was stored as one value. Raises EscrowKeyDamaged."""
        return read_escrow_key(bundle)

    async def open(self, bundle: Secret, envelope: Envelope) -> Secret:
        """What the envelope hides. Raises as `open_with` does."""
        return await asyncio.to_thread(open_with, bundle, envelope)


def _load(bundle: Secret) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    pem = bundle.reveal()
    try:
        # We made the key, and the seal proves that these are its bytes: asking whether its primes are prime would
        # take a hundred times as long as opening the envelope, for every Mac on every day.
        key = serialization.load_pem_private_key(
            pem, password=None, unsafe_skip_rsa_key_validation=True
        )
        certificate = x509.load_pem_x509_certificate(pem)
        belong_together = certificate.public_key() == key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise EscrowKeyDamaged from None
    if not isinstance(key, rsa.RSAPrivateKey) or not belong_together:
        raise EscrowKeyDamaged
    return key, certificate


def _escrow_key(certificate: x509.Certificate, bundle: Secret) -> EscrowKey:
    der = certificate.public_bytes(serialization.Encoding.DER)
    return EscrowKey(certificate=der, bundle=bundle)


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
