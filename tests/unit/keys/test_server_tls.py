"""A server's certificate: renewed before it ends, taken up when it changes, never lost to a bad file."""

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ostiary.keys.server_tls import (
    RENEW_BEFORE,
    ServerTls,
    TlsFileUnusable,
    renew_own_certificate,
)
from ostiary.keys.tls import LEAF_VALID_FOR, create_tls_authority, issue_server_certificate

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOSTS = ("mdm.example.org",)
Files = tuple[Path, Path]


@pytest.fixture
def authority(tmp_path: Path) -> Files:
    files = tmp_path / "ca.pem", tmp_path / "ca.key"
    create_tls_authority(*files, hosts=HOSTS, now=NOW)
    return files


@pytest.fixture
def server(authority: Files, tmp_path: Path) -> Files:
    files = tmp_path / "tls.pem", tmp_path / "tls.key"
    issue_server_certificate(authority, files, hosts=HOSTS, now=NOW)
    return files


def serial(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


def shown(tls: ServerTls) -> int:
    """The serial number that a client is shown."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    here = tls.context.wrap_bio(to_server, to_client, server_side=True)
    steps: list[Callable[[], None]] = [client.do_handshake, here.do_handshake] * 4
    for step in steps:
        try:
            step()
        except ssl.SSLWantReadError:
            continue
    certificate = client.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def test_our_own_certificate_is_renewed_in_its_last_weeks(authority: Files, server: Files) -> None:
    """Expiring TLS unenrolls nobody, and stops everybody: so it renews itself."""
    before = serial(server[0])
    early = NOW + LEAF_VALID_FOR - RENEW_BEFORE - timedelta(days=1)
    assert renew_own_certificate(authority, server, hosts=HOSTS, now=early) is None
    late = NOW + LEAF_VALID_FOR - RENEW_BEFORE + timedelta(days=1)
    assert renew_own_certificate(authority, server, hosts=HOSTS, now=late) == late + LEAF_VALID_FOR
    assert serial(server[0]) != before


def test_an_expired_certificate_is_renewed_too(authority: Files, server: Files) -> None:
    """users.md 3.1: expired certificates must never stop the start."""
    late = NOW + LEAF_VALID_FOR + timedelta(days=100)
    assert renew_own_certificate(authority, server, hosts=HOSTS, now=late) is not None


def test_a_certificate_that_a_clock_ahead_has_made_is_replaced(
    authority: Files, server: Files
) -> None:
    """A clock that jumped a year ahead renews; once it is set right, no device would connect for a year."""
    ahead = NOW + timedelta(days=365)
    assert renew_own_certificate(authority, server, hosts=HOSTS, now=ahead) is not None
    assert renew_own_certificate(authority, server, hosts=HOSTS, now=NOW) == NOW + LEAF_VALID_FOR
    assert renew_own_certificate(authority, server, hosts=HOSTS, now=NOW) is None


def test_changed_files_are_shown_to_new_connections(authority: Files, server: Files) -> None:
    """Whoever renews by a tool of his own need not restart the server."""
    tls = ServerTls(*server)
    assert shown(tls) == serial(server[0])
    assert tls.refresh() is False
    issue_server_certificate(authority, server, hosts=HOSTS, now=NOW)
    os.utime(server[0], (1, 1))
    assert tls.refresh() is True
    assert shown(tls) == serial(server[0])


def test_a_file_that_cannot_be_used_changes_nothing(server: Files) -> None:
    """A half-written certificate must not take the server off the net."""
    tls = ServerTls(*server)
    before = serial(server[0])
    server[0].write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(TlsFileUnusable):
        tls.refresh()
    assert shown(tls) == before
    server[0].unlink()
    with pytest.raises(TlsFileUnusable):
        tls.refresh()


def test_a_server_without_its_files_does_not_start(tmp_path: Path, server: Files) -> None:
    with pytest.raises(TlsFileUnusable):
        ServerTls(tmp_path / "none.pem", server[1])
    with pytest.raises(TlsFileUnusable):
        ServerTls(server[0], server[0])
