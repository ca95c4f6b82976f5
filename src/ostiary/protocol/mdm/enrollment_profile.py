"""The enrollment profile: trust anchors, an identity by SCEP, and the MDM payload; nothing else. (6.1, 6.2, 6.5)"""

import ipaddress
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Final
from urllib.parse import urlsplit

from ostiary.errors import Malformed
from ostiary.formats.mobileconfig import render_profile
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.checkin import Topic
from ostiary.secret import Secret

CONTENT_TYPE: Final = "application/x-apple-aspen-config"

PER_USER_CONNECTIONS: Final = "com.apple.mdm.per-user-connections"
BOOTSTRAP_TOKEN: Final = "com.apple.mdm.bootstraptoken"  # noqa: S105 - the name of a capability
GET_TOKEN: Final = "com.apple.mdm.token"  # noqa: S105 - the name of a capability
ALL_CAPABILITIES: Final = frozenset({PER_USER_CONNECTIONS, BOOTSTRAP_TOKEN, GET_TOKEN})
"""What this server lives up to.

`com.apple.mdm.per-user-connections` can never be added later, and Macs and Shared iPads need it.
Without `com.apple.mdm.bootstraptoken` a Mac with macOS 11 or later never escrows (BT-19).
`com.apple.mdm.token` makes devices send GetToken, so it is safe only where that is answered: with a token, or with
400 for a service that is not known. It has nothing to do with UnlockToken.
"""

_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80
_LONGEST_URL: Final = 255


class AccessRight(IntFlag):
    """What a profile lets the server do; an update may drop rights and never add one. (6.1)"""

    INSPECT_PROFILES = 1
    INSTALL_PROFILES = 2
    LOCK_AND_CLEAR_PASSCODE = 4
    ERASE = 8
    DEVICE_INFORMATION = 16
    NETWORK_INFORMATION = 32
    INSPECT_PROVISIONING = 64
    INSTALL_PROVISIONING = 128
    INSPECT_APPS = 256
    RESTRICTIONS = 512
    SECURITY = 1024
    SETTINGS = 2048
    MANAGE_APPS = 4096


ALL_RIGHTS: Final = 8191


class UnusableUrl(Malformed):
    """The server's URL must be https (http on loopback alone), a host and perhaps a port, and nothing more."""

    hint = "For example https://mdm.example.org; devices keep it for as long as they are enrolled."


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentUrls:
    """The addresses and identifiers that devices keep: built from `--url` alone, without tenant, version or secret.

    None of them may ever change once a device holds them. (design.md 3)
    """

    base: str

    @property
    def server(self) -> str:
        return f"{self.base}/mdm"

    @property
    def check_in(self) -> str:
        return f"{self.base}/checkin"

    @property
    def scep(self) -> str:
        return f"{self.base}/scep"

    @property
    def identifier(self) -> str:
        """The enrollment profile's PayloadIdentifier."""
        return self.identifier_of("enrollment")

    def identifier_of(self, profile: str) -> str:
        """A profile's PayloadIdentifier: the host's labels turned round, as Apple's own are."""
        parts = urlsplit(self.base)
        host = parts.hostname or ""
        labels = [host.replace(":", "-")] if _is_address(host) else host.split(".")[::-1]
        if parts.port not in (None, _HTTPS_PORT):
            labels.append(f"port-{parts.port}")
        return ".".join([*labels, "ostiary", profile])

    def uuid(self, payload: str) -> str:
        """A PayloadUUID that stays the same for the same server and payload."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.base}/#{payload}")).upper()


def decode_url(url: str) -> EnrollmentUrls:
    """The addresses built from `--url`. Raises UnusableUrl."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise UnusableUrl from None
    host = parts.hostname or ""
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment
    named = parts.username is None and parts.password is None and bool(host)
    plain = host.isascii() and all(c.isalnum() or c in "-.:" for c in host)
    # Devices refuse plain http; on loopback it serves rehearsals whose clients speak to us directly.
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))
    if not (secure and bare and named and plain) or len(url) > _LONGEST_URL:
        raise UnusableUrl(field="url")
    written = f"[{host}]" if ":" in host else host
    usual = _HTTPS_PORT if parts.scheme == "https" else _HTTP_PORT
    return EnrollmentUrls(
        base=f"{parts.scheme}://{written}" + (f":{port}" if port not in (None, usual) else "")
    )


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentOffer:
    """All that one enrollment profile says."""

    urls: EnrollmentUrls
    topic: Topic
    challenge: Secret
    """Text of printable ASCII, for SCEP; fresh for each profile."""
    trust_anchors: tuple[bytes, ...] = ()
    """DER of the CA behind a self-made TLS certificate; none for a publicly trusted one."""
    organization: str = "Ostiary"
    access_rights: int = ALL_RIGHTS
    capabilities: frozenset[str] = ALL_CAPABILITIES


def render_enrollment_profile(offer: EnrollmentOffer) -> bytes:
    """The profile as a property list, unsigned. It holds the challenge: never log or store it in clear.

    Everything but the challenge is the same for the same offer, so that a renewal replaces what is installed.
    """
    urls = offer.urls
    anchors = [_anchor(offer, number) for number in range(len(offer.trust_anchors))]
    return render_profile(
        {
            "PayloadType": "Configuration",
            "PayloadVersion": 1,
            "PayloadIdentifier": urls.identifier,
            "PayloadUUID": urls.uuid("enrollment"),
            "PayloadDisplayName": f"{offer.organization}: device management",
            "PayloadDescription": f"Enrolls this device with {urls.base}.",
            "PayloadOrganization": offer.organization,
            "PayloadScope": "System",
            "PayloadContent": [*anchors, _identity(offer), _management(offer)],
        }
    )


def _anchor(offer: EnrollmentOffer, number: int) -> Mapping[str, PlistValue]:
    return {
        **_common(offer, "com.apple.security.root", f"anchor-{number}", "Server's authority"),
        "PayloadContent": offer.trust_anchors[number],
    }


def _identity(offer: EnrollmentOffer) -> Mapping[str, PlistValue]:
    """The SCEP payload.

    Without CAFingerprint: GetCACert comes over the same verified TLS as this profile, and which digest a device
    computes there is documented nowhere. The subject is a courtesy; the CA chooses its own.
    """
    return {
        **_common(offer, "com.apple.security.scep", "identity", "Device identity"),
        "PayloadContent": {
            "URL": offer.urls.scep,
            "Name": "Ostiary",
            "Subject": [[["CN", "Ostiary device identity"]]],
            "Challenge": offer.challenge.reveal().decode("ascii"),
            "Keysize": 2048,
            "Key Type": "RSA",
            "Key Usage": 5,
            "Retries": 3,
            "RetryDelay": 10,
            "KeyIsExtractable": False,
            "AllowAllAppsAccess": False,
        },
    }


def _management(offer: EnrollmentOffer) -> Mapping[str, PlistValue]:
    urls = offer.urls
    return {
        **_common(offer, "com.apple.mdm", "management", "Device management"),
        "IdentityCertificateUUID": urls.uuid("identity"),
        "Topic": offer.topic,
        "ServerURL": urls.server,
        "CheckInURL": urls.check_in,
        "SignMessage": True,
        "CheckOutWhenRemoved": True,
        "AccessRights": offer.access_rights,
        "ServerCapabilities": sorted(offer.capabilities),
    }


def _common(
    offer: EnrollmentOffer, payload_type: str, name: str, display_name: str
) -> dict[str, PlistValue]:
    return {
        "PayloadType": payload_type,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{offer.urls.identifier}.{name}",
        "PayloadUUID": offer.urls.uuid(name),
        "PayloadDisplayName": display_name,
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
