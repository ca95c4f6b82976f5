"""Who a request says it is from: the Mdm-Signature header, or a certificate that a trusted proxy forwards."""

import ipaddress
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.types import Scope

from ostiary.errors import Malformed
from ostiary.formats import base64
from ostiary.services.gate import Presented
from ostiary.values import dataclass
from ostiary.web.body import announced_bytes

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SIGNATURE: Final = b"mdm-signature"
CHECKIN_TYPE: Final = b"application/x-apple-aspen-mdm-checkin"
_LONGEST_CERTIFICATE: Final = 32 * 1024
_PEM_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


class HeaderRepeated(Malformed):
    """A header that may stand once stands there twice."""


class ProxyCertificateUnreadable(Malformed):
    """The proxy's certificate header holds no certificate."""

    hint = "Forward it as RFC 9440 says (:base64 DER:), or as URL-escaped PEM."


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTrust:
    """Which peers may speak for a device's TLS certificate, and in which header.

    The proxy must remove the header from what clients send; from any other peer it is not even read.
    """

    header: bytes
    """In lower case; empty for none."""
    networks: tuple[Network, ...]

    def speaks_for_devices(self, host: str | None) -> bool:
        """Whether a peer's address is a trusted proxy's."""
        if host is None or not self.networks:
            return False
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What the headers of a device's request say, each read once."""

    presented: Presented
    is_checkin: bool
    """The content type says so; another one does not say that it is none."""
    announced_bytes: int | None
    """Content-Length; None for a chunked body."""


def read_head(scope: Scope, proxies: ProxyTrust) -> Head:
    """Who a request says it is from, and how long and of what kind its body is.

    Raises:
        HeaderRepeated, ProxyCertificateUnreadable

    Source: check-in-and-commands.md 3.8, the two carriers; 1.1 for the content type.
    """
    signature: bytes | None = None
    forwarded: list[bytes] = []
    is_checkin = False
    announced: int | None = None
    for name, value in scope["headers"]:
        if name == SIGNATURE:
            if signature is not None:
                raise HeaderRepeated(header="mdm-signature")
            signature = value.strip()
        elif name == b"content-length":
            announced = announced_bytes(value)
        elif name == b"content-type":
            is_checkin = value.lower().startswith(CHECKIN_TYPE)
        elif name == proxies.header:
            forwarded.append(value.strip())
    return Head(
        presented=Presented(
            signature=signature,
            proxy_certificate=_forwarded(scope, forwarded, proxies) if forwarded else None,
        ),
        is_checkin=is_checkin,
        announced_bytes=announced,
    )


def _forwarded(scope: Scope, values: list[bytes], proxies: ProxyTrust) -> bytes | None:
    client = scope.get("client")
    if not proxies.speaks_for_devices(client[0] if client else None):
        return None
    if len(values) > 1:
        raise HeaderRepeated(header=proxies.header.decode("latin-1"))
    return decode_proxy_certificate(values[0].decode("latin-1")) if values[0] else None


def decode_proxy_certificate(value: str) -> bytes:
    """The DER of a forwarded certificate, in either form that proxies use. Raises ProxyCertificateUnreadable."""
    if len(value) > _LONGEST_CERTIFICATE:
        raise ProxyCertificateUnreadable(limit_characters=_LONGEST_CERTIFICATE)
    try:
        if value.startswith(":"):
            return base64.decode_strict(value.strip()[1:].removesuffix(":"), whitespace=False)
        pem = unquote_to_bytes(value)
        if pem.count(_PEM_BEGIN) != 1:
            raise ProxyCertificateUnreadable
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except (ValueError, base64.NotBase64):
        raise ProxyCertificateUnreadable from None
