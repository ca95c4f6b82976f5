"""Who stands at the door, once the certificate is verified and the signature proven."""

from datetime import datetime

from ostiary.domain.token import Fingerprint, TenantId
from ostiary.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIdentity:
    """A proven certificate: it chains to an authority of `tenant` and signed this very message.

    It says nothing yet about which enrollment it may speak for: the binding does, inside the decision.
    """

    fingerprint: Fingerprint
    tenant: TenantId
    certificate: bytes
    """DER."""
    not_after: datetime
    is_ours: bool
    """Issued by the built-in CA, so a `Credential` tells who was invited."""
