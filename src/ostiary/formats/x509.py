"""Certificates of devices: what they say, and whether they chain to an authority that we trust."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from typing_extensions import override

from ostiary.errors import Refused, TooLarge
from ostiary.formats.signing_keys import (
    UNREADABLE,
    AlgorithmNotAllowed,
    CertificateMalformed,
    public_key_of,
)

__all__ = [
    "AlgorithmNotAllowed",
    "CertificateExpired",
    "CertificateMalformed",
    "CertificateNotTrusted",
    "CertificateNotYetValid",
    "CertificateTooLarge",
    "NotAnAuthority",
    "TrustAnchors",
    "VerifiedChain",
    "fingerprint",
    "load",
    "not_after",
    "subject_uid",
    "verify_chain",
]

_ExtensionT = TypeVar("_ExtensionT", bound=x509.ExtensionType)

EARLY_BY: Final = timedelta(minutes=5)
"""How long before its notBefore a certificate may be used: devices sign seconds too early."""

_LIMIT_BYTES: Final = 32 * 1024
_MOST_INTERMEDIATES: Final = 16
_LONGEST_PATH: Final = 5  # certificates between the device's and the anchor
_MOST_CHECKS: Final = 24  # signatures that one request may make us verify
_CLIENT_USAGES: Final = frozenset(
    {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
)
_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)


class CertificateTooLarge(TooLarge):
    """A certificate is larger, or there are more of them, than any device sends."""


class CertificateNotTrusted(Refused):
    """The certificate was not issued by an authority that this server trusts."""

    hint = "If devices get certificates from another authority, add it with --trust-ca."


class CertificateExpired(Refused):
    """The certificate, or one above it, has expired."""

    hint = "Renew the device's identity, or let its policy accept expired certificates."


class CertificateNotYetValid(Refused):
    """The certificate begins in the future."""

    hint = "Compare the clocks of the device, the issuing authority and this server."


class NotAnAuthority(Refused):
    """The certificate may not issue others, so it cannot be trusted as an authority."""


def fingerprint(der: bytes) -> str:
    """The SHA-256 of a DER certificate, lower-case hex: its name in bindings, caches and logs."""
    return hashlib.sha256(der).hexdigest()


def load(der: bytes) -> x509.Certificate:
    """The certificate in `der`, its extensions readable.

    Raises:
        CertificateMalformed: it cannot be read: bad structure, repeated extensions, empty usages.
        CertificateTooLarge: more than 32 KiB.
    """
    if len(der) > _LIMIT_BYTES:
        raise CertificateTooLarge(size_bytes=len(der), limit_bytes=_LIMIT_BYTES)
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Lazy in the library: read them here, so that nobody stumbles over them later.
        _ = (certificate.extensions, certificate.subject, certificate.issuer)
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except UNREADABLE:
        raise CertificateMalformed from None
    if certificate.serial_number < 0:
        raise CertificateMalformed("the certificate's serial number is negative")
    return certificate


def not_after(der: bytes) -> datetime:
    """The last moment at which a DER certificate is valid, aware UTC. Raises as `load`."""
    return load(der).not_valid_after_utc


def subject_uid(cert: bytes | x509.Certificate) -> str | None:
    """The user id of the subject, None without one: in a push certificate, its topic. Raises as `load`.

    Source: check-in-and-commands.md 5.6.
    """
    certificate = load(cert) if isinstance(cert, bytes) else cert
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.USER_ID):
        return attribute.value if isinstance(attribute.value, str) else None
    return None


class TrustAnchors:
    """The authorities whose certificates we accept, roots or intermediates. Immutable.

    `id` names the set: a result may be cached as "this certificate chains to anchor set `id`".
    """

    __slots__ = ("_by_subject", "_ders", "id")

    def __init__(self, ders: Iterable[bytes]) -> None:
        """Read the DER certificates of authorities.

        Raises:
            NotAnAuthority: one may not issue certificates.
            CertificateMalformed: one cannot be read.
        """
        by_subject: dict[bytes, list[tuple[bytes, x509.Certificate]]] = {}
        self._ders: Final = frozenset(ders)
        for der in sorted(self._ders):
            anchor = load(der)
            if not _may_issue(anchor):
                raise NotAnAuthority(fingerprint=fingerprint(der))
            by_subject.setdefault(anchor.subject.public_bytes(), []).append((der, anchor))
        self._by_subject: Final = by_subject
        self.id: Final = hashlib.sha256(b"".join(sorted(map(_digest, self._ders)))).hexdigest()

    def __len__(self) -> int:
        return len(self._ders)

    def __iter__(self) -> Iterator[bytes]:
        """The DER certificates, in a fixed order."""
        return iter(sorted(self._ders))

    @override
    def __repr__(self) -> str:
        return f"<TrustAnchors {self.id[:12]}: {len(self)}>"

    def named(self, subject: x509.Name) -> Sequence[tuple[bytes, x509.Certificate]]:
        """The anchors with this subject, each with its DER."""
        return self._by_subject.get(subject.public_bytes(), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedChain:
    """Proof that a certificate chains to one of the anchors of the set `anchors_id`."""

    certificate: bytes  # DER
    fingerprint: str
    anchors_id: str
    anchor_fingerprint: str
    not_before: datetime  # of the device's certificate
    not_after: datetime  # the earliest end of the certificates below the anchor


def verify_chain(
    leaf_der: bytes,
    intermediates: Sequence[bytes],
    anchors: TrustAnchors,
    now: datetime,
    *,
    skew: timedelta = EARLY_BY,
    accept_expired: bool = False,
) -> VerifiedChain:
    """Proof that a device's certificate was issued, directly or not, by one of `anchors`.

    `intermediates` is what the device sent along, in any order; strangers among them are ignored.
    `skew` is allowed before notBefore, and `accept_expired` leaves notAfter to the caller's policy: a
    device that slept through its renewal should still be able to renew. An anchor is trusted because an
    operator said so, so its own dates are not asked.

    Raises:
        CertificateNotTrusted: no path to an anchor, or usages or constraints forbid it.
        CertificateNotYetValid, CertificateExpired: a path exists, and `now` lies outside of it.
        CertificateMalformed, CertificateTooLarge: the device's certificate cannot be read.
        AlgorithmNotAllowed: its key is of a kind or size that we refuse.

    Source: check-in-and-commands.md 3.8, steps 6 and 7; RFC 5280 6.1; users.md 5.4 item 19.
    """
    if len(intermediates) > _MOST_INTERMEDIATES:
        raise CertificateTooLarge(certificates=len(intermediates), limit=_MOST_INTERMEDIATES)
    leaf = load(leaf_der)
    public_key_of(leaf_der)
    if not _is_understood(leaf) or not _may_be_a_client(leaf):
        raise CertificateNotTrusted(
            "the certificate's usages or constraints forbid it", fingerprint=fingerprint(leaf_der)
        )
    path = _Search(anchors, intermediates).path_from(leaf)
    if path is None:
        raise CertificateNotTrusted(fingerprint=fingerprint(leaf_der))
    below = [leaf, *path.between]
    if any(now < one.not_valid_before_utc - skew for one in below):
        raise CertificateNotYetValid(fingerprint=fingerprint(leaf_der))
    ends_at = min(one.not_valid_after_utc for one in below)
    if now > ends_at and not accept_expired:
        raise CertificateExpired(fingerprint=fingerprint(leaf_der), not_after=ends_at.isoformat())
    return VerifiedChain(
        certificate=leaf_der,
        fingerprint=fingerprint(leaf_der),
        anchors_id=anchors.id,
        anchor_fingerprint=fingerprint(path.anchor),
        not_before=leaf.not_valid_before_utc,
        not_after=ends_at,
    )


@dataclass(frozen=True, slots=True)
class _Path:
    """The way from a leaf to an anchor."""

    between: tuple[x509.Certificate, ...]
    anchor: bytes


class _Search:
    """One search for a path, with a bound on the signatures it verifies."""

    __slots__ = ("_anchors", "_checks_left", "_intermediates", "_sent")

    def __init__(self, anchors: TrustAnchors, intermediates: Sequence[bytes]) -> None:
        self._anchors = anchors
        self._checks_left = _MOST_CHECKS
        self._sent = intermediates
        self._intermediates: list[x509.Certificate] | None = (
            None  # read when they are needed, seldom
        )

    def path_from(
        self, subject: x509.Certificate, between: tuple[x509.Certificate, ...] = ()
    ) -> _Path | None:
        for der, anchor in self._anchors.named(subject.issuer):
            if _allows_below(anchor, between) and self._issued(subject, anchor):
                return _Path(between, der)
        if len(between) == _LONGEST_PATH:
            return None
        if self._intermediates is None:
            self._intermediates = list(_usable_issuers(self._sent))
        for issuer in self._intermediates:
            if issuer.subject != subject.issuer or issuer in between:
                continue
            if _allows_below(issuer, between) and self._issued(subject, issuer):
                path = self.path_from(issuer, (*between, issuer))
                if path is not None:
                    return path
        return None

    def _issued(self, subject: x509.Certificate, issuer: x509.Certificate) -> bool:
        self._checks_left -= 1
        if self._checks_left < 0:
            return False
        try:
            subject.verify_directly_issued_by(issuer)
        except (InvalidSignature, *UNREADABLE):
            return False
        return True


def _usable_issuers(ders: Sequence[bytes]) -> Iterator[x509.Certificate]:
    """Those of the certificates a device sent along that could stand between it and an anchor."""
    for der in ders:
        try:
            certificate = load(der)
            public_key_of(der)
        except (CertificateMalformed, CertificateTooLarge, AlgorithmNotAllowed):
            continue  # a stranger in the bag does no harm
        if _may_issue(certificate) and _is_understood(certificate):
            yield certificate


def _may_issue(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    return constraints is not None and constraints.ca and (usage is None or usage.key_cert_sign)


def _allows_below(issuer: x509.Certificate, between: Sequence[x509.Certificate]) -> bool:
    """Whether the issuer's path length leaves room for the authorities below it. (RFC 5280 4.2.1.9)"""
    constraints = _extension(issuer, x509.BasicConstraints)
    longest = constraints.path_length if constraints is not None else None
    if longest is None:
        return True
    return sum(one.subject != one.issuer for one in between) <= longest


def _may_be_a_client(certificate: x509.Certificate) -> bool:
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    return usages is None or not _CLIENT_USAGES.isdisjoint(usages)


def _is_understood(certificate: x509.Certificate) -> bool:
    """Whether we know what every critical extension asks of us."""
    return all(one.oid in _UNDERSTOOD for one in certificate.extensions if one.critical)


def _extension(certificate: x509.Certificate, kind: type[_ExtensionT]) -> _ExtensionT | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _digest(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()
