"""Where escrowed secrets stand, as every engine stores, shows and hands them out. (escrowed-secrets.md 4.0)"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conformance.storage_twins import AnyStorage, show, store, store_as, visible_state
from conformance.storage_values import (
    NOON,
    after,
    binding,
    by_certificate,
    channel,
    command,
    device,
    digest,
    escrow,
    key,
    record,
    record_id,
    sheet,
    udid,
    user,
    uuid,
)
from ostiary.domain.decision import Ask, ByKey, ByName, EscrowView, QueueView
from ostiary.domain.enrollment import Standing, State
from ostiary.domain.escrow import EscrowState
from ostiary.domain.facts import SheetName
from ostiary.domain.token import DEFAULT_TENANT, Holder, TenantId, TokenKind
from ostiary.errors import Conflicting
from ostiary.ports.escrow import MOST_RECORDS

LOCK, PIN = TokenKind.RECOVERY_LOCK, TokenKind.LOCK_PIN
FULL = escrow(
    1,
    state=EscrowState.IN_FLIGHT,
    since=after(seconds=1),
    current=record_id(1),
    digest=digest(1),
    candidate=record_id(2),
    set_uuid=uuid("set\x00"),
    verify_uuid=uuid("verify"),
    trouble="it said: \x00 \ufdd0",
    unclear=2,
    due_at=after(days=7),
)
STRANGE = {
    "a\x00b": "\x00 \ud800 \ufdd0 é \U0001f511",
    "list": [1, -(2**63), 2**64 - 1, 0.1, None, True, {"deep": ["x"]}],
    "empty": {},
}


@pytest.fixture
async def mac(storage: AnyStorage) -> AnyStorage:
    """A storage with device 1, its user 2, and device 3."""
    rows = (device(1), user(2, parent=1), device(3))
    await store(storage, rows=rows, bind=(binding(1, to=1), binding(3, to=3)))
    return storage


def ask(view: EscrowView = EscrowView.ALWAYS, of: int = 1, **changes: Any) -> Ask:
    return Ask(**{"who": ByKey(key=key(of)), "escrows": view, **changes})


def holders(*numbers: int) -> list[Holder]:
    return [Holder(udid(number)) for number in numbers]


async def test_an_escrow_comes_back_as_it_was_stored(mac: AnyStorage) -> None:
    await store(mac, escrows=(FULL,))
    assert (await show(mac, ask())).escrows == (FULL,)
    assert (await show(mac, ask())).escrow(LOCK) == FULL


async def test_an_escrow_is_replaced_whole_by_holder_and_kind(mac: AnyStorage) -> None:
    others = (escrow(1, PIN), escrow(3), escrow(1, tenant=TenantId("other")))
    await store(mac, escrows=(FULL, *others))
    settled = escrow(1, current=record_id(2))
    await store(mac, escrows=(settled,))
    held = (await visible_state(mac))["escrows"]
    assert sorted(held.values(), key=repr) == sorted((settled, *others), key=repr)


async def test_escrows_are_shown_by_kind(mac: AnyStorage) -> None:
    kinds = [*TokenKind]
    await store(mac, escrows=tuple(escrow(1, kind) for kind in kinds))
    shown = (await show(mac, ask())).escrows
    assert [one.kind for one in shown] == sorted(kinds)


@pytest.mark.parametrize(
    "who",
    [
        ByKey(key=key(1)),
        ByKey(key=key(2)),
        ByName(tenant=DEFAULT_TENANT, enrollment_id=udid(1)),
        by_certificate(1, channel(1)),
        by_certificate(1, channel(1, user_number=2)),
    ],
    ids=["key", "user's key", "name", "certificate", "user's certificate"],
)
async def test_the_device_is_meant_whoever_speaks(mac: AnyStorage, who: Any) -> None:
    """Secrets are the device's; a user's channel is told of the same."""
    await store(mac, escrows=(FULL, escrow(3)), facts=(sheet(1), sheet(3)))
    shown = await show(mac, Ask(who=who, escrows=EscrowView.ALWAYS, facts=True))
    assert shown.escrows == (FULL,)
    assert shown.facts == (sheet(1),)


async def test_whoever_is_nobody_is_shown_nothing(mac: AnyStorage) -> None:
    shown = await show(mac, ask(of=99, facts=True))
    assert (shown.escrows, shown.facts) == ((), ())


async def test_a_new_certificate_sees_the_escrows_of_the_device_it_claims_to_be(
    mac: AnyStorage,
) -> None:
    """It may be about to take the relationship over, and the changes under way end with it. (4.13, column E)"""
    await store(mac, escrows=(FULL, escrow(3)), facts=(sheet(1),))
    newcomer = by_certificate(9, channel(1))
    shown = await show(
        mac, Ask(who=newcomer, relationships=True, escrows=EscrowView.ALWAYS, facts=True)
    )
    assert shown.device is None
    assert shown.escrows == (FULL,)
    assert shown.facts == ()


async def test_who_does_not_ask_is_not_shown(mac: AnyStorage) -> None:
    await store(mac, escrows=(FULL,), facts=(sheet(1),))
    shown = await show(mac, ask(EscrowView.NONE))
    assert (shown.escrows, shown.facts) == ((), ())


async def test_an_enrolled_device_needs_no_escrows_while_enrolling(mac: AnyStorage) -> None:
    await store(mac, escrows=(FULL,))
    assert (await show(mac, ask(EscrowView.WHILE_ENROLLING))).escrows == ()
    await store(mac, rows=(device(1, version=1, state=State.PENDING),))
    assert (await show(mac, ask(EscrowView.WHILE_ENROLLING))).escrows == (FULL,)


@pytest.mark.parametrize(
    ("request_type", "reported", "queue", "is_shown"),
    [
        ("SetRecoveryLock", None, QueueView.WHOLE, True),
        ("SetRecoveryLock", "one", QueueView.NONE, True),
        ("SecurityInfo", "one", QueueView.NONE, True),
        ("SetRecoveryLock", None, QueueView.NONE, False),
        ("DeviceInformation", "one", QueueView.WHOLE, False),
    ],
)
async def test_escrows_come_with_the_commands_that_concern_them(
    mac: AnyStorage, request_type: str, reported: str | None, queue: QueueView, is_shown: bool
) -> None:
    queued = command("one", to=1, request_type=request_type)
    await store(mac, escrows=(FULL,), enqueue=(queued,))
    name = None if reported is None else uuid(reported)
    shown = await show(mac, ask(EscrowView.WITH_COMMANDS, queue=queue, reported=name))
    assert shown.escrows == ((FULL,) if is_shown else ())


async def test_a_contested_relationship_sees_the_escrows_of_the_device_id(mac: AnyStorage) -> None:
    """The rule decides what it may do with them; storage only says where they stand."""
    rival = device(4, id=device(1).id, standing=Standing.CONTESTED)
    await store(mac, rows=(rival,), bind=(binding(4, to=4),), escrows=(FULL,))
    shown = await show(mac, Ask(who=by_certificate(4, channel(1)), escrows=EscrowView.ALWAYS))
    assert shown.escrows == (FULL,)
    assert shown.relationships


async def test_a_contested_relationship_is_shown_them_without_being_asked(mac: AnyStorage) -> None:
    """Any message of either side may settle the contest, and then the secrets change sides."""
    await store(mac, rows=(device(5, standing=Standing.CONTESTED),), bind=(binding(5, to=5),))
    of_five = escrow(5)
    await store(mac, escrows=(of_five,))
    for who in (by_certificate(5, channel(5)), ByKey(key=key(5))):
        assert (await show(mac, Ask(who=who))).escrows == (of_five,)


async def test_a_sheet_comes_back_as_it_was_reported(mac: AnyStorage) -> None:
    """Whatever characters and numbers a device writes."""
    strange = sheet(1, facts=STRANGE)
    await store(mac, facts=(strange,))
    (shown,) = (await show(mac, ask(EscrowView.NONE, facts=True))).facts
    assert shown == strange


async def test_a_sheet_is_replaced_by_the_next_of_its_name(mac: AnyStorage) -> None:
    first = tuple(sheet(1, name) for name in reversed(SheetName))
    await store(mac, facts=(*first, sheet(3)))
    again = sheet(1, SheetName.USERS, facts={"Users": []}, reported_at=after(days=1))
    await store_as(mac, ask(), facts=(again,))
    shown = (await show(mac, ask(facts=True))).facts
    by_name = {**{one.name: one for one in first}, SheetName.USERS: again}
    assert shown == tuple(by_name[name] for name in sorted(SheetName))


async def test_a_users_channel_may_bring_the_devices_sheet(mac: AnyStorage) -> None:
    await store_as(mac, ask(of=2), facts=(sheet(1),))
    assert (await show(mac, ask(facts=True))).facts == (sheet(1),)


async def test_a_sheet_of_no_relationship_fits_nowhere(mac: AnyStorage) -> None:
    with pytest.raises(Conflicting):
        await store(mac, facts=(sheet(99),), escrows=(FULL,))
    assert (await visible_state(mac))["escrows"] == {}


async def test_a_disclosure_is_noted_at_the_record(mac: AnyStorage) -> None:
    held = record(1, 1, LOCK)
    await store(mac, records=(held, record(2, 1, LOCK)))
    assert (await visible_state(mac))["records"][record_id(2)].disclosed_at is None
    await store(mac, at=after(hours=1), disclosures=(record_id(1),))
    shown = await mac.enrollments.load_record(record_id(1))
    assert shown == replace(held, generation=1, disclosed_at=after(hours=1))


async def test_a_record_that_is_not_there_is_shown_to_nobody(mac: AnyStorage) -> None:
    with pytest.raises(Conflicting):
        await store(mac, disclosures=(record_id(1),))


async def test_a_generation_and_what_points_to_it_are_stored_together(mac: AnyStorage) -> None:
    """All of it or nothing: a candidate without its value would be a lock without a key."""
    whole = {
        "records": (record(1, 1, LOCK),),
        "disclosures": (record_id(1),),
        "escrows": (escrow(1, candidate=record_id(1)),),
        "facts": (sheet(1),),
        "enqueue": (command("set", to=1),),
    }
    with pytest.raises(Conflicting):
        await store_as(mac, ask(), **whole, rows=(device(1, version=7),))
    state = await visible_state(mac)
    parts = ("records", "escrows", "sheets", "commands")
    assert not any(state[part] for part in parts)
    await store_as(mac, ask(), **whole)
    state = await visible_state(mac)
    assert state["records"][record_id(1)].disclosed_at == NOON
    assert all(state[part] for part in parts)


async def test_what_is_due_is_claimed_oldest_first_and_once(mac: AnyStorage) -> None:
    later = [escrow(n, due_at=after(minutes=-n)) for n in range(1, 8)]
    idle = (escrow(20), escrow(21, due_at=after(minutes=1)))
    await store(mac, escrows=(*later, *idle))
    lease = timedelta(minutes=5)
    first = await mac.escrows.claim_due(NOON, limit=4, lease=lease)
    assert [one.holder for one in first] == holders(7, 6, 5, 4)
    assert [one.due_at for one in first] == [after(minutes=-n) for n in (7, 6, 5, 4)]
    second = await mac.escrows.claim_due(NOON, limit=4, lease=lease)
    assert [one.holder for one in second] == holders(3, 2, 1)
    assert await mac.escrows.claim_due(NOON, limit=4, lease=lease) == ()
    again = await mac.escrows.claim_due(after(minutes=5), limit=100, lease=lease)
    assert len(again) == 8
    untouched = (await visible_state(mac))["escrows"]
    assert untouched[DEFAULT_TENANT, Holder(udid(20)), LOCK] == idle[0]


async def test_a_claim_changes_nothing_but_when_it_is_due(mac: AnyStorage) -> None:
    await store(mac, escrows=(FULL,))
    (claimed,) = await mac.escrows.claim_due(after(days=7), limit=1, lease=timedelta(minutes=5))
    assert claimed == FULL
    (stored,) = (await visible_state(mac))["escrows"].values()
    assert stored == replace(FULL, due_at=after(days=7, minutes=5))


async def test_every_generation_is_given_with_its_value_newest_first(mac: AnyStorage) -> None:
    """History is kept and can be revealed. (4.0.3)"""
    ours = [record(n, 1, LOCK) for n in range(1, 4)]
    await store(mac, records=(*ours, record(8, 1, PIN), record(9, 3, LOCK)))
    found = await mac.escrows.records_of(DEFAULT_TENANT, Holder(udid(1)), LOCK)
    assert [one.id for one in found] == [record_id(3), record_id(2), record_id(1)]
    assert [one.value for one in found] == [one.value for one in reversed(ours)]
    assert not await mac.escrows.records_of(TenantId("other"), Holder(udid(1)), LOCK)


async def test_of_very_many_generations_the_newest_are_given(mac: AnyStorage) -> None:
    await store(mac, records=tuple(record(n, 1, LOCK) for n in range(1, MOST_RECORDS + 6)))
    found = await mac.escrows.records_of(DEFAULT_TENANT, Holder(udid(1)), LOCK)
    assert [one.generation for one in found] == list(range(MOST_RECORDS + 5, 5, -1))


async def test_where_a_devices_secrets_stand_is_found_by_its_name(mac: AnyStorage) -> None:
    await store(mac, escrows=(FULL, escrow(1, PIN), escrow(3)))
    assert await mac.escrows.find(DEFAULT_TENANT, Holder(udid(1))) == (escrow(1, PIN), FULL)
    assert await mac.escrows.find(TenantId("other"), Holder(udid(1))) == ()
