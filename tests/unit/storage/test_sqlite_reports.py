"""Lists and counts: sorted by a stable key, bounded, and going on where they stopped."""

import asyncio
from dataclasses import replace

import pytest

from conformance.storage_twins import store, store_as
from conformance.storage_values import (
    NOON,
    after,
    binding,
    closed,
    command,
    device,
    fingerprint,
    key,
    pointer,
    record,
    record_id,
    udid,
    user,
    uuid,
)
from ostiary.domain.command import CommandState
from ostiary.domain.decision import Alert, Ask, ByKey, CommandMove, Wake
from ostiary.domain.enrollment import Standing, State
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Holder,
    TenantId,
    TokenKind,
    TokenState,
    TokenStep,
)
from ostiary.ports.reports import AlertLine, CommandLine, Counts
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.sqlite.storage import SqliteStorage

OTHER = TenantId("other")


async def test_enrollments_are_listed_page_by_page(sqlite: SqliteStorage) -> None:
    rows = (
        device(3),
        device(1),
        user(2, parent=1),
        device(4, id=udid(1), standing=Standing.ENDED),
        device(5, tenant=OTHER),
        device(6, id=EnrollmentId("a/b")),
    )
    await store(sqlite, rows=rows)
    pages = []
    after_row = None
    while page := await sqlite.reports.list_enrollments(
        DEFAULT_TENANT, state=None, limit=2, after=after_row
    ):
        pages.append([row.key for row in page])
        after_row = f"{page[-1].id}/{page[-1].key}"
    assert pages == [[key(1), key(4)], [key(2), key(3)], [key(6)]]


async def test_enrollments_are_listed_by_state(sqlite: SqliteStorage) -> None:
    await store(sqlite, rows=(device(1), device(2, state=State.OUT)))
    listed = await sqlite.reports.list_enrollments(DEFAULT_TENANT, state="out", limit=9, after=None)
    assert listed == (device(2, state=State.OUT, version=1),)


async def test_a_device_is_found_with_its_relationships_and_users_current_first(
    sqlite: SqliteStorage,
) -> None:
    ended = device(1, standing=Standing.ENDED, created_at=after(days=-9))
    contested = device(3, id=udid(1), standing=Standing.CONTESTED, created_at=after(days=1))
    rows = (
        ended,
        user(11, parent=1),
        device(2, id=udid(1)),
        user(22, parent=2, id=EnrollmentId("UDID-1:b")),
        user(21, parent=2, id=EnrollmentId("UDID-1:a")),
        contested,
        device(9),
    )
    await store(sqlite, rows=rows)
    found = await sqlite.reports.find_enrollments(DEFAULT_TENANT, udid(1))
    assert [row.key for row in found] == [key(n) for n in (2, 21, 22, 3, 1, 11)]
    found = await sqlite.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId("UDID-1:a"))
    assert [row.key for row in found] == [key(21)]
    assert await sqlite.reports.find_enrollments(OTHER, udid(1)) == ()


async def test_bindings_are_listed_those_in_force_first(sqlite: SqliteStorage) -> None:
    old = binding(1, to=1, superseded_at=NOON)
    new = binding(2, to=1, bound_at=after(days=1))
    contested = binding(3, to=2)
    rows = (device(1), device(2, id=udid(1), standing=Standing.CONTESTED), device(3))
    await store(sqlite, rows=rows, bind=(old, new, contested, binding(4, to=3)))
    listed = await sqlite.reports.list_bindings(DEFAULT_TENANT, udid(1))
    assert listed == (new, contested, old)


async def test_commands_are_listed_live_ones_by_turn_then_closed_ones_newest_first(
    sqlite: SqliteStorage,
) -> None:
    await store(sqlite, rows=(device(1), device(2)))
    names = ("one", "two", "three", "four")
    await store(sqlite, enqueue=tuple(command(name, to=1) for name in names))
    await store(sqlite, enqueue=(command("other's", to=2),))
    sent = CommandMove(uuid=uuid("two"), to="sent", sent_at=after(minutes=1), hand_outs=2)
    await store_as(sqlite, Ask(who=ByKey(key=key(1))), moves=(sent,))
    failed = closed("three", of=1, state=CommandState.FAILED, result='{"why": "no"}')
    await store(sqlite, close=(failed,))
    await store(sqlite, close=(closed("four", of=1),))
    listed = await sqlite.reports.list_commands(DEFAULT_TENANT, udid(1), live_only=False, limit=9)
    assert [line.uuid for line in listed] == ["two", "one", "four", "three"]
    live = CommandLine(
        uuid="two",
        enrollment_id=udid(1),
        request_type="DeviceInformation",
        state="sent",
        queued_at=NOON,
        sent_at=after(minutes=1),
        closed_at=None,
        hand_outs=2,
        source="operator",
        result=None,
    )
    assert listed[0] == live
    assert listed[3] == replace(
        live,
        uuid="three",
        state="failed",
        sent_at=None,
        closed_at=after(minutes=1),
        hand_outs=1,
        result='{"why": "no"}',
    )


@pytest.mark.parametrize(
    ("live_only", "limit", "expected"),
    [
        (True, 9, ["one", "two"]),
        (False, 9, ["one", "two", "four", "three"]),
        (False, 3, ["one", "two", "four"]),
        (False, 1, ["one"]),
    ],
)
async def test_commands_of_all_channels_are_listed_within_the_limit(
    sqlite: SqliteStorage, live_only: bool, limit: int, expected: list[str]
) -> None:
    await store(sqlite, rows=(device(1), device(2), device(3, tenant=OTHER)))
    places = (("one", 1), ("two", 2), ("three", 1), ("four", 2), ("theirs", 3))
    await store(sqlite, enqueue=tuple(command(name, to=to) for name, to in places))
    await store(sqlite, close=(closed("three", of=1), closed("four", of=2)))
    listed = await sqlite.reports.list_commands(
        DEFAULT_TENANT, None, live_only=live_only, limit=limit
    )
    assert [line.uuid for line in listed] == expected


async def test_tokens_are_listed_without_values_by_kind_and_currency(
    sqlite: SqliteStorage,
) -> None:
    records = (
        record(3, holder=1),
        record(1, holder=1),
        record(2, holder=2, kind=TokenKind.BOOTSTRAP),
        record(4, holder=2, tenant=OTHER),
        record(5, holder=2),
    )
    await store(sqlite, records=records)
    steps = tuple(
        TokenStep(record_id=record_id(number), state=state, cause="Because.")
        for number, state in ((1, TokenState.SUPERSEDED), (3, TokenState.DEAD))
    )
    await store(sqlite, steps=steps)

    async def listed(
        kind: TokenKind | None = None, *, current_only: bool = False, after: str | None = None
    ) -> list[str]:
        found = await sqlite.reports.list_tokens(
            DEFAULT_TENANT, kind=kind, current_only=current_only, limit=2, after=after
        )
        assert all(one.value == b"" for one in found)
        return [one.id for one in found]

    assert await listed() == [record_id(1), record_id(2)]
    assert await listed(after=record_id(2)) == [record_id(3), record_id(5)]
    assert await listed(current_only=True) == [record_id(2), record_id(3)]
    assert await listed(TokenKind.PUSH) == [record_id(1), record_id(3)]
    assert await listed(TokenKind.PUSH, current_only=True) == [record_id(3), record_id(5)]
    assert await listed(TokenKind.PUSH, after=record_id(3)) == [record_id(5)]
    await store(sqlite, records=(record(6, holder=1, kind=TokenKind.API_TOKEN),))
    assert await listed(TokenKind.API_TOKEN, current_only=True) == [record_id(6)]
    assert await listed(TokenKind.API_TOKEN, after=record_id(6)) == []


async def test_a_holders_history_tells_every_generation_users_included(
    sqlite: SqliteStorage,
) -> None:
    records = (
        record(1, holder=1),
        record(2, holder=1, kind=TokenKind.UNLOCK),
        record(3, holder=1),
        replace(record(4, holder=1), holder=Holder("UDID-1:user")),
        record(5, holder=11),
        record(6, holder=1, tenant=OTHER),
    )
    await store(sqlite, records=records)
    history = await sqlite.reports.token_history(DEFAULT_TENANT, Holder(udid(1)))
    assert [(one.id, one.generation) for one in history] == [
        (record_id(1), 1),
        (record_id(3), 2),
        (record_id(2), 1),
        (record_id(4), 1),
    ]
    assert history[0] == record(1, holder=1, generation=1, value=b"")


async def test_alerts_are_listed_latest_first(sqlite: SqliteStorage) -> None:
    alerts = [
        Alert(tenant=tenant, subject=subject, kind="contested", sentence="Look.")
        for tenant, subject in ((DEFAULT_TENANT, "a"), (DEFAULT_TENANT, "b"), (OTHER, "c"))
    ]
    await store(sqlite, alerts=tuple(alerts))
    await store(sqlite, alerts=(alerts[0],), at=after(hours=1))
    listed = await sqlite.reports.list_alerts(DEFAULT_TENANT, limit=5)
    assert listed == (
        AlertLine(alert=alerts[0], count=2, first_at=NOON, last_at=after(hours=1)),
        AlertLine(alert=alerts[1], count=1, first_at=NOON, last_at=NOON),
    )
    assert await sqlite.reports.list_alerts(DEFAULT_TENANT, limit=1) == listed[:1]


async def test_counts_tell_what_there_is(sqlite: SqliteStorage) -> None:
    empty = Counts(enrollments={}, live_commands=0, wakes=0, push_dead=0, alerts=0, tokens={})
    assert await sqlite.reports.count() == empty
    rows = (device(1), device(2, push=pointer(1), push_dead_since=NOON), user(3, parent=1))
    await store(
        sqlite,
        rows=rows,
        records=(record(1, holder=2), record(2, holder=1, kind=TokenKind.BOOTSTRAP)),
        enqueue=(command("one", to=1),),
        wakes=(Wake(enrollment_key=key(1), due_at=NOON),),
        alerts=(Alert(tenant=DEFAULT_TENANT, subject="a", kind="k", sentence="S."),),
    )
    assert await sqlite.reports.count() == Counts(
        enrollments={("Device", "enrolled"): 2, ("User", "enrolled"): 1},
        live_commands=1,
        wakes=1,
        push_dead=1,
        alerts=1,
        tokens={("push", "ok"): 1, ("bootstrap", "ok"): 1},
    )
    await store(sqlite, records=(record(1, holder=2), record(3, holder=2)))
    step = TokenStep(record_id=record_id(1), state=TokenState.SUPERSEDED, cause="New.")
    await store(sqlite, steps=(step, step))
    assert (await sqlite.reports.count()).tokens == {
        ("push", "superseded"): 1,
        ("push", "ok"): 1,
        ("bootstrap", "ok"): 1,
    }


async def test_many_reports_at_once_share_a_few_connections(sqlite: SqliteStorage) -> None:
    await store(sqlite, rows=(device(1),), bind=(binding(1, to=1),))
    counted = await asyncio.gather(*(sqlite.reports.count() for _ in range(20)))
    assert {sum(one.enrollments.values()) for one in counted} == {1}
    bound = await sqlite.reports.list_bindings(DEFAULT_TENANT, udid(1))
    assert [one.fingerprint for one in bound] == [fingerprint(1)]
