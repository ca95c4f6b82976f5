"""What a decision is shown: each field of Ask, on every engine."""

from dataclasses import replace

from conformance.storage_twins import AnyStorage, show, store, store_as
from conformance.storage_values import (
    NOON,
    TOPIC,
    after,
    audit,
    binding,
    by_certificate,
    channel,
    credential,
    device,
    key,
    pointer,
    push_certificate,
    record,
    udid,
    user,
)
from ostiary.domain.decision import Ask, ByKey, ByName, Change, Snapshot, Wake
from ostiary.domain.enrollment import Proof, Standing, State, UserSession
from ostiary.domain.token import DEFAULT_TENANT, Fingerprint, KeyedDigest, TenantId, TokenKind
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType


async def test_an_empty_storage_shows_nothing(storage: AnyStorage) -> None:
    for who in (
        by_certificate(1, channel(1)),
        by_certificate(1),
        ByName(tenant=DEFAULT_TENANT, enrollment_id=udid(1)),
        ByKey(key=key(1)),
    ):
        assert await show(storage, Ask(who=who)) == Snapshot()


async def test_every_column_comes_back_as_it_went(storage: AnyStorage) -> None:
    row = device(
        1,
        type=EnrollmentType.USER_ENROLLMENT_DEVICE,
        state=State.RENEWING,
        proof=Proof.FIRST_USE,
        facts=DeviceFacts(
            serial_number="S",
            device_name="Zoë’s iPad \x00 \U0001f511",
            model="M",
            model_name="N",
            product_name="P",
            os_version="1",
            build_version="B",
        ),
        enrolled_at=after(seconds=1),
        last_seen_at=after(seconds=2),
        released_at=after(seconds=3),
        contested_at=after(seconds=4),
        push=pointer(11, arrived_at=after(seconds=5)),
        push_dead_since=after(seconds=6),
        push_dead_reason="Unregistered",
        pushed_at=after(seconds=7),
        unlock=pointer(12),
        bootstrap=pointer(13),
        awaiting=True,
        came_erased=True,
        not_on_console=False,
        user_short_name="short",
        user_long_name="",
        profile=None,
        session=UserSession(nonce="n", auth_token=KeyedDigest(b"t")),
        accepted_fingerprint=Fingerprint("f" * 64),
        token_updates=7,
    )
    await store(storage, rows=(row,))
    shown = await show(storage, Ask(who=ByKey(key=row.key)))
    assert shown.device == replace(row, version=1)


async def test_an_empty_session_is_not_no_session(storage: AnyStorage) -> None:
    await store(storage, rows=(device(1, session=UserSession()), device(2, session=None)))
    assert (await show(storage, Ask(who=ByKey(key=key(1))))).device == device(
        1, session=UserSession(), version=1
    )
    assert (await show(storage, Ask(who=ByKey(key=key(2))))).device == device(2, version=1)


async def test_a_certificate_speaks_for_the_relationship_that_it_is_bound_to(
    storage: AnyStorage,
) -> None:
    """The binding decides, not the claim. (check-in-and-commands.md 3.8)"""
    await store(storage, rows=(device(1), device(2)), bind=(binding(1, to=1), binding(2, to=2)))
    shown = await show(storage, Ask(who=by_certificate(1, channel(2))))
    assert shown.binding == binding(1, to=1)
    assert shown.device == shown.channel == device(1, version=1)
    assert shown.relationships == ()


async def test_a_message_without_a_channel_means_the_certificates_device(
    storage: AnyStorage,
) -> None:
    await store(storage, rows=(device(1), user(2, parent=1)), bind=(binding(1, to=1),))
    shown = await show(storage, Ask(who=by_certificate(1)))
    assert shown.device == shown.channel == device(1, version=1)


async def test_a_user_speaks_through_the_devices_certificate(storage: AnyStorage) -> None:
    await store(storage, rows=(user(2, parent=1), device(1)), bind=(binding(1, to=1),))
    shown = await show(storage, Ask(who=by_certificate(1, channel(1, user_number=2))))
    assert shown.device == device(1, version=1)
    assert shown.channel == user(2, parent=1, version=1)
    unknown = await show(storage, Ask(who=by_certificate(1, channel(1, user_number=9))))
    assert unknown.device == device(1, version=1)
    assert unknown.channel is None


async def test_a_superseded_binding_is_still_shown(storage: AnyStorage) -> None:
    """So that a renewed-away certificate can be refused by name. (3.8)"""
    old = binding(1, to=1, superseded_at=after(hours=1))
    await store(storage, rows=(device(1),), bind=(old,))
    shown = await show(storage, Ask(who=by_certificate(1, channel(1))))
    assert shown.binding == old
    assert shown.device is not None


async def test_an_unbound_certificate_sees_who_else_claims_the_id(storage: AnyStorage) -> None:
    """Current first; an ended relationship is nobody's rival. (2.3)"""
    newcomer = device(2, id=udid(1), standing=Standing.CONTESTED, created_at=after(hours=1))
    later = device(4, id=udid(1), standing=Standing.CONTESTED, created_at=after(hours=2))
    ended = device(3, id=udid(1), standing=Standing.ENDED)
    await store(storage, rows=(later, newcomer, ended, device(1)), bind=(binding(1, to=1),))
    issued = credential(9)
    await storage.challenges.add_credential(issued, b"der")
    shown = await show(storage, Ask(who=by_certificate(9, channel(1))))
    assert (shown.binding, shown.device, shown.channel) == (None, None, None)
    assert [row.key for row in shown.relationships] == [key(1), key(2), key(4)]
    assert shown.current_has_binding
    assert shown.credential == issued


async def test_a_binding_that_was_superseded_is_not_in_force(storage: AnyStorage) -> None:
    old = binding(1, to=1, superseded_at=after(hours=1))
    contested = device(2, id=udid(1), standing=Standing.CONTESTED)
    await store(storage, rows=(device(1), contested), bind=(old, binding(2, to=2)))
    shown = await show(storage, Ask(who=by_certificate(9, channel(1))))
    assert not shown.current_has_binding


async def test_a_contested_certificate_always_sees_its_rival(storage: AnyStorage) -> None:
    contested = device(2, id=udid(1), standing=Standing.CONTESTED)
    await store(storage, rows=(device(1), contested), bind=(binding(1, to=1), binding(2, to=2)))
    shown = await show(storage, Ask(who=by_certificate(2, channel(1))))
    assert [row.key for row in shown.relationships] == [key(1), key(2)]
    plain = await show(storage, Ask(who=by_certificate(1, channel(1))))
    assert plain.relationships == ()
    asked = await show(storage, Ask(who=by_certificate(1, channel(1)), relationships=True))
    assert [row.key for row in asked.relationships] == [key(1), key(2)]


async def test_another_tenants_device_of_the_same_id_is_not_shown(storage: AnyStorage) -> None:
    """Keys are (tenant, id). (design.md 3)"""
    await store(storage, rows=(device(1), device(2, id=udid(1), tenant=TenantId("other"))))
    shown = await show(storage, Ask(who=by_certificate(9, channel(1), tenant="other")))
    assert [row.key for row in shown.relationships] == [key(2)]
    named = await show(storage, Ask(who=ByName(tenant=TenantId("other"), enrollment_id=udid(1))))
    assert named.device == device(2, id=udid(1), tenant=TenantId("other"), version=1)


async def test_a_bound_certificates_tenant_is_its_bindings(storage: AnyStorage) -> None:
    other = TenantId("other")
    rows = (device(1), device(2, id=udid(1), tenant=other))
    await store(storage, rows=rows, bind=(binding(2, to=2, tenant=other),))
    shown = await show(storage, Ask(who=by_certificate(2, channel(1)), relationships=True))
    assert [row.key for row in shown.relationships] == [key(2)]


async def test_a_name_means_the_current_relationship(storage: AnyStorage) -> None:
    ended = device(1, id=udid(7), standing=Standing.ENDED)
    contested = device(3, id=udid(7), standing=Standing.CONTESTED)
    await store(storage, rows=(ended, device(2, id=udid(7)), contested))
    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=udid(7))
    shown = await show(storage, Ask(who=who, relationships=True))
    assert shown.device is not None
    assert shown.device.key == key(2)
    assert shown.binding is None
    assert [row.key for row in shown.relationships] == [key(2), key(3)]


async def test_a_contest_without_a_current_side_is_found_by_name(storage: AnyStorage) -> None:
    contested = device(3, id=udid(7), standing=Standing.CONTESTED)
    await store(storage, rows=(contested,))
    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=udid(7))
    shown = await show(storage, Ask(who=who, relationships=True))
    assert shown.device is None
    assert [row.key for row in shown.relationships] == [key(3)]
    assert not shown.current_has_binding


async def test_a_users_name_means_the_one_on_the_current_device(storage: AnyStorage) -> None:
    name = EnrollmentId("UDID-1:user")
    ended = device(1, id=udid(1), standing=Standing.ENDED)
    current = device(2, id=udid(1))
    rows = (ended, current, user(3, parent=1, id=name), user(4, parent=2, id=name))
    await store(storage, rows=rows)
    shown = await show(storage, Ask(who=ByName(tenant=DEFAULT_TENANT, enrollment_id=name)))
    assert shown.channel is not None
    assert shown.device is not None
    assert (shown.channel.key, shown.device.key) == (key(4), key(2))


async def test_a_key_means_its_row_and_that_rows_device(storage: AnyStorage) -> None:
    wake = Wake(enrollment_key=key(2), due_at=after(minutes=1), attempt=2, failures=1)
    await store(storage, rows=(device(1), user(2, parent=1)), wakes=(wake,))
    shown = await show(storage, Ask(who=ByKey(key=key(2))))
    assert shown.device == device(1, version=1)
    assert shown.channel == user(2, parent=1, version=1)
    assert shown.wake == wake
    assert (await show(storage, Ask(who=ByKey(key=key(1))))).wake is None


async def test_a_token_is_shown_with_its_value_when_asked_for(storage: AnyStorage) -> None:
    held = record(21, holder=1, kind=TokenKind.BOOTSTRAP)
    row = device(1, bootstrap=pointer(21))
    await store(storage, rows=(row,), bind=(binding(1, to=1),), records=(held,))
    who = by_certificate(1, channel(1))
    shown = await show(storage, Ask(who=who, value_of=TokenKind.BOOTSTRAP))
    assert shown.token == replace(held, generation=1)
    assert (await show(storage, Ask(who=who))).token is None
    assert (await show(storage, Ask(who=who, value_of=TokenKind.UNLOCK))).token is None
    assert await storage.enrollments.load_record(held.id) == shown.token
    assert await storage.enrollments.load_record(row.key) is None  # type: ignore[arg-type]  # a name of nothing


async def test_a_topic_is_held_within_its_tenant_only(storage: AnyStorage) -> None:
    await storage.push_certificates.save_push_certificate(push_certificate(1), audit("import"))
    ours = await show(storage, Ask(who=by_certificate(1, channel(1)), topic=TOPIC))
    assert ours.topic_is_held
    theirs = Ask(who=by_certificate(1, channel(1), tenant="other"), topic=TOPIC)
    assert not (await show(storage, theirs)).topic_is_held
    other = Ask(who=by_certificate(1, channel(1)), topic=Topic("com.apple.mgmt.other"))
    assert not (await show(storage, other)).topic_is_held


async def test_the_rules_answer_is_what_the_caller_gets(storage: AnyStorage) -> None:
    change = await storage.enrollments.decide(
        Ask(who=ByKey(key=key(1))), lambda _: Change(at=NOON, answer="yes")
    )
    assert change.answer == "yes"


async def test_a_decision_sees_what_the_one_before_it_wrote(storage: AnyStorage) -> None:
    await store(storage, rows=(device(1),), bind=(binding(1, to=1),))
    ask = Ask(who=by_certificate(1, channel(1)))
    for updates in (1, 2, 3):
        shown = await show(storage, ask)
        assert shown.device is not None
        await store_as(storage, ask, rows=(replace(shown.device, token_updates=updates),))
    shown = await show(storage, ask)
    assert shown.device is not None
    assert (shown.device.token_updates, shown.device.version) == (3, 4)
