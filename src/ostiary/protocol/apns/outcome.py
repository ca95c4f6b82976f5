"""What a push led to: Apple's answer, read as the action that follows."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from ostiary.values import dataclass

LARGEST_ANSWER: Final = 4096
"""Bytes of a body that we look at; Apple's answers have about a hundred."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REASON: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_APNS_ID: Final = re.compile(r"[0-9A-Fa-f-]{1,64}")


class PushVerdict(StrEnum):
    """What a push led to, as the action that follows. (check-in-and-commands.md 5.5)"""

    ACCEPTED = "accepted"
    TOKEN_DEAD = "token-dead"  # noqa: S105 - a verdict, not a token
    TOPIC_PAUSED = "topic-paused"
    RETRY = "retry"
    THROTTLED = "throttled"
    OUR_BUG = "our-bug"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOutcome:
    """APNs' answer to one push. `reason` is Apple's word, or ours in kebab-case when no answer came."""

    verdict: PushVerdict
    apns_id: str | None
    status: int | None
    reason: str | None
    unregistered_at: datetime | None = None
    """410's timestamp."""
    shown: str | None = None
    """Told of TOPIC_PAUSED: the ledger's record of the client certificate that APNs saw; None if there was none to show."""


VERDICT_OF_REASON: Final[Mapping[tuple[int, str], PushVerdict]] = MappingProxyType(
    {
        (400, "BadDeviceToken"): PushVerdict.TOKEN_DEAD,
        (410, "Unregistered"): PushVerdict.TOKEN_DEAD,
        (410, "ExpiredToken"): PushVerdict.TOKEN_DEAD,
        (400, "DeviceTokenNotForTopic"): PushVerdict.TOPIC_PAUSED,
        (400, "TopicDisallowed"): PushVerdict.TOPIC_PAUSED,
        (400, "BadTopic"): PushVerdict.TOPIC_PAUSED,
        (400, "MissingTopic"): PushVerdict.TOPIC_PAUSED,
        (403, "BadCertificate"): PushVerdict.TOPIC_PAUSED,
        (403, "BadCertificateEnvironment"): PushVerdict.TOPIC_PAUSED,
        (403, "Forbidden"): PushVerdict.TOPIC_PAUSED,
        (400, "IdleTimeout"): PushVerdict.RETRY,
        (500, "InternalServerError"): PushVerdict.RETRY,
        (503, "ServiceUnavailable"): PushVerdict.RETRY,
        (503, "Shutdown"): PushVerdict.RETRY,
        (429, "TooManyRequests"): PushVerdict.THROTTLED,
        # These speak of provider tokens: for us they mean that our client certificate was not seen, so no push of
        # the topic can succeed. The sheet asks for an alert; a pause spares APNs the fleet. (docs/divergences.md)
        (403, "ExpiredProviderToken"): PushVerdict.TOPIC_PAUSED,
        (403, "InvalidProviderToken"): PushVerdict.TOPIC_PAUSED,
        (403, "MissingProviderToken"): PushVerdict.TOPIC_PAUSED,
        (403, "UnrelatedKeyIdInToken"): PushVerdict.TOPIC_PAUSED,
        (429, "TooManyProviderTokenUpdates"): PushVerdict.TOPIC_PAUSED,
        (400, "MissingDeviceToken"): PushVerdict.OUR_BUG,
        (404, "BadPath"): PushVerdict.OUR_BUG,
        (405, "MethodNotAllowed"): PushVerdict.OUR_BUG,
        (400, "BadExpirationDate"): PushVerdict.OUR_BUG,
        (400, "BadPriority"): PushVerdict.OUR_BUG,
        (400, "BadMessageId"): PushVerdict.OUR_BUG,
        (400, "BadCollapseId"): PushVerdict.OUR_BUG,
        (400, "DuplicateHeaders"): PushVerdict.OUR_BUG,
        (400, "InvalidPushType"): PushVerdict.OUR_BUG,
        (400, "PayloadEmpty"): PushVerdict.OUR_BUG,
        (413, "PayloadTooLarge"): PushVerdict.OUR_BUG,
    }
)
"""Source: check-in-and-commands.md 5.5. A verdict that stops pushes holds only with the status Apple documents for it."""

VERDICT_OF_STATUS: Final[Mapping[int, PushVerdict]] = MappingProxyType(
    {
        200: PushVerdict.ACCEPTED,
        400: PushVerdict.OUR_BUG,
        403: PushVerdict.TOPIC_PAUSED,
        404: PushVerdict.OUR_BUG,
        405: PushVerdict.OUR_BUG,
        410: PushVerdict.TOKEN_DEAD,
        413: PushVerdict.OUR_BUG,
        429: PushVerdict.THROTTLED,
    }
)
"""For answers whose reason is missing or new to us; any other status is tried again."""


def judge(status: int, headers: Mapping[str, str], body: bytes) -> PushOutcome:
    """What an answer of APNs means; never raises, whatever came. Header names are lower-case.

    Source: check-in-and-commands.md 5.5.
    """
    fields = {} if status == HTTPStatus.OK else _fields(body)
    reason = _word(fields.get("reason"), _REASON)
    verdict = VERDICT_OF_REASON.get((status, reason)) if reason else None
    if verdict is None:
        verdict = VERDICT_OF_STATUS.get(status, PushVerdict.RETRY)
    return PushOutcome(
        verdict=verdict,
        apns_id=_word(headers.get("apns-id"), _APNS_ID),
        status=status,
        reason=reason,
        unregistered_at=_moment(fields.get("timestamp")) if status == HTTPStatus.GONE else None,
    )


def _fields(body: bytes) -> dict[str, object]:
    """The JSON object of an error answer; empty if it is none, or larger than any of Apple's."""
    if len(body) > LARGEST_ANSWER:
        return {}
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _word(value: object, form: re.Pattern[str]) -> str | None:
    """A text that may go into a log and into a sentence for people."""
    return value if isinstance(value, str) and form.fullmatch(value) else None


def _moment(milliseconds: object) -> datetime | None:
    if not isinstance(milliseconds, int) or isinstance(milliseconds, bool) or milliseconds < 0:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
