"""Who a request says it is from: the Mdm-Signature header, or a certificate that a trusted proxy forwards."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.datastructures import Headers
from starlette.requests import Request

from ostiary.errors import Malformed
from ostiary.formats import base64
from ostiary.services.gate import Presented

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SIGNATURE: Final = "mdm-signature"
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

    header: str
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


def read_presented(request: Request, proxies: ProxyTrust) -> Presented:
    """What the request brings to say who sent it.

    Raises:
        HeaderRepeated, ProxyCertificateUnreadable

    Source: check-in-and-commands.md 3.8, the two carriers.
    """
    host = request.client.host if request.client else None
    forwarded = (
        _single(request.headers, proxies.header) if proxies.speaks_for_devices(host) else None
    )
    return Presented(
        signature=_single(request.headers, SIGNATURE),
        proxy_certificate=decode_proxy_certificate(forwarded) if forwarded else None,
    )


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


def _single(headers: Headers, name: str) -> str | None:
    values: Sequence[str] = headers.getlist(name)
    if len(values) > 1:
        raise HeaderRepeated(header=name)
    return values[0].strip() if values else None
