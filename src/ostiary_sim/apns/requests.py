"""What a push request says, and whether Apple would take it: pure, no connection in sight.

Source: check-in-and-commands.md 5.1, 5.5.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Final

from ostiary_sim.profile import TOPIC_PREFIX

PAYLOAD_LIMIT_BYTES: Final = 4096
COLLAPSE_ID_LIMIT_BYTES: Final = 64
_PATH: Final = re.compile(r"/3/device/([^/]*)")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX: Final = re.compile(r"([0-9a-fA-F]{2})+")
_PRIORITIES: Final = ("1", "5", "10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer to one push request."""

    status: int = HTTPStatus.OK
    reason: str | None = None
    timestamp: datetime | None = None
    """Since when the token is dead; with 410."""

    @property
    def body(self) -> bytes:
        """The JSON body; empty when accepted."""
        if self.reason is None:
            return b""
        fields: dict[str, object] = {"reason": self.reason}
        if self.timestamp is not None:
            fields["timestamp"] = int(self.timestamp.timestamp() * 1000)
        return json.dumps(fields).encode()


ACCEPTED: Final = Verdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """One request as it arrived, and what became of it."""

    at: datetime
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    certificate_topic: str | None
    verdict: Verdict
    connection: int
    """Counts connections, so that a test can tell whether a new one was opened."""

    @property
    def token(self) -> bytes | None:
        """The push token in the path, if it is hex."""
        return read_token(self.path)

    @property
    def topic(self) -> str | None:
        """The apns-topic header, or the certificate's only topic."""
        return self.headers.get("apns-topic", self.certificate_topic)

    @property
    def magic(self) -> str | None:
        """The push magic of a well-formed body."""
        return read_magic(self.body)


def read_token(path: str) -> bytes | None:
    """The push token in a request's path; None unless it is hex."""
    found = _PATH.fullmatch(path)
    return bytes.fromhex(found[1]) if found and _HEX.fullmatch(found[1]) else None


def read_magic(body: bytes) -> str | None:
    """The push magic, if the body is `{"mdm": "<magic>"}` and nothing else."""
    try:
        fields = json.loads(body)
    except ValueError:
        return None
    if not isinstance(fields, dict) or set(fields) != {"mdm"}:
        return None
    magic = fields["mdm"]
    return magic if isinstance(magic, str) and magic else None


def examine(
    headers: list[tuple[str, str]],
    body: bytes,
    certificate_topic: str | None,
    *,
    push_type_required: bool,
) -> Verdict:
    """Whether a request is well formed and allowed for its certificate, before any token is looked up."""
    fields = dict(headers)
    for check in (
        _examine_target(fields),
        _examine_headers(headers, fields, push_type_required=push_type_required),
        _examine_topic(fields, certificate_topic),
        _examine_body(body),
    ):
        if check is not None:
            return check
    return ACCEPTED


def _refusal(reason: str, status: int = HTTPStatus.BAD_REQUEST) -> Verdict:
    return Verdict(status=status, reason=reason)


def _examine_target(fields: Mapping[str, str]) -> Verdict | None:
    if fields.get(":method") != "POST":
        return _refusal("MethodNotAllowed", HTTPStatus.METHOD_NOT_ALLOWED)
    found = _PATH.fullmatch(fields.get(":path", ""))
    if found is None:
        return _refusal("BadPath", HTTPStatus.NOT_FOUND)
    if not found[1]:
        return _refusal("MissingDeviceToken")
    return None if _HEX.fullmatch(found[1]) else _refusal("BadDeviceToken")


def _examine_headers(
    headers: list[tuple[str, str]], fields: Mapping[str, str], *, push_type_required: bool
) -> Verdict | None:
    times = Counter(name for name, _ in headers if name.startswith("apns-"))
    push_type = fields.get("apns-push-type")
    expiration = fields.get("apns-expiration", "0")
    if any(count > 1 for count in times.values()):
        return _refusal("DuplicateHeaders")
    if push_type != "mdm" and (push_type is not None or push_type_required):
        return _refusal("InvalidPushType")
    if fields.get("apns-priority", "10") not in _PRIORITIES:
        return _refusal("BadPriority")
    if not expiration.isdecimal():
        return _refusal("BadExpirationDate")
    if "apns-id" in fields and not _UUID.fullmatch(fields["apns-id"]):
        return _refusal("BadMessageId")
    if len(fields.get("apns-collapse-id", "").encode()) > COLLAPSE_ID_LIMIT_BYTES:
        return _refusal("BadCollapseId")
    return None


def _examine_topic(fields: Mapping[str, str], certificate_topic: str | None) -> Verdict | None:
    topic = fields.get("apns-topic", certificate_topic)
    if not topic:
        return _refusal("MissingTopic")
    if not topic.startswith(TOPIC_PREFIX):
        return _refusal("BadTopic")
    return None if topic == certificate_topic else _refusal("TopicDisallowed")


def _examine_body(body: bytes) -> Verdict | None:
    if not body:
        return _refusal("PayloadEmpty")
    if len(body) > PAYLOAD_LIMIT_BYTES:
        return _refusal("PayloadTooLarge", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    # Apple documents no reason for a payload of another shape; anything but the magic is our client's bug.
    return None if read_magic(body) else _refusal("PayloadEmpty")
