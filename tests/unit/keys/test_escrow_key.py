"""Escrow keys: what Macs encrypt to, kept as one value, and opened again much later."""

import plistlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fuzz.envelopes import openssl_envelope
from ostiary.formats.cms_envelope import NotForThisKey, read_envelope
from ostiary.keys.escrow_key import (
    ThreadedEscrowKeys,
    make_escrow_key,
    open_with,
    read_escrow_key,
)
from ostiary.ports.escrow_keys import EscrowKey, EscrowKeyDamaged, EscrowKeys
from ostiary.protocol.mdm.enrollment_profile import decode_url
from ostiary.protocol.mdm.filevault_profile import FileVaultOffer, filevault_profile
from ostiary.protocol.mdm.recovery_key import read_recovery_key
from ostiary.secret import Secret
from ostiary_sim.mac_secrets import Volume

NOW = datetime(2030, 6, 1, tzinfo=UTC)
CONTENT = b"ABCD-EFGH-JKLM-NPQR-STUV-WX23"


@pytest.fixture(scope="module")
def escrow() -> EscrowKey:
    return make_escrow_key("C02X", NOW, bits=2048)


def test_the_certificate_lives_twenty_years_and_encrypts_keys_only() -> None:
    """Source: escrowed-secrets.md 4.3 (Escrow key pairs)."""
    made = make_escrow_key("a name longer than any serial number or identifier of a device", NOW)
    certificate = x509.load_der_x509_certificate(made.certificate)
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 3072
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc - NOW == timedelta(days=20 * 365)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_encipherment
    assert not usage.key_cert_sign
    assert not usage.digital_signature
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert identifier == x509.SubjectKeyIdentifier.from_public_key(key)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize("options", [(), ("-keyid",)], ids=str)
def test_one_value_holds_all_that_opens_an_envelope(
    escrow: EscrowKey, options: tuple[str, ...]
) -> None:
    """What is sealed and stored is read back, also when its certificate is out of use for long. (FV-10)"""
    envelope = read_envelope(openssl_envelope(CONTENT, escrow.certificate, options=options))
    stored = Secret(escrow.bundle.reveal())
    assert read_escrow_key(stored) == escrow
    assert open_with(stored, envelope) == Secret(CONTENT)
    other = make_escrow_key("C02X", NOW, bits=2048)
    with pytest.raises(NotForThisKey):
        open_with(other.bundle, envelope)


def test_what_a_simulated_mac_escrows_is_the_key_it_made(escrow: EscrowKey) -> None:
    """Profile, Mac, SecurityInfo and back, by code that shares nothing with ours."""
    profile = filevault_profile(
        FileVaultOffer(
            urls=decode_url("https://mdm.example.org"),
            device="C02X",
            certificate=escrow.certificate,
            location="the help desk",
        )
    )
    volume = Volume(serial="C02X")
    made = volume.encrypt(random.Random(1), [plistlib.loads(profile)])
    assert volume.escrowed is not None
    found = read_recovery_key(open_with(escrow.bundle, read_envelope(volume.escrowed)).reveal())
    assert found.value == Secret(made.encode())
    assert not found.looks_odd


async def test_it_works_through_the_port() -> None:
    keys: EscrowKeys = ThreadedEscrowKeys(bits=2048)
    made = await keys.make("C02X", NOW)
    envelope = read_envelope(openssl_envelope(CONTENT, made.certificate))
    assert await keys.open(made.bundle, envelope) == Secret(CONTENT)


def test_a_damaged_value_says_so(escrow: EscrowKey) -> None:
    pem = escrow.bundle.reveal()
    other = make_escrow_key("C02Y", NOW, bits=2048).bundle.reveal()
    begins = b"-----BEGIN CERTIFICATE"
    mixed = pem[: pem.index(begins)] + other[other.index(begins) :]
    elliptic = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for damaged in (b"", pem[: pem.index(begins)], pem[pem.index(begins) :], mixed, elliptic):
        with pytest.raises(EscrowKeyDamaged):
            read_escrow_key(Secret(damaged))


def test_an_escrow_key_is_never_printed(escrow: EscrowKey) -> None:
    """Source: escrowed-secrets.md 4.0.2 rule 5."""
    assert "BEGIN" not in repr(replace(escrow))
    assert "***" in repr(escrow)
