"""The FileVault profile: turn encryption on, and escrow the recovery key to a certificate of ours. (4.3)"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from ostiary.errors import Malformed, OstiaryError
from ostiary.formats import x509
from ostiary.formats.mobileconfig import render_profile
from ostiary.formats.plist import PlistValue
from ostiary.formats.signing_keys import public_key_of
from ostiary.protocol.mdm.enrollment_profile import EnrollmentUrls

FILEVAULT: Final = "com.apple.MCX.FileVault2"
ESCROW: Final = "com.apple.security.FDERecoveryKeyEscrow"
CERTIFICATE: Final = "com.apple.security.pkcs1"

_BYPASS_NEVER_FORCED: Final = -1
_BYPASS_ATTEMPTS: Final = range(_BYPASS_NEVER_FORCED, 9999 + 1)
_LONGEST_TEXT: Final = 255
_SMALLEST_KEY_BITS: Final = 2048


class FileVaultOptionsContradict(Malformed):
    """The FileVault options do not go together."""

    hint = "Leave them all out for the usual way: the Mac asks the next user who logs out."


class FileVaultTextUnusable(Malformed):
    """A text of the FileVault profile is empty, too long, or holds control characters."""

    hint = "Location is shown to the user: for example the name of your help desk."


class EscrowCertificateUnfit(Malformed):
    """The escrow certificate is not the DER certificate of an RSA key of 2048 bits or more."""

    hint = "Make an escrow key for this device, and use the certificate that comes with it."


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVaultOptions:
    """How a Mac comes to be encrypted. The defaults are Apple's, but for `defer`, without which it cannot begin.

    Raises, when made:
        FileVaultOptionsContradict: nobody would ever be asked, or an option has nothing to work on.
    """

    defer: bool = True
    """Wait until a user logs out, and ask that user."""
    max_bypass_attempts: int | None = None
    """How often a user may say "not now" at login before it is required; 0: never, -1: always.

    Apple's DeferForceAtUserLoginMaxBypassAttempts; None leaves it out.
    """
    dont_ask_at_logout: bool = False
    """Ask at login only. Apple's DeferDontAskAtUserLogout."""
    force_in_setup_assistant: bool = False
    """Encrypt in Setup Assistant: macOS 14, automated enrollment, sent before DeviceConfigured."""
    user_enters_missing_info: bool = False
    show_recovery_key: bool = True
    """Let the user see the key as it is made. False leaves the escrowed key as the only one."""

    def __post_init__(self) -> None:
        attempts = self.max_bypass_attempts
        if attempts is not None and attempts not in _BYPASS_ATTEMPTS:
            raise FileVaultOptionsContradict(
                "a user may bypass FileVault -1 to 9999 times", max_bypass_attempts=attempts
            )
        asked_otherwise = self.force_in_setup_assistant or self.user_enters_missing_info
        if not self.defer and not asked_otherwise:
            raise FileVaultOptionsContradict(
                "without defer no user is asked for the password that FileVault needs",
                field="defer",
            )
        if not self.defer and (attempts is not None or self.dont_ask_at_logout):
            raise FileVaultOptionsContradict(
                "max_bypass_attempts and dont_ask_at_logout work on a deferred start only",
                field="defer",
            )
        asked_at_login = attempts not in (None, _BYPASS_NEVER_FORCED)
        if self.dont_ask_at_logout and not asked_at_login and not asked_otherwise:
            raise FileVaultOptionsContradict(
                "asked neither at logout nor at login, no user would ever turn FileVault on",
                field="dont_ask_at_logout",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVaultOffer:
    """All that one Mac's FileVault profile says."""

    urls: EnrollmentUrls
    device: str
    """What names this Mac for good, such as its serial number: the profile's UUIDs are made of it."""
    certificate: bytes
    """Of the escrow key, DER. The key itself never leaves the server."""
    location: str
    """Where the key goes, in words for the Mac's user."""
    device_key: str | None = None
    """What the start screen shows for the help desk to look the key up; None: the Mac's serial number."""
    organization: str = "Ostiary"
    options: FileVaultOptions = FileVaultOptions()


def filevault_profile(offer: FileVaultOffer) -> bytes:
    """The profile as a property list, unsigned: system scope, three payloads, no secret.

    The same offer gives the same bytes, and every offer for one Mac replaces what an earlier one installed. A Mac that
    was encrypted before escrows nothing until its key is rotated.

    Raises:
        EscrowCertificateUnfit, FileVaultTextUnusable: the offer cannot be kept.

    Source: escrowed-secrets.md 4.3 (Profile), FV-01.
    """
    _require_fit(offer.certificate)
    _require_text(offer.location, "location")
    _require_text(offer.device, "device")
    if offer.device_key is not None:
        _require_text(offer.device_key, "device_key")
    return render_profile(
        {
            "PayloadType": "Configuration",
            "PayloadVersion": 1,
            "PayloadIdentifier": offer.urls.identifier_of("filevault"),
            "PayloadUUID": _uuid(offer, "profile"),
            "PayloadDisplayName": f"{offer.organization}: FileVault",
            "PayloadDescription": "Turns FileVault on and keeps its recovery key for you.",
            "PayloadOrganization": offer.organization,
            "PayloadScope": "System",
            "PayloadContent": [_certificate(offer), _escrow(offer), _filevault(offer)],
        }
    )


def _filevault(offer: FileVaultOffer) -> Mapping[str, PlistValue]:
    options = offer.options
    said: dict[str, PlistValue] = {
        **_common(offer, FILEVAULT, "filevault", "FileVault"),
        "PayloadUUID": _uuid(offer, "filevault"),
        "Enable": "On",
        "Defer": options.defer,
        "UseRecoveryKey": True,
        "ShowRecoveryKey": options.show_recovery_key,
    }
    if options.max_bypass_attempts is not None:
        said["DeferForceAtUserLoginMaxBypassAttempts"] = options.max_bypass_attempts
    # Left out rather than false: an older Mac need not know what it is not asked to do.
    if options.dont_ask_at_logout:
        said["DeferDontAskAtUserLogout"] = True
    if options.user_enters_missing_info:
        said["UserEntersMissingInfo"] = True
    if options.force_in_setup_assistant:
        said["ForceEnableInSetupAssistant"] = True
    return said


def _escrow(offer: FileVaultOffer) -> Mapping[str, PlistValue]:
    said: dict[str, PlistValue] = {
        **_common(offer, ESCROW, "escrow", "Recovery key escrow"),
        "PayloadUUID": _uuid(offer, "escrow"),
        "Location": offer.location,
        "EncryptCertPayloadUUID": _certificate_uuid(offer),
    }
    if offer.device_key is not None:
        said["DeviceKey"] = offer.device_key
    return said


def _certificate(offer: FileVaultOffer) -> Mapping[str, PlistValue]:
    return {
        **_common(offer, CERTIFICATE, "certificate", "Recovery key escrow certificate"),
        "PayloadUUID": _certificate_uuid(offer),
        "PayloadContent": offer.certificate,
    }


def _common(
    offer: FileVaultOffer, payload_type: str, name: str, display_name: str
) -> dict[str, PlistValue]:
    return {
        "PayloadType": payload_type,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{offer.urls.identifier_of('filevault')}.{name}",
        "PayloadDisplayName": display_name,
    }


def _certificate_uuid(offer: FileVaultOffer) -> str:
    """Another certificate is another payload, so that no Mac goes on encrypting to the one it knows by this name."""
    return _uuid(offer, f"certificate/{x509.fingerprint(offer.certificate)}")


def _uuid(offer: FileVaultOffer, name: str) -> str:
    return offer.urls.uuid(f"filevault/{offer.device}/{name}")


def _require_fit(certificate: bytes) -> None:
    """Refuse whatever is not one public certificate, above all a private key put in its place."""
    try:
        x509.load(certificate)
        key = public_key_of(certificate)
    except OstiaryError:
        raise EscrowCertificateUnfit from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _SMALLEST_KEY_BITS:
        raise EscrowCertificateUnfit


def _require_text(text: str, field: str) -> None:
    if not text.strip() or len(text) > _LONGEST_TEXT or not text.isprintable():
        raise FileVaultTextUnusable(field=field)
