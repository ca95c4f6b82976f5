"""What is wrong with an enrollment profile, and what each flaw will cost: ours, a peer's, or an old one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from ostiary.errors import OstiaryError
from ostiary.formats import x509
from ostiary.formats.mobileconfig import read_profile
from ostiary.formats.plist import Fields
from ostiary.protocol.mdm.checkin import TOPIC_PREFIX
from ostiary.protocol.mdm.enrollment_profile import (
    ALL_CAPABILITIES,
    ALL_RIGHTS,
    BOOTSTRAP_TOKEN,
    GET_TOKEN,
    PER_USER_CONNECTIONS,
    AccessRight,
)

_MDM: Final = "com.apple.mdm"
_SCEP: Final = "com.apple.security.scep"
_IDENTITIES: Final = frozenset({_SCEP, "com.apple.security.acme", "com.apple.security.pkcs12"})
_ANCHORS: Final = frozenset(
    {"com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.pem"}
)
_DER_ANCHORS: Final = frozenset({"com.apple.security.root", "com.apple.security.pkcs1"})
_SMALLEST_KEY: Final = 2048
_SIGN_AND_ENCRYPT: Final = 5
_ANCHOR_ENDS_SOON: Final = timedelta(days=90)


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Devices will refuse the profile, or management will not work."""
    WARNING = "warning"
    """Something is lost for as long as this profile is installed."""
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know about a profile. `key` is where, the sentence what follows from it."""

    severity: Severity
    key: str
    sentence: str


_Findings = Iterator[Finding]


def lint_profile(profile: bytes, *, now: datetime) -> tuple[Finding, ...]:
    """What is wrong with an enrollment profile, signed or plain; the worst first, nothing for a good one.

    Raises Malformed, TooLarge or Refused if it cannot be read as a profile at all.

    Source: check-in-and-commands.md 6.1, 6.2, 6.5; escrowed-secrets.md case BT-19.
    """
    return _sorted(_lint(read_profile(profile), now))


def compare_for_renewal(installed: bytes, renewal: bytes) -> tuple[Finding, ...]:
    """What would make a device reject `renewal` in place of `installed`, or lose by it; nothing if all is well.

    Raises as `lint_profile`. Source: check-in-and-commands.md 6.1 (U keys); case EN-01.
    """
    return _sorted(_compare(read_profile(installed), read_profile(renewal)))


def _sorted(findings: _Findings) -> tuple[Finding, ...]:
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def _lint(profile: Fields, now: datetime) -> _Findings:
    if profile.optional_text("PayloadType") != "Configuration":
        yield _error("PayloadType", "This is no configuration profile.")
    for key in ("PayloadIdentifier", "PayloadUUID"):
        if not profile.optional_text(key):
            yield _error(key, "Every profile needs one.")
    payloads = profile.list_of_dicts("PayloadContent") or ()
    yield from _lint_document(payloads)
    managements = _of_type(payloads, _MDM)
    if len(managements) != 1:
        yield _error(
            "PayloadContent", "An enrollment profile has exactly one com.apple.mdm payload."
        )
    for management in managements:
        for rule in _MANAGEMENT_RULES:
            yield from rule(management)
        yield from _lint_identity_link(management, payloads)
    for scep in _of_type(payloads, _SCEP):
        yield from _lint_scep(scep)
    for anchor in payloads:
        if anchor.optional_text("PayloadType") in _DER_ANCHORS:
            yield from _lint_anchor(anchor, now)


def _lint_document(payloads: Sequence[Fields]) -> _Findings:
    uuids = [payload.optional_text("PayloadUUID") for payload in payloads]
    if len(set(uuids)) != len(uuids) or not all(uuids):
        yield _error("PayloadContent.PayloadUUID", "Every payload needs a UUID of its own.")
    known = _IDENTITIES | _ANCHORS | {_MDM}
    strange = {payload.optional_text("PayloadType") for payload in payloads} - known
    if strange:
        yield _note(
            "PayloadContent",
            "An enrollment profile should hold trust anchors, the identity and the MDM payload only: "
            "other payloads are replaced, and asked about, at each renewal.",
        )


def _lint_urls(management: Fields) -> _Findings:
    for key, is_required in (("ServerURL", True), ("CheckInURL", False)):
        url = management.optional_text(key)
        if url is None:
            if is_required:
                yield _error(key, "Without it a device knows no server.")
        elif urlsplit(url).scheme != "https":
            yield _error(key, "Devices speak to their server by https only.")


def _lint_topic(management: Fields) -> _Findings:
    topic = management.optional_text("Topic") or ""
    if not topic.startswith(TOPIC_PREFIX) or topic == TOPIC_PREFIX:
        yield _error(
            "Topic",
            "It must begin com.apple.mgmt. with the second dot: nothing else can be pushed.",
        )


def _lint_rights(management: Fields) -> _Findings:
    rights = management.optional_integer("AccessRights")
    if rights is None:
        yield _warning("AccessRights", "Absent: say which rights are meant, 8191 for all of them.")
        return
    if not 0 < rights <= ALL_RIGHTS:
        yield _error("AccessRights", "It must be a sum of the documented bits, 1 to 8191.")
        return
    held = AccessRight(rights)
    for right, needed in _NEEDS:
        if right in held and needed not in held:
            yield _error(
                "AccessRights", f"Right {right.value} is only allowed together with {needed.value}."
            )
    for right, loss in _LOSSES:
        if right not in held:
            yield _warning("AccessRights", f"Without {right.value}: {loss}")


def _lint_capabilities(management: Fields) -> _Findings:
    capabilities = frozenset(management.optional_texts("ServerCapabilities") or ())
    for capability, loss in _CAPABILITY_LOSSES:
        if capability not in capabilities:
            yield _warning("ServerCapabilities", f"Without {capability}: {loss}")
    if GET_TOKEN not in capabilities:
        yield _note(
            "ServerCapabilities",
            "Without com.apple.mdm.token a device never asks for tokens of ours; UnlockToken does not depend on it.",
        )
    for unknown in sorted(capabilities - ALL_CAPABILITIES):
        yield _note("ServerCapabilities", f"{unknown!a} is no capability that Apple documents.")


def _lint_switches(management: Fields) -> _Findings:
    if not management.flag("SignMessage", default=False):
        yield _warning(
            "SignMessage",
            "Off: unless a proxy verifies client certificates and forwards them, no request can be attributed.",
        )
    if not management.flag("CheckOutWhenRemoved", default=False):
        yield _warning(
            "CheckOutWhenRemoved", "Off: a device that is unenrolled by hand only falls silent."
        )
    if management.flag("UseDevelopmentAPNS", default=False):
        yield _warning("UseDevelopmentAPNS", "On: pushes through the production APNs never arrive.")


_MANAGEMENT_RULES: Final[tuple[Callable[[Fields], _Findings], ...]] = (
    _lint_urls,
    _lint_topic,
    _lint_rights,
    _lint_capabilities,
    _lint_switches,
)

_NEEDS: Final = (
    (AccessRight.INSTALL_PROFILES, AccessRight.INSPECT_PROFILES),
    (AccessRight.INSTALL_PROVISIONING, AccessRight.INSPECT_PROVISIONING),
)
_LOSSES: Final = (
    (
        AccessRight.INSTALL_PROFILES,
        "no InstallProfile, so the enrollment itself cannot be renewed.",
    ),
    (
        AccessRight.LOCK_AND_CLEAR_PASSCODE,
        "no UnlockToken is ever sent, so there is no ClearPasscode, and no DeviceLock.",
    ),
    (AccessRight.ERASE, "no EraseDevice."),
    (
        AccessRight.DEVICE_INFORMATION,
        "no serial number and no version at Authenticate, so an invitation bound to a serial proves nothing.",
    ),
    (
        AccessRight.SECURITY,
        "no SecurityInfo, so what is escrowed cannot be compared with the device.",
    ),
    (AccessRight.SETTINGS, "no Settings, so MDM options cannot be switched on."),
)
_CAPABILITY_LOSSES: Final = (
    (BOOTSTRAP_TOKEN, "a Mac with macOS 11 or later never escrows its bootstrap token."),
    (
        PER_USER_CONNECTIONS,
        "no user channel on Macs and Shared iPads, and it can never be added to an installed profile.",
    ),
)


def _lint_identity_link(management: Fields, payloads: Sequence[Fields]) -> _Findings:
    wanted = management.optional_text("IdentityCertificateUUID")
    found = [payload for payload in payloads if payload.optional_text("PayloadUUID") == wanted]
    if wanted is None or not found:
        yield _error("IdentityCertificateUUID", "It names no payload of this profile.")
    elif found[0].optional_text("PayloadType") not in _IDENTITIES:
        yield _error("IdentityCertificateUUID", "It names a payload that brings no identity.")
    elif found[0].optional_text("PayloadType") == "com.apple.security.pkcs12":
        yield _warning(
            "IdentityCertificateUUID",
            "A PKCS#12 identity is known to everybody who had the profile, and often the same on many devices.",
        )


def _lint_scep(scep: Fields) -> _Findings:
    content = scep.optional_dict("PayloadContent")
    if content is None:
        yield _error("PayloadContent", "The SCEP payload's keys belong inside its PayloadContent.")
        return
    url = content.optional_text("URL")
    if url is None:
        yield _error("PayloadContent.URL", "Without it a device knows no authority.")
    elif urlsplit(url).scheme != "https":
        yield _warning(
            "PayloadContent.URL", "Not https: nothing proves that the authority answering is ours."
        )
    if not content.optional_text("Challenge"):
        yield _warning(
            "PayloadContent.Challenge",
            "None: then whoever reaches the authority gets an identity, or nobody does.",
        )
    if (content.optional_integer("Keysize") or 1024) < _SMALLEST_KEY:
        yield _warning(
            "PayloadContent.Keysize", "Below 2048 bits, which is also the default: set it."
        )
    if content.optional_integer("Key Usage") != _SIGN_AND_ENCRYPT:
        yield _note("PayloadContent.Key Usage", "5 lets the key sign and decrypt; SCEP needs both.")
    if content.flag("KeyIsExtractable", default=True):
        yield _warning(
            "PayloadContent.KeyIsExtractable",
            "True, which is also the default: the identity can be copied to another device.",
        )


def _lint_anchor(anchor: Fields, now: datetime) -> _Findings:
    key = "PayloadContent (anchor)"
    encoded = anchor.optional_data("PayloadContent")
    if encoded is None:
        yield _error(key, "A certificate payload without a certificate.")
        return
    try:
        ends_at = x509.not_after(encoded)
    except OstiaryError:
        yield _note(key, "Its certificate is not DER, or not readable here.")
        return
    if ends_at <= now:
        yield _error(
            key, f"The certificate ended on {ends_at:%Y-%m-%d}: devices will not trust it."
        )
    elif ends_at - now < _ANCHOR_ENDS_SOON:
        yield _warning(
            key,
            f"The certificate ends on {ends_at:%Y-%m-%d}: replace the profile before, or management ends.",
        )


def _compare(installed: Fields, renewal: Fields) -> _Findings:
    key = "PayloadIdentifier"
    if installed.optional_text(key) != renewal.optional_text(key):
        yield _error(
            key, "Another identifier is another profile: the device would refuse a second MDM."
        )
    before, after = _management_of(installed), _management_of(renewal)
    if before is None or after is None:
        yield _error("PayloadContent", "Both profiles need one com.apple.mdm payload.")
        return
    if before.optional_text(key) != after.optional_text(key):
        yield _error(f"{_MDM}.{key}", "The MDM payload must keep its identifier.")
    for unchangeable in _UNCHANGEABLE:
        if _effective(before, unchangeable) != _effective(after, unchangeable):
            yield _error(unchangeable, "It must not change: the device would reject the update.")
    added = _rights(after) & ~_rights(before)
    if added:
        yield _error(
            "AccessRights", f"The update adds rights ({added}): the device would reject it."
        )
    elif _rights(before) & ~_rights(after):
        yield _note("AccessRights", "The update drops rights, and they can never be added again.")
    held, offered = (
        frozenset(one.optional_texts("ServerCapabilities") or ()) for one in (before, after)
    )
    if (PER_USER_CONNECTIONS in held) != (PER_USER_CONNECTIONS in offered):
        yield _error(
            "ServerCapabilities", f"{PER_USER_CONNECTIONS} may be neither added nor removed."
        )
    for lost in sorted(held - offered - {PER_USER_CONNECTIONS}):
        yield _warning("ServerCapabilities", f"The update takes away {lost!a}.")


_UNCHANGEABLE: Final = (
    "Topic",
    "ServerURL",
    "CheckInURL",
    "AssignedManagedAppleID",
    "EnrollmentMode",
    "RequiredAppIDForMDM",
)


def _effective(management: Fields, key: str) -> str | int | None:
    """A key's value, or what a device takes in its place."""
    if key == "RequiredAppIDForMDM":
        return management.optional_integer(key)
    value = management.optional_text(key)
    return management.optional_text("ServerURL") if key == "CheckInURL" and value is None else value


def _rights(management: Fields) -> int:
    rights = management.optional_integer("AccessRights")
    return ALL_RIGHTS if rights is None else rights


def _management_of(profile: Fields) -> Fields | None:
    found = _of_type(profile.list_of_dicts("PayloadContent") or (), _MDM)
    return found[0] if len(found) == 1 else None


def _of_type(payloads: Sequence[Fields], payload_type: str) -> list[Fields]:
    return [one for one in payloads if one.optional_text("PayloadType") == payload_type]


def _error(key: str, sentence: str) -> Finding:
    return Finding(severity=Severity.ERROR, key=key, sentence=sentence)


def _warning(key: str, sentence: str) -> Finding:
    return Finding(severity=Severity.WARNING, key=key, sentence=sentence)


def _note(key: str, sentence: str) -> Finding:
    return Finding(severity=Severity.NOTE, key=key, sentence=sentence)
