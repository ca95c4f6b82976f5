"""The built-in TLS certificate: trusted for our hosts, for nothing else, and renewable."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ostiary.keys.file import KeyFileExists
from ostiary.keys.tls import (
    HostOutsideAuthority,
    UnusableHost,
    create_tls_authority,
    issue_server_certificate,
)

NOW = datetime(2030, 6, 1, tzinfo=UTC)
HOSTS = ("mdm.example.org", "localhost", "127.0.0.1", "::1")


@pytest.fixture
def ca(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "tls-ca.pem", tmp_path / "tls-ca.key"
    create_tls_authority(*paths, hosts=HOSTS, now=NOW)
    return paths


@pytest.fixture
def server(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "tls.pem", tmp_path / "tls.key"


@pytest.mark.parametrize("host", HOSTS)
def test_openssl_accepts_the_leaf_for_each_host(
    ca: tuple[Path, Path], server: tuple[Path, Path], host: str
) -> None:
    issue_server_certificate(ca, server, hosts=HOSTS, now=NOW)
    name = ["-verify_ip", host] if host in ("127.0.0.1", "::1") else ["-verify_hostname", host]
    moment = ["-attime", str(int(NOW.timestamp()))]
    done = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver", *moment, *name),
            *("-CAfile", str(ca[0]), str(server[0])),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_files_are_what_a_server_loads(
    ca: tuple[Path, Path], server: tuple[Path, Path]
) -> None:
    issue_server_certificate(ca, server, hosts=HOSTS, now=NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server)
    assert server[1].stat().st_mode & 0o777 == 0o600


def test_a_leaf_for_another_host_is_not_issued(
    ca: tuple[Path, Path], server: tuple[Path, Path]
) -> None:
    """Devices would refuse it by the CA's name constraint; so we say it before they do."""
    issue_server_certificate(ca, server, hosts=["a.mdm.example.org"], now=NOW)
    for host in ("example.org", "evil.test", "10.0.0.1", "notmdm.example.org"):
        with pytest.raises(HostOutsideAuthority):
            issue_server_certificate(ca, server, hosts=[host], now=NOW)


def test_a_renewal_replaces_key_and_certificate_and_ends_later(
    ca: tuple[Path, Path], server: tuple[Path, Path]
) -> None:
    first = issue_server_certificate(ca, server, hosts=HOSTS, now=NOW)
    before = x509.load_pem_x509_certificate(server[0].read_bytes())
    second = issue_server_certificate(ca, server, hosts=HOSTS, now=NOW + timedelta(days=300))
    after = x509.load_pem_x509_certificate(server[0].read_bytes())
    assert second - first == timedelta(days=300)
    assert after.public_key() != before.public_key()
    assert after.serial_number != before.serial_number
    assert first - NOW < timedelta(days=398)


def test_a_leaf_never_outlives_its_authority(
    ca: tuple[Path, Path], server: tuple[Path, Path]
) -> None:
    late = NOW + timedelta(days=3600)
    ends_at = issue_server_certificate(ca, server, hosts=HOSTS, now=late)
    assert ends_at == x509.load_pem_x509_certificate(ca[0].read_bytes()).not_valid_after_utc


def test_an_authority_is_never_overwritten(ca: tuple[Path, Path]) -> None:
    with pytest.raises(KeyFileExists):
        create_tls_authority(*ca, hosts=HOSTS, now=NOW)


@pytest.mark.parametrize("host", ["", "a b", "a..b", "*.example.org", "bücher.example", "x" * 300])
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(UnusableHost):
        create_tls_authority(tmp_path / "a", tmp_path / "b", hosts=[host], now=NOW)


def test_no_host_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableHost):
        create_tls_authority(tmp_path / "a", tmp_path / "b", hosts=[], now=NOW)
