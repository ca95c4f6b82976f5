"""The nine check-in messages, decoded to typed values. From here on nobody sees a dict."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Final, NewType

from ostiary.errors import Malformed
from ostiary.formats.plist import Fields
from ostiary.protocol.mdm.identity import Channel, WithoutIdentity, find_channel, resolve_channel
from ostiary.secret import Secret
from ostiary.values import dataclass

Topic = NewType("Topic", str)

TOPIC_PREFIX: Final = "com.apple.mgmt."
LONGEST_TOPIC: Final = 255
LARGEST_PUSH_TOKEN: Final = 4096
LONGEST_PUSH_MAGIC: Final = 4096


class UnknownMessageType(Malformed):
    """The check-in message has a MessageType that Apple does not document."""


class UnusableTopic(Malformed):
    """The push topic does not begin with com.apple.mgmt. (with its second dot)."""

    hint = "The Topic of an MDM payload begins com.apple.mgmt. and cannot change for an installed payload."


class FieldEmpty(Malformed):
    """A required value is there, and empty."""


class ValueTooLong(Malformed):
    """A value is longer than any device sends."""


class NotOnThisChannel(Malformed):
    """This message belongs to the device channel of a device with a UDID, not to a user or a User Enrollment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a device says of itself at Authenticate. Any of it may be absent, all of it is hostile text."""

    serial_number: str | None = None
    device_name: str | None = None
    model: str | None = None
    model_name: str | None = None
    product_name: str | None = None
    os_version: str | None = None
    build_version: str | None = None

    def over(self, before: "DeviceFacts") -> "DeviceFacts":
        """These facts, and what they leave out as it was told before: absence never erases."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(before, **told)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushAddress:
    """How to wake one channel: topic, push token and push magic travel together. Token and magic are opaque."""

    topic: Topic
    token: Secret
    magic: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    """A device announces that it is installing the MDM payload. (Apple, Authenticate)"""

    channel: Channel
    topic: Topic
    facts: DeviceFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUpdate:
    """One channel of an enrollment says how to reach it. (Apple, TokenUpdate)"""

    channel: Channel
    push: PushAddress
    unlock_token: Secret | None
    """None: not sent, or sent empty; either way keep the one we hold. (TU-4)"""
    unlock_token_was_empty: bool
    awaiting_configuration: bool | None
    not_on_console: bool | None
    user_short_name: str | None
    user_long_name: str | None
    auth_token: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOut:
    """The enrollment profile is being removed; sent once, never repeated. (Apple, CheckOut)"""

    channel: Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAuthenticate:
    """A network or mobile user logs in to a Mac. (Apple, UserAuthenticate)"""

    channel: Channel
    digest_response: Secret | None
    """None: the first request of an exchange."""
    user_short_name: str | None
    user_long_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBootstrapToken:
    """A Mac escrows its bootstrap token, or takes it back: None and empty both delete. (Apple, SetBootstrapToken)"""

    channel: Channel | None
    """None: the message names nobody, so the certificate does."""
    bootstrap_token: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBootstrapToken:
    """A Mac asks for the bootstrap token that it escrowed. (Apple, GetBootstrapToken)"""

    channel: Channel | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetToken:
    """A device asks for a token that the server mints. (Apple, GetToken)"""

    channel: Channel
    service_type: str
    pairing: "WatchPairing | None"
    auth_token: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPairing:
    """The parameters of a `com.apple.watch.pairing` token; all three are needed."""

    security_token: Secret
    phone_udid: str
    watch_udid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclarativeManagement:
    """A channel asks for, or reports on, its declarations. (Apple, DeclarativeManagement)"""

    channel: Channel
    endpoint: str
    status_report: bytes | None
    auth_token: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnToService:
    """A device in return-to-service mode asks how to reset itself. (Apple, ReturnToService)"""

    channel: Channel


CheckinMessage = (
    Authenticate
    | TokenUpdate
    | CheckOut
    | UserAuthenticate
    | SetBootstrapToken
    | GetBootstrapToken
    | GetToken
    | DeclarativeManagement
    | ReturnToService
)


def decode_checkin(fields: Fields) -> CheckinMessage:
    """The typed message that a check-in body holds.

    Raises:
        UnknownMessageType: Apple documents no such message.
        Malformed: a field of the reject sets is absent, empty or of another type.

    Source: check-in-and-commands.md 1.3. Unknown keys are tolerated; a key that the schema calls
    required is missed only where the fact sheet names it in a reject set.
    """
    message_type = fields.text("MessageType")
    if (decode := _DECODERS.get(message_type)) is None:
        raise UnknownMessageType
    return decode(fields)


def _authenticate(fields: Fields) -> Authenticate:
    channel = resolve_channel(fields)
    if channel.is_user_channel:
        raise NotOnThisChannel(message="Authenticate")
    return Authenticate(
        channel=channel,
        topic=_topic(fields),
        facts=DeviceFacts(
            serial_number=fields.optional_text("SerialNumber") or None,
            device_name=fields.optional_text("DeviceName"),
            model=fields.optional_text("Model"),
            model_name=fields.optional_text("ModelName"),
            product_name=fields.optional_text("ProductName"),
            os_version=fields.optional_text("OSVersion"),
            build_version=fields.optional_text("BuildVersion"),
        ),
    )


def _token_update(fields: Fields) -> TokenUpdate:
    unlock_token = fields.optional_data("UnlockToken")
    return TokenUpdate(
        channel=resolve_channel(fields),
        push=PushAddress(
            topic=_topic(fields),
            token=Secret(_bounded(fields.data("Token"), "Token", LARGEST_PUSH_TOKEN)),
            magic=Secret(
                _bounded(fields.text("PushMagic").encode(), "PushMagic", LONGEST_PUSH_MAGIC)
            ),
        ),
        unlock_token=Secret(unlock_token) if unlock_token else None,
        unlock_token_was_empty=unlock_token == b"",
        awaiting_configuration=fields.optional_flag("AwaitingConfiguration"),
        not_on_console=fields.optional_flag("NotOnConsole"),
        user_short_name=fields.optional_text("UserShortName"),
        user_long_name=fields.optional_text("UserLongName"),
        auth_token=auth_token(fields),
    )


def _check_out(fields: Fields) -> CheckOut:
    channel = resolve_channel(fields)
    if channel.is_user_channel:
        raise NotOnThisChannel(message="CheckOut")
    return CheckOut(channel=channel)


def _user_authenticate(fields: Fields) -> UserAuthenticate:
    channel = resolve_channel(fields)
    if not channel.is_user_channel or channel.type.is_user_enrollment:
        raise WithoutIdentity("a UserAuthenticate needs UDID and UserID", field="UserID")
    response = fields.optional_text("DigestResponse")
    return UserAuthenticate(
        channel=channel,
        digest_response=Secret(response.encode()) if response else None,
        user_short_name=fields.optional_text("UserShortName"),
        user_long_name=fields.optional_text("UserLongName"),
    )


def _set_bootstrap_token(fields: Fields) -> SetBootstrapToken:
    value = fields.optional_data("BootstrapToken")
    return SetBootstrapToken(
        channel=_device_channel_or_none(fields, "SetBootstrapToken"),
        bootstrap_token=Secret(value) if value else None,
    )


def _get_bootstrap_token(fields: Fields) -> GetBootstrapToken:
    return GetBootstrapToken(channel=_device_channel_or_none(fields, "GetBootstrapToken"))


def _get_token(fields: Fields) -> GetToken:
    parameters = fields.optional_dict("TokenParameters")
    pairing = None
    if parameters is not None and parameters.has("SecurityToken"):
        pairing = WatchPairing(
            security_token=Secret(parameters.text("SecurityToken").encode()),
            phone_udid=parameters.text("PhoneUDID"),
            watch_udid=parameters.text("WatchUDID"),
        )
    return GetToken(
        channel=resolve_channel(fields),
        service_type=fields.text("TokenServiceType"),
        pairing=pairing,
        auth_token=auth_token(fields),
    )


def _declarative_management(fields: Fields) -> DeclarativeManagement:
    return DeclarativeManagement(
        channel=resolve_channel(fields),
        endpoint=fields.text("Endpoint"),
        status_report=fields.optional_data("Data"),
        auth_token=auth_token(fields),
    )


def _return_to_service(fields: Fields) -> ReturnToService:
    channel = resolve_channel(fields)
    if channel.is_user_channel or channel.type.is_user_enrollment:
        raise NotOnThisChannel(message="ReturnToService")
    return ReturnToService(channel=channel)


_DECODERS: Final[Mapping[str, Callable[[Fields], CheckinMessage]]] = MappingProxyType(
    {
        "Authenticate": _authenticate,
        "TokenUpdate": _token_update,
        "CheckOut": _check_out,
        "UserAuthenticate": _user_authenticate,
        "SetBootstrapToken": _set_bootstrap_token,
        "GetBootstrapToken": _get_bootstrap_token,
        "GetToken": _get_token,
        "DeclarativeManagement": _declarative_management,
        "ReturnToService": _return_to_service,
    }
)


def auth_token(fields: Fields) -> Secret | None:
    """The AuthToken of a network user's request; None when absent or empty."""
    value = fields.optional_text("AuthToken")
    return Secret(value.encode()) if value else None


def _device_channel_or_none(fields: Fields, message: str) -> Channel | None:
    """The schemas of Set/GetBootstrapToken list no identity key at all, so none is an answer. (1.3.6)"""
    channel = find_channel(fields)
    names_a_user = fields.has("UserID") or fields.has("EnrollmentUserID")
    if names_a_user or (channel is not None and channel.type.is_user_enrollment):
        raise NotOnThisChannel(message=message)
    return channel


def _topic(fields: Fields) -> Topic:
    topic = fields.text("Topic")
    bare = topic == TOPIC_PREFIX
    if (
        bare
        or len(topic) > LONGEST_TOPIC
        or not topic.startswith(TOPIC_PREFIX)
        or not topic.isprintable()
    ):
        raise UnusableTopic
    return Topic(topic)


def _bounded(value: bytes, field: str, longest: int) -> bytes:
    if not value:
        raise FieldEmpty(field=field)
    if len(value) > longest:
        raise ValueTooLong(field=field, limit_bytes=longest)
    return value
