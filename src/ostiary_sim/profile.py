"""The enrollment profile as a device reads it: which identity to get, whom to serve, what to refuse.

Source: check-in-and-commands.md 6.1, 6.2, 6.5.
"""

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ostiary_sim.cms import verify_signed
from ostiary_sim.errors import MessageUnreadable, ProfileRefused

MEDIA_TYPE: Final = "application/x-apple-aspen-config"
TOPIC_PREFIX: Final = "com.apple.mgmt."
PER_USER: Final = "com.apple.mdm.per-user-connections"
BOOTSTRAP: Final = "com.apple.mdm.bootstraptoken"
TOKEN: Final = "com.apple.mdm.token"  # noqa: S105 (the name of a capability)

_MANAGEMENT: Final = "com.apple.mdm"
_SCEP: Final = "com.apple.security.scep"
_PKCS12: Final = "com.apple.security.pkcs12"
_ACME: Final = "com.apple.security.acme"
_ANCHORS: Final = ("com.apple.security.root", "com.apple.security.pem", "com.apple.security.pkcs1")
_XML: Final = b"<"


class Rights:
    """Bits of AccessRights. Source: check-in-and-commands.md 6.1."""

    INSPECT_PROFILES: Final = 1
    CHANGE_PROFILES: Final = 2
    LOCK: Final = 4
    ERASE: Final = 8
    DEVICE_QUERIES: Final = 16
    SECURITY_QUERIES: Final = 1024
    SETTINGS: Final = 2048
    INSPECT_PROVISIONING: Final = 64
    CHANGE_PROVISIONING: Final = 128
    ALL: Final = 8191


@dataclass(frozen=True, slots=True, kw_only=True)
class ScepRequest:
    """Where and how to ask for an identity by SCEP."""

    uuid: str
    url: str
    ca_name: str | None
    subject: tuple[tuple[tuple[str, str], ...], ...]
    """RDNs of (OID or short name, value)."""
    challenge: str | None = field(repr=False)
    key_bits: int
    ca_fingerprint: bytes | None
    retries: int
    retry_delay_seconds: float
    alternative_names: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs12Request:
    """An identity that travels inside the profile."""

    uuid: str
    archive: bytes = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Management:
    """The MDM payload: whom the device will serve, and how far."""

    topic: str
    server_url: str
    check_in_url: str
    sign_message: bool
    access_rights: int
    capabilities: frozenset[str]
    check_out_when_removed: bool
    enrollment_mode: str | None
    assigned_account: str | None
    required_app: int | None

    def has_right(self, right: int) -> bool:
        """Say whether the server may do what `right` stands for."""
        return self.access_rights & right == right

    @property
    def unchangeable(self) -> Mapping[str, object]:
        """What an update of the installed profile must repeat exactly, by key."""
        return {
            "Topic": self.topic,
            "ServerURL": self.server_url,
            "CheckInURL": self.check_in_url,
            "EnrollmentMode": self.enrollment_mode,
            "AssignedManagedAppleID": self.assigned_account,
            "RequiredAppIDForMDM": self.required_app,
            "per-user-connections": PER_USER in self.capabilities,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentProfile:
    """One readable enrollment profile."""

    identifier: str
    uuid: str
    display_name: str
    identity: ScepRequest | Pkcs12Request
    management: Management
    anchors: tuple[x509.Certificate, ...]
    """Certificates the device will trust, for TLS too."""
    signer: x509.Certificate | None
    """Who signed the document; None: nobody."""


def read_enrollment_profile(document: bytes, *, allow_http: bool = False) -> EnrollmentProfile:
    """The enrollment profile in `document`, signed or plain.

    Args:
        document: what the server served.
        allow_http: let `http://` URLs pass, for tests without TLS; devices never do.

    Raises:
        ProfileRefused: a device would not install it; the message says why.
    """
    plain, signer = open_document(document)
    top = read_top_level(plain)
    payloads = _payloads(top)
    managements = [each for each in payloads if each["PayloadType"] == _MANAGEMENT]
    if len(managements) != 1:
        raise ProfileRefused(f"a profile needs exactly one MDM payload, not {len(managements)}")
    management = _management(managements[0], allow_http=allow_http)
    wanted = _text(managements[0], "IdentityCertificateUUID")
    return EnrollmentProfile(
        identifier=_text(top, "PayloadIdentifier"),
        uuid=_text(top, "PayloadUUID"),
        display_name=str(top.get("PayloadDisplayName", "")),
        identity=_identity(payloads, wanted, allow_http=allow_http),
        management=management,
        anchors=_anchors(payloads),
        signer=signer,
    )


def open_document(document: bytes) -> tuple[bytes, x509.Certificate | None]:
    """The property list in `document` and, if it is signed, who signed it.

    Raises:
        ProfileRefused: the signature is wrong.
    """
    if document.lstrip().startswith(_XML):
        return document, None
    try:
        signed = verify_signed(document)
    except MessageUnreadable as problem:
        raise ProfileRefused(f"the profile's signature is not valid: {problem}") from problem
    return signed.content, signed.signer


def read_top_level(plain: bytes) -> dict[str, Any]:
    """The top level of any configuration profile, with the keys every profile must have.

    Raises:
        ProfileRefused: not a property list, or a required key is missing.
    """
    try:
        top = plistlib.loads(plain)
    except (ExpatError, ValueError, plistlib.InvalidFileException) as problem:
        raise ProfileRefused("the profile is not a property list") from problem
    if not isinstance(top, dict):
        raise ProfileRefused("the profile is not a dictionary")
    if top.get("PayloadType") != "Configuration":
        raise ProfileRefused("PayloadType of a profile must be Configuration")
    _check_common(top)
    return top


def is_enrollment_profile(top: Mapping[str, Any]) -> bool:
    """Say whether a profile's top level carries an MDM payload."""
    listed = top.get("PayloadContent")
    return isinstance(listed, list) and any(
        isinstance(each, dict) and each.get("PayloadType") == _MANAGEMENT for each in listed
    )


def check_replacement(
    installed: EnrollmentProfile, offered: EnrollmentProfile, *, user_enrollment: bool
) -> None:
    """Refuse an update that changes what may not change.

    Raises:
        ProfileRefused: another identifier, a changed fixed key, or a right more than before.

    Source: check-in-and-commands.md 6.1, column U, and the paragraph on renewal.
    """
    if installed.identifier != offered.identifier:
        raise ProfileRefused("another enrollment profile is installed")
    before, after = installed.management, offered.management
    for key, value in before.unchangeable.items():
        if after.unchangeable[key] != value:
            raise ProfileRefused(f"{key} may not change in an update")
    if not user_enrollment and after.access_rights & ~before.access_rights:
        raise ProfileRefused("an update may not add access rights")


def _payloads(top: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = top.get("PayloadContent")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ProfileRefused("PayloadContent must be an array of dictionaries")
    seen: set[str] = set()
    for payload in listed:
        _text(payload, "PayloadType")
        _check_common(payload)
        uuid = _text(payload, "PayloadUUID")
        if uuid in seen:
            raise ProfileRefused(f"two payloads share the UUID {uuid}")
        seen.add(uuid)
    return listed


def _check_common(payload: Mapping[str, Any]) -> None:
    _text(payload, "PayloadIdentifier")
    _text(payload, "PayloadUUID")
    if payload.get("PayloadVersion") != 1:
        raise ProfileRefused("PayloadVersion must be 1")


def _management(payload: Mapping[str, Any], *, allow_http: bool) -> Management:
    topic = _text(payload, "Topic")
    if not topic.startswith(TOPIC_PREFIX):
        raise ProfileRefused(f"the topic must begin with {TOPIC_PREFIX}")
    server_url = _url(payload, "ServerURL", allow_http=allow_http)
    check_in_url = server_url
    if "CheckInURL" in payload:
        check_in_url = _url(payload, "CheckInURL", allow_http=allow_http)
    capabilities = payload.get("ServerCapabilities", [])
    if not isinstance(capabilities, list):
        raise ProfileRefused("ServerCapabilities must be an array")
    mode = payload.get("EnrollmentMode")
    app = payload.get("RequiredAppIDForMDM")
    account = payload.get("AssignedManagedAppleID")
    return Management(
        topic=topic,
        server_url=server_url,
        check_in_url=check_in_url,
        sign_message=_flag(payload, "SignMessage"),
        access_rights=_access_rights(payload),
        capabilities=frozenset(str(each) for each in capabilities),
        check_out_when_removed=_flag(payload, "CheckOutWhenRemoved"),
        enrollment_mode=None if mode is None else str(mode),
        assigned_account=None if account is None else str(account),
        required_app=None if app is None else int(app),
    )


def _access_rights(payload: Mapping[str, Any]) -> int:
    # The key is optional and the documents name no default; we read absence as every right.
    rights = payload.get("AccessRights", Rights.ALL)
    if not isinstance(rights, int) or isinstance(rights, bool):
        raise ProfileRefused("AccessRights must be an integer")
    if rights <= 0 or rights > Rights.ALL:
        raise ProfileRefused(f"AccessRights {rights} is not valid")
    if rights & Rights.CHANGE_PROFILES and not rights & Rights.INSPECT_PROFILES:
        raise ProfileRefused("access right 2 needs right 1")
    if rights & Rights.CHANGE_PROVISIONING and not rights & Rights.INSPECT_PROVISIONING:
        raise ProfileRefused("access right 128 needs right 64")
    return rights


def _identity(
    payloads: Sequence[Mapping[str, Any]], wanted: str, *, allow_http: bool
) -> ScepRequest | Pkcs12Request:
    for payload in payloads:
        if payload["PayloadUUID"] != wanted:
            continue
        match payload["PayloadType"]:
            case "com.apple.security.scep":
                return _scep(payload, allow_http=allow_http)
            case "com.apple.security.pkcs12":
                return _pkcs12(payload)
            case "com.apple.security.acme":
                raise ProfileRefused(f"this simulated device has no client for {_ACME}")
            case other:
                raise ProfileRefused(f"IdentityCertificateUUID names a {other} payload")
    raise ProfileRefused(f"IdentityCertificateUUID names no payload ({_SCEP} or {_PKCS12})")


def _scep(payload: Mapping[str, Any], *, allow_http: bool) -> ScepRequest:
    inside = payload.get("PayloadContent")
    if not isinstance(inside, dict):
        raise ProfileRefused("a SCEP payload keeps its keys inside PayloadContent")
    if inside.get("Key Type", "RSA") != "RSA":
        raise ProfileRefused("SCEP knows RSA keys only")
    fingerprint = inside.get("CAFingerprint")
    key_bits = inside.get("Keysize", 1024)
    if key_bits not in (1024, 2048, 4096):
        raise ProfileRefused(f"Keysize {key_bits} is not known")
    names = inside.get("SubjectAltName", {})
    return ScepRequest(
        uuid=_text(payload, "PayloadUUID"),
        url=_url(inside, "URL", allow_http=True) if allow_http else _scep_url(inside),
        ca_name=inside.get("Name"),
        subject=_subject(inside.get("Subject", [])),
        challenge=inside.get("Challenge"),
        key_bits=key_bits,
        ca_fingerprint=bytes(fingerprint) if fingerprint is not None else None,
        retries=int(inside.get("Retries", 3)),
        retry_delay_seconds=float(inside.get("RetryDelay", 10)),
        alternative_names=dict(names) if isinstance(names, dict) else {},
    )


def _scep_url(inside: Mapping[str, Any]) -> str:
    """The URL of a SCEP server; unlike the MDM URLs plain HTTP is fine, SCEP protects its own messages."""
    url = _text(inside, "URL")
    if urlsplit(url).scheme not in ("http", "https"):
        raise ProfileRefused("the SCEP URL is neither http nor https")
    return url


def _pkcs12(payload: Mapping[str, Any]) -> Pkcs12Request:
    archive = payload.get("PayloadContent")
    if not isinstance(archive, bytes):
        raise ProfileRefused("a PKCS#12 payload carries its archive as data")
    return Pkcs12Request(
        uuid=_text(payload, "PayloadUUID"),
        archive=archive,
        password=str(payload.get("Password", "")),
    )


def _subject(listed: object) -> tuple[tuple[tuple[str, str], ...], ...]:
    if not isinstance(listed, list):
        raise ProfileRefused("Subject must be an array of arrays")
    try:
        return tuple(tuple((str(name), str(value)) for name, value in rdn) for rdn in listed)
    except (TypeError, ValueError) as problem:
        raise ProfileRefused("Subject must hold [name, value] pairs") from problem


def _anchors(payloads: Sequence[Mapping[str, Any]]) -> tuple[x509.Certificate, ...]:
    found: dict[bytes, x509.Certificate] = {}
    for payload in payloads:
        if payload["PayloadType"] not in _ANCHORS:
            continue
        content = payload.get("PayloadContent")
        if not isinstance(content, bytes):
            raise ProfileRefused("a certificate payload carries its certificate as data")
        for certificate in _load_certificates(content):
            found[certificate.fingerprint(hashes.SHA256())] = certificate
    return tuple(found.values())


def _load_certificates(content: bytes) -> list[x509.Certificate]:
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError as problem:
        raise ProfileRefused("a certificate payload does not hold a certificate") from problem


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        raise ProfileRefused(f"{key} is missing")
    return value


def _flag(fields: Mapping[str, Any], key: str) -> bool:
    value = fields.get(key, False)
    if not isinstance(value, bool):
        raise ProfileRefused(f"{key} must be true or false")
    return value


def _url(fields: Mapping[str, Any], key: str, *, allow_http: bool) -> str:
    url = _text(fields, key)
    parts = urlsplit(url)
    if parts.scheme != "https" and not (allow_http and parts.scheme == "http"):
        raise ProfileRefused(f"{key} must begin with https://")
    if not parts.hostname:
        raise ProfileRefused(f"{key} names no host")
    return url
