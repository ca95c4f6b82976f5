"""The authorities whose certificates devices may hold, and which tenant each of them stands for."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.errors import Malformed
from ostiary.formats.x509 import (
    CertificateExpired,
    CertificateNotYetValid,
    TrustAnchors,
    VerifiedChain,
    fingerprint,
    verify_chain,
)
from ostiary.values import dataclass

_LARGEST_FILE: Final = 1024 * 1024
ANY_SKEW: Final = timedelta(days=36_500)


class AuthorityFileUnusable(Malformed):
    """A file of trusted authorities holds no certificate in PEM that we can read."""

    hint = "Give the authority's own certificate, not a device's, between BEGIN and END CERTIFICATE lines."


class AuthorityOfTwoTenants(Malformed):
    """One authority is named twice, with different owners: its devices would belong to nobody for certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedAuthority:
    """One authority, and whose devices its certificates belong to."""

    certificate: bytes
    """DER."""
    tenant: TenantId
    is_ours: bool
    """The built-in CA: we know for each certificate who was invited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedIssuer:
    """Which authority a device's certificate was traced to."""

    fingerprint: str
    """Of the device's certificate."""
    tenant: TenantId
    is_ours: bool
    not_after: datetime
    """The earliest end among the device's certificate and those between it and the authority."""


class DeviceAuthorities:
    """Verifies device certificates, and remembers which ones it has verified."""

    def __init__(self, authorities: Iterable[TrustedAuthority], *, capacity: int = 131_072) -> None:
        """Trust `authorities`; `capacity` bounds how many verified certificates are remembered.

        Raises:
            AuthorityOfTwoTenants: one is given twice and differently.
            NotAnAuthority, CertificateMalformed: one is no certificate that may issue others.
        """
        self._by_fingerprint: dict[str, TrustedAuthority] = {}
        for authority in authorities:
            name = fingerprint(authority.certificate)
            if self._by_fingerprint.setdefault(name, authority) != authority:
                raise AuthorityOfTwoTenants(fingerprint=name)
        self.anchors: Final = TrustAnchors(
            authority.certificate for authority in self._by_fingerprint.values()
        )
        self._capacity = capacity
        self._verified: OrderedDict[str, VerifiedIssuer] = OrderedDict()

    def verify(
        self,
        leaf_der: bytes,
        intermediates: Sequence[bytes],
        now: datetime,
        *,
        accept_expired: bool = False,
        grace: timedelta = timedelta(0),
    ) -> VerifiedIssuer:
        """The authority that issued a device's certificate.

        A chain is verified once for a certificate and this set of authorities, its end is compared each time:
        an expired identity is refused, which is a 400 and unenrolls nobody, unless policy accepts it, or it ended
        no longer ago than `grace`.

        Raises:
            CertificateExpired, CertificateNotYetValid, CertificateNotTrusted, CertificateMalformed,
            CertificateTooLarge, AlgorithmNotAllowed: as formats.x509.verify_chain.

        Source: check-in-and-commands.md 3.7 (fail-safe rule), 3.8 step 7.
        """
        name = fingerprint(leaf_der)
        issuer = self._verified.get(name)
        if issuer is None:
            issuer = self._remember(self._chain(leaf_der, intermediates, now))
        if not accept_expired and now - issuer.not_after > grace:
            raise CertificateExpired(fingerprint=name, not_after=issuer.not_after.isoformat())
        return issuer

    def _chain(
        self, leaf_der: bytes, intermediates: Sequence[bytes], now: datetime
    ) -> VerifiedChain:
        try:
            return verify_chain(leaf_der, intermediates, self.anchors, now, accept_expired=True)
        except CertificateNotYetValid:
            # Our own CA dates back. If one of its certificates begins later than now, a clock of ours was set, then
            # or since; the device has nothing to do with that, and would be refused for as long as it was off.
            chain = verify_chain(
                leaf_der, intermediates, self.anchors, now, skew=ANY_SKEW, accept_expired=True
            )
            if not self._by_fingerprint[chain.anchor_fingerprint].is_ours:
                raise
            return chain

    def _remember(self, chain: VerifiedChain) -> VerifiedIssuer:
        """Keep what the chain came to, without the certificate: a fleet's worth of these is in memory."""
        authority = self._by_fingerprint[chain.anchor_fingerprint]
        issuer = VerifiedIssuer(
            fingerprint=chain.fingerprint,
            tenant=authority.tenant,
            is_ours=authority.is_ours,
            not_after=chain.not_after,
        )
        self._verified[chain.fingerprint] = issuer
        if len(self._verified) > self._capacity:
            self._verified.popitem(last=False)
        return issuer


def load_authorities(path: Path, tenant: TenantId = DEFAULT_TENANT) -> tuple[TrustedAuthority, ...]:
    """The foreign authorities in a PEM file (`--trust-ca`). Raises AuthorityFileUnusable."""
    try:
        with path.open("rb") as file:
            certificates = x509.load_pem_x509_certificates(file.read(_LARGEST_FILE))
    except (OSError, ValueError):
        raise AuthorityFileUnusable(path=path) from None
    return tuple(
        TrustedAuthority(
            certificate=certificate.public_bytes(Encoding.DER), tenant=tenant, is_ours=False
        )
        for certificate in certificates
    )
