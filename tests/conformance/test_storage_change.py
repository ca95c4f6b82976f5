"""What a decision writes: each part of Change, all of it or none, on every engine."""

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from conformance.storage_twins import AnyStorage, show, store, store_as, visible_state
from conformance.storage_values import (
    NOON,
    after,
    audit,
    binding,
    by_certificate,
    channel,
    closed,
    command,
    device,
    escrow,
    fingerprint,
    key,
    pointer,
    record,
    record_id,
    sheet,
    user,
    uuid,
)
from ostiary.domain.command import CommandState
from ostiary.domain.decision import (
    Alert,
    Ask,
    ByKey,
    CancelCommands,
    Change,
    CommandMove,
    DisableUsers,
    Snapshot,
    Supersede,
    Wake,
)
from ostiary.domain.enrollment import Standing, State, UserSession
from ostiary.domain.token import (
    DEFAULT_TENANT,
    TenantId,
    TokenKind,
    TokenProof,
    TokenState,
    TokenStep,
)
from ostiary.errors import Conflicting, Refused
from ostiary.ports.reports import AlertLine


async def test_a_row_is_replaced_only_from_the_version_that_was_loaded(
    storage: AnyStorage,
) -> None:
    await store(storage, rows=(device(1),))
    await store(storage, rows=(device(1, version=1, awaiting=True),))
    with pytest.raises(Conflicting):
        await store(storage, rows=(device(1, version=1, awaiting=False),))
    shown = await show(storage, Ask(who=ByKey(key=key(1))))
    assert shown.device == device(1, awaiting=True, version=2)


async def test_a_new_row_does_not_replace_a_stored_one(storage: AnyStorage) -> None:
    await store(storage, rows=(device(1),))
    with pytest.raises(Conflicting):
        await store(storage, rows=(device(1, awaiting=True),))
    with pytest.raises(Conflicting):
        await store(storage, rows=(device(9, version=3),))
    assert list((await visible_state(storage))["enrollments"]) == [key(1)]


async def test_an_id_has_one_current_relationship_in_a_tenant(storage: AnyStorage) -> None:
    await store(storage, rows=(device(1),))
    with pytest.raises(Conflicting):
        await store(storage, rows=(device(2, id=device(1).id),))
    await store(storage, rows=(device(3, id=device(1).id, standing=Standing.CONTESTED),))


async def test_a_newcomer_becomes_current_as_the_old_one_ends(storage: AnyStorage) -> None:
    """In one change and in whatever order the rule names them."""
    old, new = device(1), device(2, id=device(1).id, standing=Standing.CONTESTED)
    await store(storage, rows=(old, new))
    await store(
        storage,
        rows=(
            replace(new, standing=Standing.CURRENT, version=1),
            replace(old, standing=Standing.ENDED, version=1),
        ),
    )
    standings = {
        one.key: one.standing for one in (await visible_state(storage))["enrollments"].values()
    }
    assert standings == {key(1): Standing.ENDED, key(2): Standing.CURRENT}


async def test_a_user_needs_a_device_and_has_one_channel_on_it(storage: AnyStorage) -> None:
    with pytest.raises(Conflicting):
        await store(storage, rows=(user(2, parent=1),))
    await store(storage, rows=(device(1), user(2, parent=1)))
    with pytest.raises(Conflicting):
        await store(storage, rows=(replace(user(2, parent=1), key=key(3)),))


async def test_last_seen_alone_is_noted_and_only_moves_forward(storage: AnyStorage) -> None:
    """An Idle's last-seen may be batched. (design.md 4)"""
    await store(storage, rows=(device(1),))
    ask = Ask(who=ByKey(key=key(1)))
    await store_as(storage, ask, seen=key(1), at=after(minutes=2))
    await store_as(storage, ask, seen=key(1), at=after(minutes=1))
    shown = await show(storage, ask)
    assert shown.device == device(1, last_seen_at=after(minutes=2), version=1)


async def test_a_row_written_from_an_older_copy_does_not_put_last_seen_back(
    storage: AnyStorage,
) -> None:
    await store(storage, rows=(device(1),))
    ask = Ask(who=ByKey(key=key(1)))
    await store_as(storage, ask, seen=key(1), at=after(minutes=2))
    await store(storage, rows=(device(1, version=1),))
    await store(storage, rows=(device(1, version=2, last_seen_at=after(minutes=1)),))
    shown = await show(storage, ask)
    assert shown.device == device(1, last_seen_at=after(minutes=2), version=3)
    await store_as(storage, ask, rows=(device(1, version=3),), seen=key(1), at=after(minutes=3))
    shown = await show(storage, ask)
    assert shown.device == device(1, last_seen_at=after(minutes=3), version=4)


async def test_bindings_are_inserted_or_replaced_by_fingerprint(storage: AnyStorage) -> None:
    await store(storage, rows=(device(1), device(2)), bind=(binding(1, to=1),))
    moved = binding(1, to=2, bound_at=after(hours=1))
    await store(storage, bind=(moved,))
    assert (await visible_state(storage))["bindings"] == {fingerprint(1): moved}


async def test_superseding_takes_every_binding_but_the_kept_one_and_their_identities(
    storage: AnyStorage,
) -> None:
    """A renewed-away certificate is refused by name, and its ledger record says why. (2.3)"""
    identities = tuple(
        record(30 + n, holder=1, kind=TokenKind.IDENTITY, fingerprint=fingerprint(n))
        for n in (1, 2, 3, 4)
    )
    gone = binding(3, to=1, superseded_at=after(minutes=1))
    await store(
        storage,
        rows=(device(1), device(2)),
        bind=(binding(1, to=1), binding(2, to=1), gone, binding(4, to=2)),
        records=(*identities, record(40, holder=1)),
        steps=(),
    )
    await store(storage, steps=(_step(33, TokenState.REVOKED),))
    supersede = Supersede(enrollment_key=key(1), keep=fingerprint(2), cause="Renewed.")
    await store(storage, supersede=(supersede,), at=after(hours=1))
    state = await visible_state(storage)
    at = {name: one.superseded_at for name, one in state["bindings"].items()}
    assert at == {
        fingerprint(1): after(hours=1),
        fingerprint(2): None,
        fingerprint(3): after(minutes=1),
        fingerprint(4): None,
    }
    states = {name: one.state for name, one in state["records"].items()}
    assert states == {
        record_id(31): TokenState.SUPERSEDED,
        record_id(32): TokenState.OK,
        record_id(33): TokenState.REVOKED,
        record_id(34): TokenState.OK,
        record_id(40): TokenState.OK,
    }
    superseded = state["records"][record_id(31)]
    assert (superseded.cause, superseded.changed_at) == ("Renewed.", after(hours=1))


async def test_superseding_without_a_kept_one_takes_all(storage: AnyStorage) -> None:
    await store(storage, rows=(device(1),), bind=(binding(1, to=1), binding(2, to=1)))
    await store(storage, supersede=(Supersede(enrollment_key=key(1), keep=None, cause="Left."),))
    bindings = (await visible_state(storage))["bindings"]
    assert all(one.superseded_at == NOON for one in bindings.values())


async def test_a_binding_made_in_the_same_change_is_not_superseded(storage: AnyStorage) -> None:
    """Parts apply in the order of the fields: supersede, then bind."""
    await store(storage, rows=(device(1),), bind=(binding(1, to=1),))
    supersede = Supersede(enrollment_key=key(1), keep=None, cause="Enrolled again.")
    await store(storage, supersede=(supersede,), bind=(binding(1, to=1),))
    assert (await visible_state(storage))["bindings"][fingerprint(1)].superseded_at is None


async def test_disabling_users_puts_them_out_and_drops_sessions_and_wakes(
    storage: AnyStorage,
) -> None:
    """(check-in-and-commands.md 2.3, 1.6)"""
    rows = (
        device(1),
        user(
            2,
            parent=1,
            session=UserSession(nonce="n"),
            push=pointer(102),
            push_dead_since=NOON,
            push_dead_reason="Unregistered",
        ),
        user(3, parent=1, state=State.OUT),
        device(4),
        user(5, parent=4, push=pointer(105)),
    )
    wakes = tuple(Wake(enrollment_key=key(n), due_at=NOON) for n in (1, 2, 5))
    records = tuple(record(100 + n, holder=n) for n in (2, 5))
    await store(storage, rows=rows, records=records, wakes=wakes)
    await store(storage, disable_users=(DisableUsers(device_key=key(1)),))
    state = await visible_state(storage)
    asked = UserSession()  # the AuthToken is dropped, the need for one is not
    assert state["enrollments"][key(2)] == user(
        2, parent=1, state=State.OUT, session=asked, version=2
    )
    assert state["enrollments"][key(3)] == user(3, parent=1, state=State.OUT, version=1)
    assert state["enrollments"][key(5)] == user(5, parent=4, push=pointer(105), version=1)
    assert state["records"][record_id(102)].state is TokenState.RETIRED
    assert state["records"][record_id(105)].state is TokenState.OK
    assert set(state["wakes"]) == {key(1), key(5)}


async def test_generations_count_from_one_for_each_tenant_holder_and_kind(
    storage: AnyStorage,
) -> None:
    other = TenantId("other")
    await store(storage, records=(record(1, holder=1), record(2, holder=1)))
    await store(
        storage,
        records=(
            record(3, holder=1),
            record(4, holder=2),
            record(5, holder=1, kind=TokenKind.UNLOCK),
            record(6, holder=1, tenant=other),
        ),
    )
    records = (await visible_state(storage))["records"]
    assert {name: one.generation for name, one in records.items()} == {
        record_id(1): 1,
        record_id(2): 2,
        record_id(3): 3,
        record_id(4): 1,
        record_id(5): 1,
        record_id(6): 1,
    }


async def test_a_record_whose_id_exists_is_left_as_it_is(storage: AnyStorage) -> None:
    await store(storage, records=(record(1, holder=1),))
    await store(storage, records=(record(1, holder=1, cause="Again."), record(2, holder=1)))
    records = (await visible_state(storage))["records"]
    assert records[record_id(1)] == record(1, holder=1, generation=1)
    assert records[record_id(2)].generation == 2


async def test_a_records_state_moves_and_its_proof_is_noted(storage: AnyStorage) -> None:
    """Stored is not proven. (design.md 2)"""
    await store(storage, records=(record(1, holder=1),))
    await store(storage, steps=(_step(1, TokenState.SUSPECT),), at=after(minutes=1))
    proof = TokenProof(record_id=record_id(1), proven_by="ClearPasscode")
    await store(storage, proofs=(proof,), at=after(minutes=2))
    assert (await visible_state(storage))["records"][record_id(1)] == record(
        1,
        holder=1,
        generation=1,
        state=TokenState.SUSPECT,
        cause="Because.",
        changed_at=after(minutes=1),
        proven_at=after(minutes=2),
        proven_by="ClearPasscode",
    )


async def test_the_same_alert_is_counted_not_repeated(storage: AnyStorage) -> None:
    first = Alert(tenant=DEFAULT_TENANT, subject="UDID-1", kind="contested", sentence="One.")
    again = replace(first, sentence="Two.")
    other = replace(first, kind="push-dead")
    await store(storage, alerts=(first,))
    await store(storage, alerts=(again, other), at=after(hours=1))
    assert (await visible_state(storage))["alerts"] == {
        (DEFAULT_TENANT, "UDID-1", "contested"): AlertLine(
            alert=again, count=2, first_at=NOON, last_at=after(hours=1)
        ),
        (DEFAULT_TENANT, "UDID-1", "push-dead"): AlertLine(
            alert=other, count=1, first_at=after(hours=1), last_at=after(hours=1)
        ),
    }


async def test_the_audit_is_a_chain_per_tenant(storage: AnyStorage) -> None:
    """Each hash covers the one before it, so nothing can be changed, dropped or put in between."""
    for verb, tenant in (("a", "default"), ("b", "other"), ("c", "default")):
        await store(storage, audit=audit(verb, tenant=tenant))
    chain = (await visible_state(storage))["audit"]
    first = _chained(bytes(32), "default", 1, "a")
    assert [digest for _, digest in chain] == [
        first,
        _chained(first, "default", 2, "c"),
        _chained(bytes(32), "other", 1, "b"),
    ]


def _chained(previous: bytes, tenant: str, number: int, verb: str) -> bytes:
    facts = [tenant, number, "2026-05-04T12:00:00.250001+00:00", "operator", verb]
    text = json.dumps([*facts, "UDID-1", "because"], separators=(",", ":"))
    return hashlib.sha256(previous + text.encode()).digest()


async def test_what_a_rule_raises_reaches_its_caller_and_stores_nothing(
    storage: AnyStorage,
) -> None:
    class NotToday(Refused):
        """Not today."""

    def refuse(_: Snapshot) -> Change[None]:
        raise NotToday

    await store(storage, rows=(device(1),))
    before = await visible_state(storage)
    with pytest.raises(NotToday):
        await storage.enrollments.decide(Ask(who=ByKey(key=key(1))), refuse)
    assert await visible_state(storage) == before


def _step(number: int, state: TokenState) -> TokenStep:
    return TokenStep(record_id=record_id(number), state=state, cause="Because.")


FITTING: dict[str, Any] = {
    "rows": (device(1, version=1, awaiting=True, push=pointer(12)), device(6)),
    "supersede": (Supersede(enrollment_key=key(1), keep=None, cause="Renewed."),),
    "bind": (binding(2, to=1),),
    "disable_users": (DisableUsers(device_key=key(1)),),
    "cancel": (CancelCommands(enrollment_key=key(2), users=False, cause="Left."),),
    "steps": (_step(11, TokenState.SUPERSEDED),),
    "records": (record(12, holder=1),),
    "proofs": (TokenProof(record_id=record_id(11), proven_by="push"),),
    "disclosures": (record_id(11),),
    "escrows": (escrow(1),),
    "facts": (sheet(1),),
    "close": (closed("one", of=1),),
    "lift_deferred": key(1),
    "moves": (
        CommandMove(uuid=uuid("two"), to=CommandState.SENT, sent_at=after(minutes=1), hand_outs=1),
    ),
    "enqueue": (command("new", to=1),),
    "wakes": (Wake(enrollment_key=key(1), due_at=NOON),),
    "drop_wakes": (key(3),),
    "alerts": (Alert(tenant=DEFAULT_TENANT, subject="UDID-1", kind="k", sentence="S."),),
    "audit": audit("done"),
}
"""A change with every part, on top of `_furnish`."""

MISFITS: dict[str, dict[str, Any]] = {
    "a stale row": {"rows": (*FITTING["rows"], device(2, version=7))},
    "a binding to nobody": {"bind": (binding(2, to=1), binding(3, to=99))},
    "a step of no record": {"steps": (*FITTING["steps"], _step(99, TokenState.DEAD))},
    "a proof of no record": {
        "proofs": (*FITTING["proofs"], TokenProof(record_id=record_id(99), proven_by="x"))
    },
    "a disclosure of no record": {"disclosures": (record_id(11), record_id(99))},
    "a sheet of nobody": {"facts": (sheet(1), sheet(99))},
    "an answer for nobody": {"close": (*FITTING["close"], closed("x", of=99))},
    "a move of no command": {
        "moves": (
            *FITTING["moves"],
            CommandMove(uuid=uuid("x"), to=CommandState.SENT, sent_at=NOON, hand_outs=1),
        )
    },
    "a command queued twice": {"enqueue": (command("new", to=1), command("new", to=1))},
    "a command for nobody": {"enqueue": (command("new", to=1), command("new", to=99))},
    "a wake for nobody": {"wakes": (*FITTING["wakes"], Wake(enrollment_key=key(99), due_at=NOON))},
}


async def _furnish(storage: AnyStorage) -> None:
    await store(
        storage,
        rows=(device(1), device(2), device(3), user(4, parent=1, session=UserSession())),
        bind=(binding(1, to=1),),
        records=(record(11, holder=1),),
        enqueue=(
            command("one", to=1),
            command("two", to=1),
            command("three", to=1, state=CommandState.DEFERRED),
            command("four", to=2),
        ),
        wakes=(Wake(enrollment_key=key(3), due_at=NOON), Wake(enrollment_key=key(4), due_at=NOON)),
    )


async def test_a_change_with_every_part_is_stored_entirely(storage: AnyStorage) -> None:
    await _furnish(storage)
    before = await visible_state(storage)
    await store_as(storage, Ask(who=by_certificate(1, channel(1))), **FITTING)
    now = await visible_state(storage)
    changed = {part for part, value in now.items() if value != before[part]}
    untouched = {"claimed", "credentials", "invitations", "challenges"}
    assert changed == set(now) - untouched


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)
async def test_one_part_that_does_not_fit_keeps_all_others_out(
    storage: AnyStorage, misfit: dict[str, Any]
) -> None:
    """All or nothing. (style.md principle 6)"""
    await _furnish(storage)
    before = await visible_state(storage)
    with pytest.raises(Conflicting):
        await store_as(storage, Ask(who=by_certificate(1, channel(1))), **{**FITTING, **misfit})
    assert await visible_state(storage) == before
    await store_as(storage, Ask(who=by_certificate(1, channel(1))), **FITTING)


async def test_one_rule_may_be_asked_by_many_at_once(storage: AnyStorage) -> None:
    """Every decision sees the ones before it; none is lost. (CQ-15 rests on this)"""
    await store(storage, rows=(device(1),))

    def count(snapshot: Snapshot) -> Change[int]:
        row = snapshot.device
        assert row is not None
        counted = replace(row, token_updates=row.token_updates + 1)
        return Change(at=NOON, answer=counted.token_updates, rows=(counted,))

    ask = Ask(who=ByKey(key=key(1)))
    changes = await asyncio.gather(*(storage.enrollments.decide(ask, count) for _ in range(50)))
    answers = [change.answer for change in changes]
    assert sorted(answers) == list(range(1, 51))
