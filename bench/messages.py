"""What the devices of the bench say, in the shapes of check-in-and-commands.md 1.3 and 3.1."""

import os
from base64 import b64encode
from collections.abc import Sequence
from uuid import uuid4

from bench.fleet import TOPIC, UNLOCK_TOKEN_BYTES, Device, Draft

BOOTSTRAP_TOKEN_BYTES = 32


def authenticate(device: Device) -> Draft:
    message: dict[str, object] = {
        "MessageType": "Authenticate",
        "UDID": device.udid,
        "Topic": TOPIC,
        "SerialNumber": device.serial,
        "DeviceName": "Bench",
        "Model": "MK1",
        "ModelName": "iPhone",
        "ProductName": "iPhone17,1",
        "OSVersion": "26.1",
        "BuildVersion": "23B85",
    }
    return Draft(device, message, "Authenticate")


def token_update(device: Device, *, unlock: bool) -> Draft:
    """Other values each time."""
    message: dict[str, object] = {
        "MessageType": "TokenUpdate",
        "UDID": device.udid,
        "Topic": TOPIC,
        "Token": os.urandom(32),
        "PushMagic": str(uuid4()).upper(),
    }
    if unlock:
        message["UnlockToken"] = os.urandom(UNLOCK_TOKEN_BYTES)
    return Draft(device, message, "TokenUpdate")


def set_bootstrap_token(device: Device, value: bytes) -> Draft:
    message: dict[str, object] = {
        "MessageType": "SetBootstrapToken",
        "UDID": device.udid,
        "AwaitingConfiguration": False,
        "BootstrapToken": value,
    }
    return Draft(device, message, "SetBootstrapToken")


def get_bootstrap_token(device: Device, value: bytes) -> Draft:
    message: dict[str, object] = {
        "MessageType": "GetBootstrapToken",
        "UDID": device.udid,
        "AwaitingConfiguration": False,
    }
    return Draft(device, message, "GetBootstrapToken", holds=b64encode(value))


def idle(device: Device, *, expects: str = "") -> Draft:
    """A poll; `expects` is the CommandUUID that the answer must carry."""
    message: dict[str, object] = {"UDID": device.udid, "Status": "Idle"}
    return Draft(device, message, "Idle", holds=expects.encode())


def acknowledged(device: Device, uuid: str, *, expects: str = "") -> Draft:
    """The answer to DeviceInformation, as long as a short list of queries makes it."""
    message: dict[str, object] = {
        "UDID": device.udid,
        "Status": "Acknowledged",
        "CommandUUID": uuid,
        "QueryResponses": {
            "DeviceName": "Bench",
            "OSVersion": "26.1",
            "BuildVersion": "23B85",
            "ModelName": "iPhone",
            "SerialNumber": device.serial,
            "BatteryLevel": 0.83,
            # A supervised one would be asked for its bypass code, sooner or later, in the middle of a scenario.
            "IsSupervised": False,
            "AvailableDeviceCapacity": 103.5,
        },
    }
    return Draft(device, message, "Acknowledged", holds=expects.encode())


def work_off(device: Device, uuids: Sequence[str]) -> list[Draft]:
    """A session in which the device is handed these commands and answers them, one after the other."""
    return [
        idle(device, expects=uuids[0]),
        *(
            acknowledged(device, uuid, expects=following)
            for uuid, following in zip(uuids, (*uuids[1:], ""), strict=True)
        ),
    ]


def device_information(uuid: str) -> dict[str, object]:
    """The command that an operator queues."""
    queries = ["DeviceName", "OSVersion", "BuildVersion", "ModelName", "SerialNumber"]
    return {
        "CommandUUID": uuid,
        "Command": {"RequestType": "DeviceInformation", "Queries": queries},
    }
