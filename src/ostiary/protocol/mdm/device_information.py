"""What a device answers to DeviceInformation, as far as we keep it as facts."""

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
    return DeviceFacts(
        serial_number=known.serial_number or said.serial_number,
        device_name=said.device_name or known.device_name,
        model=said.model or known.model,
        model_name=said.model_name or known.model_name,
        product_name=said.product_name or known.product_name,
        os_version=said.os_version or known.os_version,
        build_version=said.build_version or known.build_version,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_FACT else None
