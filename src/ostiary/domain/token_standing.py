"""What a generation's state means for people: one word, one sentence of consequence, one thing to do. (design.md 2)"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from ostiary.domain.token import FORM_OF, Form, TokenRecord, TokenState

RENEW_SOON: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Standing:
    """The same words for every kind of token."""

    word: str
    consequence: str
    remedy: str


_EXPIRED: Final = Standing("expired", "Its time is over: nobody accepts it any more.", "Renew it.")
_SOON: Final = Standing("renew soon", "It ends within thirty days.", "Renew it before its end.")
_UNPROVEN: Final = Standing(
    "unproven", "Held, and never yet shown to work.", "Nothing; its first use will tell."
)
_STORED: Final[Mapping[TokenState, Standing]] = MappingProxyType(
    {
        TokenState.OK: Standing("ok", "In use.", "Nothing."),
        TokenState.CANDIDATE: Standing(
            "candidate",
            "Held beside the one in use until one of them proves itself.",
            "Wait for the proof, or verify by hand.",
        ),
        TokenState.SUSPECT: Standing(
            "suspect",
            "Held and offered, but its last use failed.",
            "Try once more; if that fails, have the device hand over a new one.",
        ),
        TokenState.SUPERSEDED: Standing(
            "superseded", "A newer generation took its place; kept for history.", "Nothing."
        ),
        TokenState.RETIRED: Standing(
            "retired",
            "Belongs to an earlier relationship, or was used up; kept, never offered by itself.",
            "Nothing; it leaves by retention.",
        ),
        TokenState.REVOKED: Standing(
            "revoked",
            "Withdrawn by a person; never accepted again.",
            "Issue a new one if it is needed.",
        ),
        TokenState.DEAD: Standing(
            "dead", "Known not to work any more.", "Have its holder hand over a new one."
        ),
    }
)


def standing_of(record: TokenRecord, now: datetime) -> Standing:
    """Where a generation stands now; what depends on time is computed here and never stored."""
    if record.state is TokenState.OK:
        if record.expires_at is not None and record.expires_at <= now:
            return _EXPIRED
        if _ends_soon(record, now):
            return _SOON
        if record.proven_at is None and FORM_OF[record.kind] is Form.SEALED:
            return _UNPROVEN
    return _STORED[record.state]


def _ends_soon(record: TokenRecord, now: datetime) -> bool:
    """Whether its last thirty days have come, of a life that is much longer than these."""
    if record.expires_at is None or record.expires_at - record.received_at <= 2 * RENEW_SOON:
        return False
    return record.expires_at - now <= RENEW_SOON
