"""Who a message speaks for: a device or one of its users, in NanoMDM's normal form of enrollment ids."""

from enum import StrEnum
from typing import Final, NewType

from ostiary.errors import Malformed
from ostiary.formats.plist import Fields
from ostiary.values import dataclass

EnrollmentId = NewType("EnrollmentId", str)

LONGEST_ID: Final = 255
SHARED_IPAD_USER_ID: Final = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"


class EnrollmentType(StrEnum):
    """The five kinds of channel, spelled as NanoMDM's API and webhooks spell them."""

    DEVICE = "Device"
    USER = "User"
    USER_ENROLLMENT_DEVICE = "User Enrollment (Device)"
    USER_ENROLLMENT = "User Enrollment"
    SHARED_IPAD = "Shared iPad"

    @property
    def is_user_channel(self) -> bool:
        return self in (self.USER, self.USER_ENROLLMENT, self.SHARED_IPAD)

    @property
    def is_user_enrollment(self) -> bool:
        return self in (self.USER_ENROLLMENT, self.USER_ENROLLMENT_DEVICE)


class WithoutIdentity(Malformed):
    """The message names neither a device nor an enrollment."""

    hint = "A device sends UDID, or EnrollmentID under User Enrollment."


class UnusableIdentifier(Malformed):
    """An identifier in the message is empty, too long, or holds characters that no device sends."""

    hint = "Identifiers are printable, at most 255 characters, and hold neither a colon nor a comma of their own."


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One channel of an enrollment: the device's own, or one user's on it.

    `id` is the device's id, or device id, colon, user. Ids are kept verbatim: old UDIDs are
    lower-case hex, newer ones upper-case with a dash. (check-in-and-commands.md 2.1)
    """

    type: EnrollmentType
    device_id: EnrollmentId
    user: str | None = None

    @property
    def id(self) -> EnrollmentId:
        return (
            self.device_id if self.user is None else EnrollmentId(f"{self.device_id}:{self.user}")
        )

    @property
    def is_user_channel(self) -> bool:
        return self.user is not None


def resolve_channel(fields: Fields) -> Channel:
    """The channel that a message's identity keys name.

    Raises:
        WithoutIdentity: neither UDID nor EnrollmentID, or a Shared iPad's user without a short name.
        UnusableIdentifier: an identifier that could be mistaken for another once joined.

    Source: check-in-and-commands.md 2.1, identical to NanoMDM's and made total.
    """
    channel = find_channel(fields)
    if channel is None:
        raise WithoutIdentity
    return channel


def find_channel(fields: Fields) -> Channel | None:
    """As `resolve_channel`, but None when the message names nobody (Set/GetBootstrapToken may)."""
    if udid := fields.optional_text("UDID"):
        return _of_device(_checked(udid, "UDID"), fields)
    if enrollment_id := fields.optional_text("EnrollmentID"):
        device_id = EnrollmentId(_checked(enrollment_id, "EnrollmentID"))
        if user := fields.optional_text("EnrollmentUserID"):
            return _user_channel(
                EnrollmentType.USER_ENROLLMENT, device_id, user, "EnrollmentUserID"
            )
        return Channel(type=EnrollmentType.USER_ENROLLMENT_DEVICE, device_id=device_id)
    return None


def _of_device(udid: str, fields: Fields) -> Channel:
    device_id = EnrollmentId(udid)
    user_id = fields.optional_text("UserID")
    if not user_id:
        return Channel(type=EnrollmentType.DEVICE, device_id=device_id)
    if user_id.upper() != SHARED_IPAD_USER_ID:
        return _user_channel(EnrollmentType.USER, device_id, user_id, "UserID")
    # Shared iPad sends one UserID for everybody; the short name tells users apart.
    short_name = fields.optional_text("UserShortName")
    if not short_name:
        raise WithoutIdentity("a Shared iPad's user has no UserShortName", field="UserShortName")
    return _user_channel(EnrollmentType.SHARED_IPAD, device_id, short_name, "UserShortName")


def _user_channel(kind: EnrollmentType, device_id: EnrollmentId, user: str, field: str) -> Channel:
    channel = Channel(type=kind, device_id=device_id, user=_checked(user, field))
    if len(channel.id) > LONGEST_ID:
        raise UnusableIdentifier(field=field)
    return channel


def _checked(identifier: str, field: str) -> str:
    """Refuse what would read as another id: `:` joins device and user, `,` separates ids in NanoMDM's API."""
    is_ambiguous = ":" in identifier or "," in identifier
    if is_ambiguous or len(identifier) > LONGEST_ID or not identifier.isprintable():
        raise UnusableIdentifier(field=field)
    return identifier
