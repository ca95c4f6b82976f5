"""What a device answers to DeviceInformation, as far as we keep it as facts."""

from dataclasses import fields, replace
from typing import Final

from ostiary.formats.fields import Fields
from ostiary.protocol.mdm.checkin import DeviceFacts

LONGEST_FACT: Final = 255


def decode_device_information(result: Fields) -> DeviceFacts | None:
    """The facts in a report's QueryResponses; None where there are none.

    The answer is hostile text and a report must never be refused, so whatever is not a text of sensible
    length counts as not said.
    """
    responses = result.as_mapping().get("QueryResponses")
    if not isinstance(responses, dict):
        return None
    said = {key: _text(value) for key, value in responses.items()}
    return DeviceFacts(
        serial_number=said.get("SerialNumber"),
        device_name=said.get("DeviceName"),
        model=said.get("Model"),
        model_name=said.get("ModelName"),
        product_name=said.get("ProductName"),
        os_version=said.get("OSVersion"),
        build_version=said.get("BuildVersion"),
    )


def learn(known: DeviceFacts, said: DeviceFacts) -> DeviceFacts:
    """What is known once a device has said more: newer words win, silence erases nothing.

    The serial number of the Authenticate stays: invitations are judged by it.
    """
    news = {field.name: getattr(said, field.name) for field in fields(DeviceFacts)}
    if known.serial_number is not None:
        news["serial_number"] = None
    return replace(known, **{name: value for name, value in news.items() if value is not None})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_FACT else None
