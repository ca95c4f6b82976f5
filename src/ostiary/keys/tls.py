"""The built-in TLS certificate: a small CA of its own, limited by name to our hosts, and the server's leaf."""

import ipaddress
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostiary.errors import Malformed
from ostiary.keys.file import KeyFileDamaged, KeyFileExists, replace_key_file, write_key_file
from ostiary.keys.signer import encode_private_key, load_private_key

CA_VALID_FOR: Final = timedelta(days=10 * 365)
LEAF_VALID_FOR: Final = timedelta(days=397)
"""Apple's devices refuse TLS certificates that live longer than 825 days; a year and a month is what all accept."""
BACK_DATED: Final = timedelta(days=1)
_LONGEST_HOST: Final = 253
_MOST_HOSTS: Final = 100


class UnusableHost(Malformed):
    """A name that the server is to be reached by is neither a host name nor an IP address."""


class HostOutsideAuthority(Malformed):
    """The TLS CA may only vouch for the hosts that it was made for."""

    hint = "Devices trust this CA for these hosts only; make a new installation, or bring a certificate of your own."


def create_tls_authority(
    certificate_path: Path, key_path: Path, *, hosts: Sequence[str], now: datetime
) -> None:
    """A CA for the server's own TLS certificate, on disk; devices will trust it through the enrollment profile.

    A name constraint limits it to `hosts` (and what lies below them), so that its key, stolen, opens no
    other site on any device. It is not the device CA, and neither can issue for the other.

    Raises:
        KeyFileExists: there is one already.
        UnusableHost: a host is neither a name nor an address.
    """
    if certificate_path.exists():
        raise KeyFileExists(path=certificate_path)
    permitted = _names(hosts, network=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Ostiary TLS CA {os.urandom(4).hex()}")]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(now + CA_VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_ca=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_key_file(key_path, encode_private_key(key))
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def issue_server_certificate(
    authority: tuple[Path, Path], server: tuple[Path, Path], *, hosts: Sequence[str], now: datetime
) -> datetime:
    """A fresh key and leaf for `hosts` at the paths `server` (certificate, key); when the leaf ends.

    `authority` are the paths of the TLS CA's certificate and key. What lies at `server` is replaced, so
    this also renews. The certificate file holds the leaf and then the CA.

    Raises:
        HostOutsideAuthority: the CA was made for other hosts.
        UnusableHost: a host is neither a name nor an address.
        KeyFileMissing, KeyFileExposed, KeyFileDamaged: the CA is not usable.
    """
    ca = _load_certificate(authority[0])
    ca_key = load_private_key(authority[1])
    names = _names(hosts, network=False)
    _require_permitted(ca, hosts)
    key = ec.generate_private_key(ec.SECP256R1())
    not_after = min(now + LEAF_VALID_FOR, ca.not_valid_after_utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    chain = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (certificate, ca))
    replace_key_file(server[1], encode_private_key(key))
    replace_key_file(server[0], chain)
    return not_after


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise KeyFileDamaged(path=path) from None


def _require_permitted(ca: x509.Certificate, hosts: Sequence[str]) -> None:
    permitted = ca.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
    for host, name in zip(hosts, _names(hosts, network=True), strict=True):
        if not any(_lies_below(name, subtree) for subtree in permitted or ()):
            raise HostOutsideAuthority(host=host)


def _lies_below(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    match name, subtree:
        case x509.DNSName(), x509.DNSName():
            return name.value == subtree.value or name.value.endswith(f".{subtree.value}")
        case _:
            return name == subtree


def _names(hosts: Sequence[str], *, network: bool) -> list[x509.GeneralName]:
    if not 0 < len(hosts) <= _MOST_HOSTS:
        raise UnusableHost("the server needs at least one host", count=len(hosts))
    return [_name(host, network=network) for host in hosts]


def _name(host: str, *, network: bool) -> x509.GeneralName:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        plain = host.isascii() and all(
            label and label.replace("-", "a").isalnum() for label in labels
        )
        if not plain or len(host) > _LONGEST_HOST:
            raise UnusableHost(host=ascii(host)) from None
        return x509.DNSName(host.lower())
    return x509.IPAddress(ipaddress.ip_network(address) if network else address)


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
