"""Invitations, challenges and credentials, on every engine. (check-in-and-commands.md 6.3)"""

from dataclasses import replace
from typing import Any

import pytest

from conformance.storage_twins import AnyStorage, store, visible_state
from conformance.storage_values import (
    NOON,
    PROFILE,
    after,
    audit,
    binding,
    challenge,
    credential,
    device,
    digest,
    fingerprint,
    invitation,
    key,
    record_id,
)
from ostiary.domain.enrollment import Bound, Purpose, Standing
from ostiary.domain.invitation import Challenge, Invitation, Spend
from ostiary.domain.token import DEFAULT_TENANT, FORM_OF, Form, Holder, TokenKind, TokenState
from ostiary.errors import Conflicting, Missing, Refused

BOUND = Bound(serial_number="SERIAL1", enrollment_key=key(1), user="somebody")


def spend_of(held: Challenge, number: int = 50) -> Spend:
    """The change that spends a challenge for certificate `number`."""
    spent = replace(
        held, spent_at=after(minutes=1), spent_by_key="ab" * 32, issued=fingerprint(number)
    )
    issued = credential(number, challenge_id=held.id)
    return Spend(challenge=spent, credential=issued, certificate=b"der %d" % number)


def spend(held: Challenge, _: Invitation | None) -> Spend:
    return spend_of(held)


async def test_an_invitation_is_found_by_its_code(storage: AnyStorage) -> None:
    kept = invitation(1, bound=BOUND, uses_left=5)
    await storage.challenges.add_invitation(kept, audit("invite"))
    assert await storage.challenges.find_invitation(digest(1)) == kept
    assert await storage.challenges.find_invitation(digest(2)) is None
    assert [entry.verb for entry, _ in (await visible_state(storage))["audit"]] == ["invite"]


async def test_two_invitations_do_not_share_a_code(storage: AnyStorage) -> None:
    await storage.challenges.add_invitation(invitation(1), audit("invite"))
    before = await visible_state(storage)
    with pytest.raises(Conflicting):
        await storage.challenges.add_invitation(invitation(2, code=digest(1)), audit("again"))
    assert await visible_state(storage) == before


async def test_a_challenge_is_found_by_its_digest_with_its_invitation(
    storage: AnyStorage,
) -> None:
    asked = invitation(1)
    await storage.challenges.add_invitation(asked, audit("invite"))
    kept = challenge(2, purpose=Purpose.RENEW, bound=BOUND, invitation_id=asked.id)
    await storage.challenges.add_challenge(kept)
    assert await storage.challenges.find_challenge(digest(2)) == (kept, asked, None)
    assert await storage.challenges.find_challenge(digest(1)) is None


async def test_a_challenge_is_a_record_of_the_ledger(storage: AnyStorage) -> None:
    """Form digest: nothing is kept that could be given out. (design.md 2)"""
    await storage.challenges.add_challenge(challenge(2, bound=BOUND))
    kept = await storage.enrollments.load_record(record_id(2))
    assert kept is not None
    assert FORM_OF[kept.kind] is Form.DIGEST
    assert (kept.kind, kept.holder, kept.digest, kept.value, kept.state, kept.expires_at) == (
        TokenKind.ENROLLMENT_CHALLENGE,
        Holder(record_id(2)),
        digest(2),
        b"",
        TokenState.OK,
        after(days=1),
    )


async def test_spending_stores_challenge_use_and_certificate_together(
    storage: AnyStorage,
) -> None:
    asked = invitation(1, uses_left=2)
    await storage.challenges.add_invitation(asked, audit("invite"))
    held = challenge(2, invitation_id=asked.id)
    await storage.challenges.add_challenge(held)
    assert await storage.challenges.spend(digest(2), spend) == b"der 50"
    assert await storage.challenges.find_challenge(digest(2)) == (
        spend_of(held).challenge,
        replace(asked, uses_left=1),
        b"der 50",
    )
    state = await visible_state(storage)
    assert state["credentials"] == {
        fingerprint(50): (credential(50, challenge_id=held.id), b"der 50")
    }
    kept = state["records"][record_id(2)]
    assert (kept.state, kept.cause, kept.changed_at) == (
        TokenState.RETIRED,
        "used",
        after(minutes=1),
    )


async def test_a_rule_may_return_the_certificate_issued_before(storage: AnyStorage) -> None:
    """The same key may ask again for a while. (6.3 rule 2, SC-01)"""
    await storage.challenges.add_challenge(challenge(2))
    await storage.challenges.spend(digest(2), spend)
    before = await visible_state(storage)
    assert await storage.challenges.spend(digest(2), lambda *_: None) == b"der 50"
    assert await visible_state(storage) == before


async def test_a_rule_that_refuses_spends_nothing(storage: AnyStorage) -> None:
    class TooLate(Refused):
        """Too late."""

    def refuse(*_: Any) -> Spend:
        raise TooLate

    await storage.challenges.add_challenge(challenge(2))
    before = await visible_state(storage)
    with pytest.raises(TooLate):
        await storage.challenges.spend(digest(2), refuse)
    assert await visible_state(storage) == before


async def test_an_unknown_challenge_is_missing(storage: AnyStorage) -> None:
    with pytest.raises(Missing):
        await storage.challenges.spend(digest(2), spend)


async def test_a_challenge_without_a_certificate_has_none_to_return(storage: AnyStorage) -> None:
    await storage.challenges.add_challenge(challenge(2))
    with pytest.raises(Conflicting):
        await storage.challenges.spend(digest(2), lambda *_: None)


async def test_an_invitation_never_falls_below_no_use(storage: AnyStorage) -> None:
    asked = invitation(1, uses_left=0)
    await storage.challenges.add_invitation(asked, audit("invite"))
    await storage.challenges.add_challenge(challenge(2, invitation_id=asked.id))
    before = await visible_state(storage)
    with pytest.raises(Conflicting):
        await storage.challenges.spend(digest(2), spend)
    assert await visible_state(storage) == before


async def test_a_challenge_of_no_invitation_of_ours_is_not_kept(storage: AnyStorage) -> None:
    with pytest.raises(Conflicting):
        await storage.challenges.add_challenge(challenge(2, invitation_id=record_id(9)))
    await storage.challenges.add_challenge(challenge(2))
    with pytest.raises(Conflicting):
        await storage.challenges.add_challenge(challenge(3, digest=digest(2)))


async def test_a_credential_is_kept_without_a_challenge(storage: AnyStorage) -> None:
    """A renewal by RenewalReq. (6.3)"""
    issued = credential(50, profile=PROFILE, purpose=Purpose.RENEW, bound=BOUND)
    await storage.challenges.add_credential(issued, b"der")
    assert (await visible_state(storage))["credentials"] == {fingerprint(50): (issued, b"der")}
    assert await storage.challenges.find_challenge(digest(2)) is None
    with pytest.raises(Conflicting):
        await storage.challenges.add_credential(issued, b"der")


async def test_a_renewable_relationship_is_found_by_a_binding_in_force(
    storage: AnyStorage,
) -> None:
    await store(
        storage,
        rows=(device(1), device(2, standing=Standing.ENDED)),
        bind=(
            binding(1, to=1),
            binding(2, to=2),
            binding(3, to=1, superseded_at=after(days=1)),
        ),
    )
    assert await storage.challenges.find_renewable(fingerprint(1)) == device(1, version=1)
    for number in (2, 3, 4):
        assert await storage.challenges.find_renewable(fingerprint(number)) is None


async def test_renewals_are_counted_by_relationship_and_day(storage: AnyStorage) -> None:
    """A device mints renewals for itself whenever it likes, and each is kept for years. (docs/decisions/0016)"""
    for number, (of, issued_at) in enumerate(
        [(1, NOON), (1, after(days=1)), (1, after(days=2)), (2, after(days=2))]
    ):
        issued = credential(number, bound=Bound(enrollment_key=key(of)), issued_at=issued_at)
        await storage.challenges.add_credential(issued, b"der")
    await storage.challenges.add_credential(credential(9, issued_at=after(days=2)), b"der")
    assert await storage.challenges.count_renewals(key(1), since=after(days=1)) == 2
    assert await storage.challenges.count_renewals(key(3), since=NOON) == 0


HERS = Bound(serial_number="SERIAL1")
BY_ROW = Bound(enrollment_key=key(1))


async def _usable(storage: AnyStorage, numbers: range) -> list[int]:
    """Which of the challenges can be spent a minute from noon."""
    found = [await storage.challenges.find_challenge(digest(number)) for number in numbers]
    return [
        number
        for number, one in zip(numbers, found, strict=True)
        if one is not None and one[0].valid_until > after(minutes=1) and one[0].spent_at is None
    ]


async def test_a_challenge_that_replaces_ends_the_unused_ones_of_its_device_and_purpose(
    storage: AnyStorage,
) -> None:
    """Nothing of anybody else's, of another purpose, or that an invitation gave out."""
    invited = invitation(9)
    await storage.challenges.add_invitation(invited, audit("invite"))
    for number, changes in enumerate(
        (
            {"bound": HERS},
            {"bound": HERS, "purpose": Purpose.RENEW},
            {"bound": HERS, "invitation_id": invited.id},
            {"bound": Bound(serial_number="SERIAL2")},
            {"bound": BY_ROW},
            {},
        ),
        start=2,
    ):
        await storage.challenges.add_challenge(challenge(number, **changes))
    await storage.challenges.add_challenge(
        challenge(8, bound=HERS, created_at=after(minutes=1)), replaces=True
    )
    assert await _usable(storage, range(2, 9)) == [3, 4, 5, 6, 7, 8]
    ended = await storage.enrollments.load_record(challenge(2).id)
    assert ended is not None
    assert ended.state is TokenState.SUPERSEDED
    await storage.challenges.add_challenge(
        challenge(10, bound=BY_ROW, created_at=after(minutes=1)), replaces=True
    )
    assert await _usable(storage, range(2, 11)) == [3, 4, 5, 7, 8, 10]


async def test_what_was_made_for_a_released_device_is_withdrawn(storage: AnyStorage) -> None:
    invited = invitation(9)
    await storage.challenges.add_invitation(invited, audit("invite"))
    for number, changes in enumerate(
        (
            {"bound": HERS},
            {"bound": BY_ROW, "purpose": Purpose.RENEW},
            {"bound": HERS, "invitation_id": invited.id},
            {"bound": Bound(serial_number="SERIAL2")},
            {},
        ),
        start=2,
    ):
        await storage.challenges.add_challenge(challenge(number, **changes))
    for _ in range(2):
        await storage.challenges.withdraw_challenges(
            DEFAULT_TENANT,
            serial_number="SERIAL1",
            enrollment_key=key(1),
            at=after(minutes=1),
        )
    assert await _usable(storage, range(2, 7)) == [4, 5, 6]
    ended = await storage.enrollments.load_record(challenge(3).id)
    assert ended is not None
    assert ended.state is TokenState.REVOKED
    await storage.challenges.withdraw_challenges(
        DEFAULT_TENANT, serial_number=None, enrollment_key=key(7), at=after(minutes=1)
    )
    assert await _usable(storage, range(2, 7)) == [4, 5, 6]
