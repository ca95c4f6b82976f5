"""The TLS files of a running server: our own renewed in time, anybody's taken up when they change."""

import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from ostiary.errors import Unavailable
from ostiary.keys.tls import issue_server_certificate

RENEW_BEFORE: Final = timedelta(days=60)


class TlsFileUnusable(Unavailable):
    """A certificate file of the server, or its key, cannot be read or used."""

    hint = "Look at [tls] in ostiary.toml, and at the files that it names."


class ServerTls:
    """Certificate and key that the server shows, in a context that new connections follow."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises TlsFileUnusable."""
        self._files = (certificate, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._loaded = self._stamp()
        self._load()

    def refresh(self) -> bool:
        """Take up files that changed; whether they had. Connections that are open stay as they are.

        Raises:
            TlsFileUnusable: the old certificate goes on being shown.
        """
        stamp = self._stamp()
        if stamp == self._loaded:
            return False
        self._loaded = stamp
        self._load()
        return True

    def _load(self) -> None:
        try:
            # A context of its own first: a certificate without its key would spoil the one in use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
            self.context.load_cert_chain(*self._files)
        except OSError:
            raise TlsFileUnusable(certificate=self._files[0], key=self._files[1]) from None

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in self._files)
        except OSError:
            raise TlsFileUnusable(certificate=self._files[0], key=self._files[1]) from None


def renew_own_certificate(
    authority: tuple[Path, Path], server: tuple[Path, Path], *, hosts: Sequence[str], now: datetime
) -> datetime | None:
    """A fresh certificate from our own TLS CA if the present one ends soon, or was made by a clock that was ahead.

    Gives when the new one ends.

    Raises:
        TlsFileUnusable: the present one cannot be read.
    """
    try:
        leaf = x509.load_pem_x509_certificate(server[0].read_bytes())
    except (OSError, ValueError):
        raise TlsFileUnusable(certificate=server[0]) from None
    if leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc - RENEW_BEFORE:
        return None
    return issue_server_certificate(authority, server, hosts=hosts, now=now)
