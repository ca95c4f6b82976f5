"""The check-in messages, each as the dictionary a device of this kind would send.

Source: check-in-and-commands.md 1.3; escrowed-secrets.md 4.2.
"""

from typing import TYPE_CHECKING

from ostiary_sim.levers import KEEP, Keep
from ostiary_sim.personality import SHARED_USER_ID, Platform, UserChannels
from ostiary_sim.profile import Management, Rights
from ostiary_sim.users import User

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

Message = dict[str, object]


def identity_keys(device: "Device", user: User | None) -> Message:
    """Who speaks. Source: check-in-and-commands.md 1.3.1."""
    keys: Message
    if device.personality.user_enrollment:
        keys = {"EnrollmentID": device.enrollment_id}
        if user is not None:
            keys["EnrollmentUserID"] = user.guid
    else:
        keys = {"UDID": device.udid}
        if user is not None:
            shared = device.personality.user_channels is UserChannels.SHARED_IPAD
            keys["UserID"] = SHARED_USER_ID if shared else user.guid
    if user is None:
        return keys
    keys["UserShortName"] = user.short_name
    if device.personality.platform is Platform.MACOS:
        keys["UserLongName"] = user.long_name
        keys["NotOnConsole"] = not user.on_console
        if user.need_sync_response:
            keys["NeedSyncResponse"] = True
        if user.user_configuration:
            keys["UserConfiguration"] = True
    if user.auth_token is not None:
        keys["AuthToken"] = user.auth_token
    return keys


def authenticate(device: "Device", management: Management) -> Message:
    """The message that begins an enrollment. Source: check-in-and-commands.md 1.3.2."""
    told = device.personality
    may_ask = management.has_right(Rights.DEVICE_QUERIES)
    message: Message = {"MessageType": "Authenticate", "Topic": management.topic}
    message |= identity_keys(device, None)
    if told.announces_model:
        message |= {
            "DeviceName": device.device_name,
            "Model": told.model,
            "ModelName": told.model_name,
        }
    if may_ask or not told.version_needs_right:
        message |= {
            "OSVersion": told.os_version,
            "BuildVersion": told.build_version,
            "ProductName": told.product_name,
        }
    if told.user_enrollment:
        return message
    if may_ask or not told.serial_needs_right:
        message["SerialNumber"] = device.serial
    if told.cellular and may_ask:
        message["IMEI"] = device.imei
    return message


def token_update(
    device: "Device",
    channel: "Channel",
    management: Management,
    *,
    unlock_token: bytes | None,
    awaiting: bool | Keep | None,
) -> Message:
    """The message that says how to reach a channel. Source: check-in-and-commands.md 1.3.3.

    Args:
        device: who sends.
        channel: the device's, or one user's.
        management: the MDM payload.
        unlock_token: None leaves the key out; `b""` sends it empty.
        awaiting: None leaves the key out; KEEP sends true while the channel waits in Setup Assistant.
    """
    message: Message = {"MessageType": "TokenUpdate", "Topic": management.topic}
    message |= identity_keys(device, channel.user)
    message |= {"Token": channel.push_token, "PushMagic": channel.push_magic}
    if unlock_token is not None:
        message["UnlockToken"] = unlock_token
    if awaiting is KEEP:
        awaiting = True if channel.awaiting else None
    if awaiting is not None:
        message["AwaitingConfiguration"] = awaiting
    return message


def check_out(device: "Device", management: Management) -> Message:
    """The message that ends an enrollment. Source: check-in-and-commands.md 1.3.4."""
    message: Message = {"MessageType": "CheckOut", "Topic": management.topic}
    return message | identity_keys(device, None)


def user_authenticate(device: "Device", user: User, digest_response: str | None) -> Message:
    """The login of a network or mobile user. Source: check-in-and-commands.md 1.3.5."""
    message: Message = {
        "MessageType": "UserAuthenticate",
        "UDID": device.udid,
        "UserID": user.guid,
        "UserShortName": user.short_name,
        "UserLongName": user.long_name,
    }
    if digest_response is not None:
        message["DigestResponse"] = digest_response
    return message


def bootstrap_token(device: "Device", message_type: str, value: bytes | None) -> Message:
    """Set- or GetBootstrapToken; None leaves the value out. Source: check-in-and-commands.md 1.3.6."""
    message: Message = {"MessageType": message_type, "AwaitingConfiguration": device.awaiting}
    if not device.levers.bootstrap_without_udid:
        message |= identity_keys(device, None)
    if value is not None:
        message["BootstrapToken"] = value
    return message
