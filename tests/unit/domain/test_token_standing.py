"""The one word, the consequence and the remedy that people read of a token."""

from datetime import UTC, datetime, timedelta

import pytest

from ostiary.domain.token import (
    DEFAULT_TENANT,
    Holder,
    KeyedDigest,
    RecordId,
    SealedValue,
    TokenKind,
    TokenRecord,
    TokenState,
)
from ostiary.domain.token_standing import standing_of

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def record(
    kind: TokenKind = TokenKind.UNLOCK,
    state: TokenState = TokenState.OK,
    *,
    received: timedelta = timedelta(days=-1),
    expires: timedelta | None = None,
    proven: bool = False,
) -> TokenRecord:
    return TokenRecord(
        id=RecordId("0" * 32),
        tenant=DEFAULT_TENANT,
        holder=Holder("D"),
        kind=kind,
        value=SealedValue(b""),
        digest=KeyedDigest(b""),
        size=1,
        state=state,
        cause="",
        source="",
        fingerprint=None,
        relationship=None,
        received_at=NOW + received,
        changed_at=NOW,
        expires_at=None if expires is None else NOW + expires,
        proven_at=NOW if proven else None,
    )


def test_what_is_stored_is_not_proven() -> None:
    """design.md 2: a sealed token is unproven until it demonstrably worked; a public one needs no proof."""
    assert standing_of(record(), NOW).word == "unproven"
    assert standing_of(record(proven=True), NOW).word == "ok"
    assert standing_of(record(TokenKind.IDENTITY), NOW).word == "ok"


def test_expiry_is_computed_when_it_is_read() -> None:
    """users.md 3.6: the time is stored, never "has expired"."""
    year = timedelta(days=-335)
    assert (
        standing_of(record(TokenKind.IDENTITY, received=year, expires=timedelta(days=31)), NOW).word
        == "ok"
    )
    soon = record(TokenKind.IDENTITY, received=year, expires=timedelta(days=30))
    assert standing_of(soon, NOW).word == "renew soon"
    assert standing_of(soon, NOW + timedelta(days=30)).word == "expired"


def test_a_short_life_is_not_renewed_all_the_time() -> None:
    """A challenge that lives for a day is not about to end for the whole of it."""
    brief = record(TokenKind.ENROLLMENT_CHALLENGE, expires=timedelta(hours=20))
    assert standing_of(brief, NOW).word == "ok"


@pytest.mark.parametrize("state", [state for state in TokenState if state is not TokenState.OK])
def test_every_stored_state_has_its_consequence_and_its_remedy(state: TokenState) -> None:
    """design.md 2: one sentence of consequence, one thing to do, whatever time says."""
    standing = standing_of(record(state=state, expires=timedelta(days=-1)), NOW)
    assert standing.word == state.value
    assert standing.consequence.endswith(".")
    assert standing.remedy.endswith(".")
