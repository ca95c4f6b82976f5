"""Which authority a device's certificate is traced to, and what is remembered of it."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fuzz.pki import NOW, Issued, ec_key, issue
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.formats.x509 import (
    CertificateExpired,
    CertificateNotTrusted,
    CertificateNotYetValid,
    NotAnAuthority,
)
from ostiary.services.authorities import (
    AuthorityFileUnusable,
    AuthorityOfTwoTenants,
    DeviceAuthorities,
    TrustedAuthority,
    load_authorities,
)

OURS = issue("our CA", authority=True)
FOREIGN = issue("a foreign CA", authority=True)
THEIRS = TenantId("theirs")


@pytest.fixture
def authorities() -> DeviceAuthorities:
    return DeviceAuthorities(
        [
            TrustedAuthority(certificate=OURS.der, tenant=DEFAULT_TENANT, is_ours=True),
            TrustedAuthority(certificate=FOREIGN.der, tenant=THEIRS, is_ours=False),
        ],
        capacity=2,
    )


def test_a_chain_tells_tenant_and_whether_the_authority_is_ours(
    authorities: DeviceAuthorities,
) -> None:
    """Source: design.md 3, tenants."""
    between = issue("between", FOREIGN, authority=True)
    for device, others, tenant, is_ours in (
        (issue("a", OURS), (), DEFAULT_TENANT, True),
        (issue("b", FOREIGN), (), THEIRS, False),
        (issue("c", between), (between.der,), THEIRS, False),
    ):
        issuer = authorities.verify(device.der, others, NOW)
        assert (issuer.tenant, issuer.is_ours) == (tenant, is_ours)
        assert issuer.not_after == device.certificate.not_valid_after_utc


def test_strangers_are_refused_each_time(authorities: DeviceAuthorities) -> None:
    stranger = issue("our CA", authority=True, key=ec_key(99))
    device = issue("a", stranger)
    for _ in range(2):
        with pytest.raises(CertificateNotTrusted):
            authorities.verify(device.der, (stranger.der,), NOW)


def test_an_expired_identity_is_refused_even_when_remembered_unless_policy_accepts_it(
    authorities: DeviceAuthorities,
) -> None:
    """Source: check-in-and-commands.md 3.7: refused with 400, never unenrolled."""
    device = issue("a", OURS)
    authorities.verify(device.der, (), NOW)
    later = NOW + timedelta(days=400)
    with pytest.raises(CertificateExpired):
        authorities.verify(device.der, (), later)
    assert authorities.verify(device.der, (), later, accept_expired=True).is_ours
    with pytest.raises(CertificateExpired):
        authorities.verify(device.der, (), later)


def test_a_grace_lets_an_expired_identity_in_for_so_long_and_no_longer(
    authorities: DeviceAuthorities,
) -> None:
    """3.8 step 7, by policy: what it may do then is decided at the door. (docs/divergences.md)"""
    device = issue("a", OURS)
    end = authorities.verify(device.der, (), NOW).not_after
    grace = timedelta(days=90)
    assert authorities.verify(device.der, (), end + grace, grace=grace).not_after == end
    with pytest.raises(CertificateExpired):
        authorities.verify(device.der, (), end + grace + timedelta(seconds=1), grace=grace)


def test_what_is_remembered_is_bounded_and_right(authorities: DeviceAuthorities) -> None:
    devices = [issue(name, issuer) for name in "abc" for issuer in (OURS, FOREIGN)]
    for _ in range(2):
        for device in devices:
            tenant = authorities.verify(device.der, (), NOW).tenant
            assert (tenant == DEFAULT_TENANT) == (
                device.certificate.issuer == OURS.certificate.subject
            )
    assert len(authorities._verified) == 2


def test_one_authority_has_one_owner() -> None:
    with pytest.raises(AuthorityOfTwoTenants):
        DeviceAuthorities(
            TrustedAuthority(certificate=OURS.der, tenant=tenant, is_ours=False)
            for tenant in (DEFAULT_TENANT, THEIRS)
        )


def _pem(*issued: Issued) -> bytes:
    return b"".join(one.certificate.public_bytes(Encoding.PEM) for one in issued)


def test_a_file_may_hold_several_authorities(tmp_path: Path) -> None:
    """Source: design.md 3, --trust-ca."""
    path = tmp_path / "cas.pem"
    path.write_bytes(_pem(FOREIGN, OURS))
    found = load_authorities(path)
    assert [one.certificate for one in found] == [FOREIGN.der, OURS.der]
    assert not any(one.is_ours for one in found)
    assert x509.load_der_x509_certificate(found[0].certificate)


def test_a_device_certificate_is_no_authority(tmp_path: Path) -> None:
    path = tmp_path / "cas.pem"
    path.write_bytes(_pem(issue("a", OURS)))
    with pytest.raises(NotAnAuthority):
        DeviceAuthorities(load_authorities(path))


@pytest.mark.parametrize("contents", [b"", b"no PEM", None])
def test_a_file_without_certificates_is_refused(tmp_path: Path, contents: bytes | None) -> None:
    path = tmp_path / "cas.pem"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(AuthorityFileUnusable):
        load_authorities(path)


@pytest.mark.parametrize("off", [timedelta(days=1), timedelta(days=365)], ids=["a day", "a year"])
def test_an_identity_of_ours_that_begins_later_says_only_that_a_clock_of_ours_was_set(
    authorities: DeviceAuthorities, off: timedelta
) -> None:
    """Else a device that enrolled while our clock was ahead would be turned away until the clock catches up."""
    ours, foreign = (
        issue("a", issuer, starts_at=NOW, ends_at=NOW + timedelta(days=500))
        for issuer in (OURS, FOREIGN)
    )
    for _ in range(2):
        assert authorities.verify(ours.der, (), NOW - off).is_ours
        with pytest.raises(CertificateNotYetValid):
            authorities.verify(foreign.der, (), NOW - off)
    assert not authorities.verify(foreign.der, (), NOW).is_ours
