"""Where a device's HTTP connections come from: TLS that trusts what its profile says, or a test's transport.

Source: check-in-and-commands.md 1.1, 3.8.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ostiary_sim.identity import Identity

_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What one connection is built on."""

    anchors: tuple[x509.Certificate, ...] = ()
    """Certificates trusted beside those of the factory."""
    identity: Identity | None = None
    """The client certificate; None: the server asks for none, messages are signed instead."""


ClientFactory = Callable[[Trust], httpx.AsyncClient]
"""Gives the client for such a connection. It stays the factory's to close."""

HttpSource = httpx.AsyncBaseTransport | httpx.AsyncClient | ClientFactory


def clients_from(source: HttpSource) -> ClientFactory:
    """A factory out of whatever a test has at hand: a transport, a client, or a factory."""
    if isinstance(source, httpx.AsyncClient):
        client = source
        return lambda _trust: client
    if isinstance(source, httpx.AsyncBaseTransport):
        wrapped = httpx.AsyncClient(transport=source, trust_env=False)
        return lambda _trust: wrapped
    return source


@dataclass(slots=True)
class TlsClients:
    """Real TLS clients, one for each different trust, shared by the devices that ask for the same.

    Args:
        ca_file: PEM file of the authorities to trust; None takes those of the operating system.
        max_connections: for each client.
    """

    ca_file: Path | None = None
    max_connections: int = 64
    _clients: dict[tuple[bytes, ...], httpx.AsyncClient] = field(default_factory=dict)

    def __call__(self, trust: Trust) -> httpx.AsyncClient:
        """The client for `trust`, made once."""
        name = _name(trust)
        if name not in self._clients:
            self._clients[name] = httpx.AsyncClient(
                verify=tls_context(trust, self.ca_file),
                timeout=_TIMEOUT_SECONDS,
                trust_env=False,
                limits=httpx.Limits(
                    max_connections=self.max_connections,
                    max_keepalive_connections=self.max_connections,
                ),
            )
        return self._clients[name]

    async def aclose(self) -> None:
        """Close every client."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()


def tls_context(trust: Trust, ca_file: Path | None = None) -> ssl.SSLContext:
    """A client context that trusts `ca_file` and the anchors, and shows the identity if there is one."""
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    if trust.anchors:
        context.load_verify_locations(cadata="".join(_pem(each) for each in trust.anchors))
    if trust.identity is not None:
        load_identity(context, trust.identity)
    return context


def load_identity(context: ssl.SSLContext, identity: Identity) -> None:
    """Let `context` prove itself with `identity`. The key passes through a private file: ssl takes nothing else."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "identity.pem"
        path.touch(mode=0o600)
        path.write_bytes(encode_identity(identity))
        context.load_cert_chain(path)


def encode_identity(identity: Identity) -> bytes:
    """Key and certificate as one PEM file."""
    key = identity.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key + _pem(identity.certificate).encode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _name(trust: Trust) -> tuple[bytes, ...]:
    anchors = sorted(each.fingerprint(hashes.SHA256()) for each in trust.anchors)
    own = b"" if trust.identity is None else trust.identity.fingerprint.encode()
    return (own, *anchors)
