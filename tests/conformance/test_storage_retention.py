"""What every storage forgets when it is told to, and what it keeps all the same."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conformance.storage_twins import AnyStorage, store, visible_state
from conformance.storage_values import (
    NOON,
    after,
    audit,
    binding,
    challenge,
    closed,
    credential,
    device,
    digest,
    escrow,
    invitation,
    key,
    pointer,
    record,
    record_id,
    sheet,
    user,
)
from ostiary.domain.command import CommandState
from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Standing, State
from ostiary.domain.retention import MAY_OPEN, Aged
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind, TokenRecord, TokenState
from ostiary.ports.retention import START

LATER = after(days=10)
OLD = after(days=-10)


async def drop_all(storage: AnyStorage, records: Aged) -> int:
    """Drop in small steps whatever is older than NOON; how many."""
    dropped = 0
    while some := await storage.retention.drop_aged(records, NOON, limit=3):
        dropped += some
    return dropped


async def kept(storage: AnyStorage, part: str) -> Any:
    return (await visible_state(storage))[part]


async def test_old_commands_go_and_young_ones_stay(storage: AnyStorage) -> None:
    old = [closed(f"old-{n}", 1, closed_at=OLD) for n in range(7)]
    young = [closed(f"young-{n}", 1, closed_at=NOON) for n in range(4)]
    await store(storage, rows=(device(1),), close=(*old, *young))
    assert await storage.retention.count_aged(Aged.ENDED_COMMANDS, NOON) == 7
    assert await drop_all(storage, Aged.ENDED_COMMANDS) == 7
    assert [one.uuid for one in await kept(storage, "closed")] == [one.uuid for one in young]


async def test_cancelled_commands_can_go_sooner(storage: AnyStorage) -> None:
    states = (CommandState.DONE, CommandState.CANCELLED, CommandState.FAILED)
    commands = [closed(f"c-{n}", 1, closed_at=OLD, state=states[n % 3]) for n in range(9)]
    await store(storage, rows=(device(1),), close=tuple(commands))
    assert await storage.retention.count_aged(Aged.CANCELLED_COMMANDS, NOON) == 3
    assert await drop_all(storage, Aged.CANCELLED_COMMANDS) == 3
    left = {one.state for one in await kept(storage, "closed")}
    assert left == {CommandState.DONE, CommandState.FAILED}


async def test_a_challenge_goes_with_its_record_in_the_ledger(storage: AnyStorage) -> None:
    await storage.challenges.add_challenge(challenge(1, valid_until=OLD))
    await storage.challenges.add_challenge(challenge(2, valid_until=LATER))
    assert await storage.retention.count_aged(Aged.CHALLENGES, NOON) == 1
    assert await drop_all(storage, Aged.CHALLENGES) == 1
    assert set(await kept(storage, "challenges")) == {record_id(2)}
    assert set(await kept(storage, "records")) == {record_id(2)}


async def test_an_invitation_stays_as_long_as_a_challenge_of_it(storage: AnyStorage) -> None:
    for number in (1, 2):
        invited = invitation(number, valid_until=OLD)
        await storage.challenges.add_invitation(invited, audit("invite"))
    await storage.challenges.add_challenge(challenge(3, invitation_id=record_id(2)))
    assert await drop_all(storage, Aged.INVITATIONS) == 1
    assert set(await kept(storage, "invitations")) == {record_id(2)}


async def test_certificates_go_after_their_end_and_only_replaced_ones_lose_their_binding(
    storage: AnyStorage,
) -> None:
    """A device whose certificate ran out is still known by it. (3.8)"""
    ended = binding(1, 1, not_after=OLD)
    replaced = binding(2, 1, not_after=OLD, superseded_at=OLD)
    young = binding(3, 1, superseded_at=OLD)
    await store(storage, rows=(device(1),), bind=(ended, replaced, young))
    for number, not_after in ((1, OLD), (2, LATER)):
        await storage.challenges.add_credential(credential(number, not_after=not_after), b"der")
    assert await drop_all(storage, Aged.BINDINGS) == 1
    assert set(await kept(storage, "bindings")) == {ended.fingerprint, young.fingerprint}
    assert await drop_all(storage, Aged.CREDENTIALS) == 1
    assert len(await kept(storage, "credentials")) == 1


async def test_an_alert_goes_once_it_is_no_longer_raised(storage: AnyStorage) -> None:
    """The subject is a device's text, whatever it wrote."""
    names = ("a", "b\x00", "c")
    raised = [Alert(tenant=DEFAULT_TENANT, subject=n, kind="k", sentence="s") for n in names]
    await store(storage, at=OLD, alerts=tuple(raised))
    await store(storage, at=LATER, alerts=(raised[2],))
    assert await drop_all(storage, Aged.ALERTS) == 2
    assert {subject for _, subject, _ in await kept(storage, "alerts")} == {"c"}


async def test_of_one_kind_only_the_latest_alerts_stay(storage: AnyStorage) -> None:
    """A device may name another push topic each time; what is alarming otherwise stays."""
    other = Alert(tenant=DEFAULT_TENANT, subject="a", kind="other", sentence="s")
    await store(storage, at=OLD, alerts=(other,))
    for number in range(12):
        named = Alert(tenant=DEFAULT_TENANT, subject=f"topic-{number}", kind="k", sentence="s")
        await store(storage, at=after(minutes=number), alerts=(named,))
    dropped = [await storage.retention.drop_crowded_alerts(most=5, limit=4) for _ in range(3)]
    assert dropped == [4, 3, 0]
    left = {subject for _, subject, _ in await kept(storage, "alerts")}
    assert left == {"a", *(f"topic-{number}" for number in range(7, 12))}


def ended(number: int, **changes: Any) -> Any:
    facts = {"standing": Standing.ENDED, "state": State.OUT, "authenticated_at": OLD}
    return device(number, **{**facts, **changes})


async def test_an_ended_relationship_goes_whole(storage: AnyStorage) -> None:
    """With users, commands, bindings and records; others of the same device id lose nothing."""
    rows = (device(1), ended(2, id=device(1).id), user(3, 2, state=State.OUT))
    await store(
        storage,
        rows=rows,
        bind=(binding(1, 1), binding(2, 2, not_after=OLD, superseded_at=OLD)),
        records=(
            record(1, 1),
            record(2, 1, relationship=key(2), state=TokenState.RETIRED),
            replace(record(3, 3, state=TokenState.RETIRED), holder=Holder(rows[2].id)),
        ),
        close=(closed("one", 1), closed("two", 2), closed("three", 3)),
    )
    assert await storage.retention.count_aged(Aged.RELATIONSHIPS, NOON) == 1
    assert await drop_all(storage, Aged.RELATIONSHIPS) == 1
    state = await visible_state(storage)
    assert set(state["enrollments"]) == {key(1)}
    assert set(state["records"]) == {record_id(1)}
    assert [one.uuid for one in state["closed"]] == ["one"]
    assert len(state["bindings"]) == 1


async def test_the_sheets_of_a_relationship_go_with_it(storage: AnyStorage) -> None:
    await store(storage, rows=(device(1), ended(2)), facts=(sheet(1), sheet(2)))
    assert await drop_all(storage, Aged.RELATIONSHIPS) == 1
    assert list((await kept(storage, "sheets")).values()) == [sheet(1)]


@pytest.mark.parametrize("kind", sorted(MAY_OPEN))
async def test_an_ended_relationship_that_handed_over_a_secret_stays(
    storage: AnyStorage, kind: TokenKind
) -> None:
    """The secret may still open the device. (escrowed-secrets.md 4.1 rule 6)"""
    await store(
        storage,
        rows=(ended(1),),
        records=(record(1, 1, kind, state=TokenState.RETIRED),),
    )
    assert await drop_all(storage, Aged.RELATIONSHIPS) == 0


async def test_a_relationship_stays_while_it_speaks_or_its_certificate_is_valid(
    storage: AnyStorage,
) -> None:
    """Forgotten, its certificate would be a newcomer's again. (2.3)"""
    rows = (
        ended(1),
        ended(2, last_seen_at=LATER),
        ended(3, standing=Standing.CURRENT),
        ended(4, standing=Standing.CONTESTED),
    )
    await store(storage, rows=rows, bind=(binding(1, 1, superseded_at=OLD),))
    assert await drop_all(storage, Aged.RELATIONSHIPS) == 0


async def test_a_channel_keeps_its_newest_commands(storage: AnyStorage) -> None:
    commands = [closed(f"{of}-{n}", of) for of in (1, 2, 3) for n in range(4 * of)]
    await store(storage, rows=(device(1), device(2), device(3)), close=tuple(commands))
    place, seen = START, 0
    while True:
        found = await storage.retention.find_surplus(place, most=5, limit=2)
        assert await storage.retention.drop_commands(found.numbers) == len(found.numbers)
        seen += len(found.numbers)
        if (place := found.place) == START:
            break
    assert seen == 3 + 7
    left = [one.uuid for one in await kept(storage, "closed")]
    assert sorted(left) == sorted(
        [f"1-{n}" for n in range(4)]
        + [f"2-{n}" for n in range(3, 8)]
        + [f"3-{n}" for n in range(7, 12)]
    )


async def test_a_walk_shows_every_history_once_and_whole(storage: AnyStorage) -> None:
    records = [
        record(10 * holder + n, holder, kind)
        for holder in (1, 2, 3, 4)
        for kind in (TokenKind.PUSH, TokenKind.UNLOCK)
        for n in range(kind is TokenKind.UNLOCK, 9, 2)
    ]
    await store(storage, records=tuple(records))
    place, pages = START, []
    while True:
        found = await storage.retention.read_histories(place, limit=12)
        pages.append({(one.holder, one.kind) for one in found.generations})
        if (place := found.place) == START:
            break
    assert len(pages) > 2
    assert sum(len(page) for page in pages) == 8
    assert len(set().union(*pages)) == 8


async def test_a_history_that_is_longer_than_a_page_is_shown_with_its_newest(
    storage: AnyStorage,
) -> None:
    records = [record(n, 1) for n in range(1, 30)]
    await store(storage, records=(*records, record(40, 2)))
    found = await storage.retention.read_histories(START, limit=5)
    assert [one.generation for one in found.generations] == [29, 28, 27, 26, 25]
    then = await storage.retention.read_histories(found.place, limit=5)
    assert [one.id for one in then.generations] == [record_id(40)]
    assert then.place == START


async def test_what_is_in_force_or_pointed_to_is_never_dropped(storage: AnyStorage) -> None:
    """Whoever asks: the rule may have looked a moment too early."""
    states = [*TokenState]
    records = [record(n, 1, state=state) for n, state in enumerate(states, 1)]
    dead = record(50, 1, TokenKind.UNLOCK, state=TokenState.DEAD)
    await store(storage, rows=(device(1, unlock=pointer(50)),), records=(*records, dead))
    asked = [one.id for one in (*records, dead)] + [record_id(99)]
    assert await storage.retention.drop_generations(asked) == 4
    left = {one.state for one in (await kept(storage, "records")).values()}
    assert left == {TokenState.OK, TokenState.CANDIDATE, TokenState.SUSPECT, TokenState.DEAD}


async def test_what_an_escrow_points_to_is_never_dropped(storage: AnyStorage) -> None:
    """Whatever state the record itself is in. (escrowed-secrets.md 4.0.3)"""
    records = [
        record(n, 1, TokenKind.RECOVERY_LOCK, state=TokenState.SUPERSEDED) for n in (1, 2, 3)
    ]
    pointing = escrow(1, current=record_id(1), candidate=record_id(2))
    await store(storage, records=tuple(records), escrows=(pointing,))
    assert await storage.retention.drop_generations([one.id for one in records]) == 1
    assert set(await kept(storage, "records")) == {record_id(1), record_id(2)}


async def test_a_history_that_grows_is_to_be_reviewed_once(storage: AnyStorage) -> None:
    kinds = (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP, TokenKind.IDENTITY)
    first = [record(n, 1, kind) for n, kind in enumerate(kinds, 1)]
    await store(storage, rows=(device(1, unlock=pointer(12)),), records=tuple(first))
    assert await storage.retention.list_reviews(limit=9) == ()
    await store(storage, records=(record(11, 1, TokenKind.UNLOCK), record(14, 1, kinds[3])))
    await store(storage, records=(record(12, 1, TokenKind.UNLOCK),))
    (review,) = await storage.retention.list_reviews(limit=9)
    assert (review.kind, review.first, review.last) == (TokenKind.UNLOCK, 2, 3)
    history = await storage.retention.read_history(review, limit=2)
    assert [(one.id, one.is_current) for one in history] == [
        (record_id(12), True),
        (record_id(11), False),
    ]
    assert history[0].digest == digest(12)
    raised = Alert(tenant=DEFAULT_TENANT, subject="UDID-1", kind="k", sentence="s")
    await store(storage, records=(record(13, 1, TokenKind.UNLOCK),))
    await storage.retention.settle_reviews([review], [raised], NOON)
    (again,) = await storage.retention.list_reviews(limit=9)
    assert again.last == 4
    await storage.retention.settle_reviews([again], [], NOON)
    assert await storage.retention.list_reviews(limit=9) == ()
    assert len(await kept(storage, "alerts")) == 1


async def test_reviews_come_in_pages_and_each_brings_all_notes_of_its_history(
    storage: AnyStorage,
) -> None:
    """Settling one forgets its notes, and nobody else's."""
    ids = iter(range(1, 100))
    for _ in range(3):
        for number in (1, 2, 3):
            await store(storage, records=(record(next(ids), number, TokenKind.UNLOCK),))
    page = await storage.retention.list_reviews(limit=2)
    assert {(one.holder, one.first, one.last) for one in page} == {
        ("UDID-1", 2, 3),
        ("UDID-2", 2, 3),
    }
    await storage.retention.settle_reviews(page[:1], [], NOON)
    left = await storage.retention.list_reviews(limit=9)
    assert {one.holder for one in left} == {page[1].holder, "UDID-3"}


async def test_only_long_histories_and_values_that_came_back_are_notable(
    storage: AnyStorage,
) -> None:
    """A closer look at any other would find nothing."""

    def generations(holder: int, *digests: int, **odd: Any) -> tuple[TokenRecord, ...]:
        made = (
            record(10 * holder + place, holder, TokenKind.UNLOCK, state=TokenState.SUPERSEDED)
            for place in range(len(digests))
        )
        said = zip(made, digests, strict=True)
        return tuple(replace(one, digest=digest(number), **odd) for one, number in said)

    await store(storage, records=generations(1, 1, 2, 3))
    await store(storage, records=generations(2, 1, 2, 3, 4))  # long
    await store(storage, records=generations(3, 1, 2, 1))  # came back
    await store(storage, records=generations(4, 1, 2, 1, relationship=None))
    other = generations(5, 1, 2, 1)
    await store(storage, records=(*other[:2], replace(other[2], relationship="another")))
    retired = generations(6, 1, 2, 1, state=TokenState.RETIRED)
    await store(storage, records=retired)
    page = await storage.retention.list_reviews(limit=9)
    notable = await storage.retention.find_notable(page, most=3)
    assert {one.holder for one in notable} == {"UDID-2", "UDID-3", "UDID-4"}
    later = [replace(one, first=2, last=2) for one in page if one.holder == "UDID-3"]
    assert await storage.retention.find_notable(later, most=3) == ()
    assert await storage.retention.find_notable((), most=3) == ()


async def test_settling_twice_forgets_nothing_that_was_written_since(storage: AnyStorage) -> None:
    """Two may look at the same page; the numbers of notes may begin anew once all are forgotten."""
    await store(storage, records=(record(1, 1, TokenKind.UNLOCK), record(2, 1, TokenKind.UNLOCK)))
    page = await storage.retention.list_reviews(limit=9)
    await storage.retention.settle_reviews(page, [], NOON)
    await store(storage, records=(record(3, 1, TokenKind.UNLOCK),))
    await storage.retention.settle_reviews(page, [], NOON)
    (again,) = await storage.retention.list_reviews(limit=9)
    assert (again.first, again.last) == (3, 3)


async def test_a_history_is_read_whatever_its_holder_is_called(storage: AnyStorage) -> None:
    holder = Holder("UDID\0\\1")
    odd = [replace(record(n, 1, TokenKind.UNLOCK), holder=holder) for n in (1, 2)]
    await store(storage, records=tuple(odd))
    (review,) = await storage.retention.list_reviews(limit=9)
    assert review.holder == holder
    assert len(await storage.retention.read_history(review, limit=9)) == 2


async def test_push_tokens_are_reviewed_sixteen_at_a_time(storage: AnyStorage) -> None:
    """They change often and unlock nothing, and each note would cost the message that brings one."""
    await store(storage, rows=(device(1),), records=tuple(record(n, 1) for n in range(1, 16)))
    assert await storage.retention.list_reviews(limit=9) == ()
    await store(storage, records=(record(16, 1),))
    (review,) = await storage.retention.list_reviews(limit=9)
    assert (review.kind, review.first, review.last) == (TokenKind.PUSH, 1, 16)
    await store(storage, records=tuple(record(n, 1) for n in range(17, 34)))
    (review,) = await storage.retention.list_reviews(limit=9)
    assert (review.first, review.last) == (1, 32)


async def test_a_place_is_remembered(storage: AnyStorage) -> None:
    assert await storage.retention.load_place("walk") == START
    for place in ("one", "two"):
        await storage.retention.save_place("walk", place)
        assert await storage.retention.load_place("walk") == place
    assert await storage.retention.take_turn(NOON, lease=timedelta(minutes=1))
    assert await storage.retention.take_turn(NOON, lease=timedelta(minutes=1))
