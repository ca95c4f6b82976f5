"""The HTTP request that wakes one channel."""

import json
import re
from datetime import datetime
from typing import Final
from uuid import UUID

from ostiary.errors import Malformed, TooLarge
from ostiary.protocol.mdm.checkin import PushAddress
from ostiary.secret import Secret
from ostiary.values import dataclass

LARGEST_PAYLOAD: Final = 4096
"""Bytes of body that APNs takes for a push of type `mdm`."""

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]+")


class PushTooLarge(TooLarge):
    """The push magic does not fit into a push."""

    hint = "Apple's devices send a UUID as PushMagic; look at what sent this one."


class PushUnwritable(Malformed):
    """A push address holds text that cannot be sent to APNs."""

    hint = "The topic is printable ASCII and the push magic is text on every Apple device."


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """One push, ready to be sent as `POST path`. Path and body carry the push token and the push magic."""

    path: Secret
    headers: tuple[tuple[str, str], ...]
    body: Secret
    apns_id: str
    """The name under which APNs knows this push; among the headers, too."""


def render_push(address: PushAddress, *, expires_at: datetime, apns_id: UUID | str) -> PushRequest:
    """The push that wakes `address`, stored by APNs until `expires_at` if the device is offline.

    `apns_id` is a UUID, or one written in lower case. The magic is quoted as JSON demands, so whatever a device sent as its magic is all that the push says.

    Raises:
        PushTooLarge: the payload exceeds what APNs takes.
        PushUnwritable: the topic is no header value, or the magic no UTF-8.

    Source: check-in-and-commands.md 5.1.
    """
    if not _HEADER_VALUE.fullmatch(address.topic):
        raise PushUnwritable(field="topic")
    written_id = str(apns_id)
    return PushRequest(
        path=Secret(b"/3/device/" + address.token.reveal().hex().encode("ascii")),
        headers=(
            ("apns-topic", address.topic),
            ("apns-push-type", "mdm"),
            ("apns-priority", "10"),
            ("apns-expiration", str(int(expires_at.timestamp()))),
            ("apns-id", written_id),
        ),
        body=Secret(_payload(address.magic)),
        apns_id=written_id,
    )


def _payload(magic: Secret) -> bytes:
    try:
        text = magic.reveal().decode("utf-8")
    except UnicodeDecodeError:
        raise PushUnwritable(field="magic") from None
    # The text alone is quoted by the library: a dictionary takes it ten times as long.
    payload = f'{{"mdm":{_JSON.encode(text)}}}'.encode()
    if len(payload) > LARGEST_PAYLOAD:
        raise PushTooLarge(size=len(payload), limit=LARGEST_PAYLOAD)
    return payload
