"""The device CA: what its certificate says, and that certificate and key stay together."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from ostiary.formats.x509 import TrustAnchors
from ostiary.keys.authority import create_device_authority, open_device_authority
from ostiary.keys.file import KeyFileDamaged, KeyFileExists, KeyFileMissing

NOW = datetime(2030, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("ca")
    create_device_authority(at / "device-ca.pem", at / "device-ca.key", now=NOW)
    return at


def test_it_is_an_authority_for_leaves_only(folder: Path) -> None:
    certificate = x509.load_pem_x509_certificate((folder / "device-ca.pem").read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.key_encipherment  # SCEP requests are encrypted to it
    assert (folder / "device-ca.key").stat().st_mode & 0o777 == 0o600
    certificate.verify_directly_issued_by(certificate)


def test_it_opens_again_and_is_fit_as_an_anchor(folder: Path) -> None:
    authority = open_device_authority(folder / "device-ca.pem", folder / "device-ca.key")
    assert len(TrustAnchors([authority.certificate])) == 1
    parsed = x509.load_der_x509_certificate(authority.certificate)
    assert parsed.public_key() == authority.signer.public_key


def test_it_is_never_overwritten(folder: Path) -> None:
    with pytest.raises(KeyFileExists):
        create_device_authority(folder / "device-ca.pem", folder / "new.key", now=NOW)
    assert not (folder / "new.key").exists()


def test_a_certificate_of_another_key_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    create_device_authority(other, tmp_path / "other.key", now=NOW)
    with pytest.raises(KeyFileDamaged):
        open_device_authority(other, folder / "device-ca.key")
    with pytest.raises(KeyFileMissing):
        open_device_authority(other, folder / "none.key")
    with pytest.raises(KeyFileDamaged):
        open_device_authority(folder / "none.pem", folder / "device-ca.key")
