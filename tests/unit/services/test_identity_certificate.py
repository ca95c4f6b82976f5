"""The certificate that a device gets, as openssl sees it, and how long it lives."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from fuzz.scep_client import NOW, der, ec_key, openssl, pem, rsa_key
from ostiary.domain.enrollment import Bound, Purpose
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.keys.signer import FileSigner
from ostiary.ports.signer import IssuingAuthority
from ostiary.protocol.scep.csr import DeviceKey
from ostiary.services.certificates import (
    AuthorityExpired,
    CertificateService,
    CredentialOrder,
    IssuingPolicy,
)
from unit.services.enrollment_world import PROFILE, MovedClock, device_authority

ORDER = CredentialOrder(
    tenant=DEFAULT_TENANT,
    purpose=Purpose.ENROLL,
    bound=Bound(),
    profile=PROFILE,
    challenge_id="c" * 32,
)


@pytest.mark.parametrize(
    "key", [rsa_key("device").public_key(), ec_key("device").public_key()], ids=["rsa", "ec"]
)
async def test_openssl_accepts_it_strictly_as_a_client(key: DeviceKey) -> None:
    """Source: RFC 5280 4.1 and 4.2; openssl's -x509_strict checks the form."""
    authority = device_authority()
    issued = await CertificateService(authority, MovedClock()).issue(key, ORDER)
    leaf = x509.load_der_x509_certificate(issued.certificate)
    said = openssl(
        *("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.pem"),
        *("-attime", str(int(NOW.timestamp())), "leaf.pem"),
        files={
            "ca.pem": pem(x509.load_der_x509_certificate(authority.certificate)),
            "leaf.pem": pem(leaf),
        },
        out="leaf.pem",
    )
    assert said == pem(leaf)
    assert leaf.public_key() == key


async def test_an_elliptic_authority_signs_as_well() -> None:
    """For an authority that does not serve SCEP."""
    key = ec_key("an elliptic authority")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elliptic")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9000))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    signer = FileSigner(key)
    authority = IssuingAuthority(
        certificate=der(certificate),
        signer=signer,
        decrypter=signer,
    )
    issued = await CertificateService(authority, MovedClock()).issue(key.public_key(), ORDER)
    x509.load_der_x509_certificate(issued.certificate).verify_directly_issued_by(certificate)


async def test_it_lives_as_long_as_policy_says_and_no_longer_than_its_authority() -> None:
    authority = device_authority()
    clock = MovedClock()
    key = rsa_key("device").public_key()
    issued = await CertificateService(authority, clock).issue(key, ORDER)
    leaf = x509.load_der_x509_certificate(issued.certificate)
    assert leaf.not_valid_after_utc == NOW + timedelta(days=730) == issued.credential.not_after
    assert leaf.not_valid_before_utc == NOW - timedelta(hours=1)
    policy = IssuingPolicy(valid_for=timedelta(days=36500))
    long = await CertificateService(authority, clock, policy).issue(key, ORDER)
    ends_at = x509.load_der_x509_certificate(authority.certificate).not_valid_after_utc
    assert ends_at.year >= 2050  # so the date is written as a GeneralizedTime
    assert x509.load_der_x509_certificate(long.certificate).not_valid_after_utc == ends_at
    clock.moment = ends_at
    with pytest.raises(AuthorityExpired):
        await CertificateService(authority, clock).issue(key, ORDER)


async def test_no_two_serial_numbers_are_the_same() -> None:
    service = CertificateService(device_authority(), MovedClock())
    key = ec_key("device").public_key()
    serials = {
        x509.load_der_x509_certificate((await service.issue(key, ORDER)).certificate).serial_number
        for _ in range(8)
    }
    assert len(serials) == 8
    assert all(0 < serial < 1 << 159 for serial in serials)
