"""Push certificates, one current per topic, on every engine. (check-in-and-commands.md 5.6)"""

from dataclasses import replace

import pytest

from conformance.storage_twins import AnyStorage, store, visible_state
from conformance.storage_values import (
    NOON,
    TOPIC,
    after,
    audit,
    device,
    push_certificate,
    record_id,
)
from ostiary.domain.enrollment import State
from ostiary.domain.token import (
    DEFAULT_TENANT,
    SealedValue,
    TenantId,
    TokenKind,
    TokenState,
)
from ostiary.errors import Conflicting
from ostiary.ports.storage import PendingPushKey
from ostiary.protocol.mdm.checkin import Topic

OTHER_TOPIC = Topic("com.apple.mgmt.External.other")


async def test_a_certificate_comes_back_by_its_topic(storage: AnyStorage) -> None:
    certificates = storage.push_certificates
    assert await certificates.load_push_certificate(TOPIC) is None
    await certificates.save_push_certificate(push_certificate(1), audit("import"))
    assert await certificates.load_push_certificate(TOPIC) == push_certificate(1)
    assert await certificates.load_push_certificate(OTHER_TOPIC) is None


async def test_a_renewed_certificate_takes_the_old_ones_place_and_unpauses(
    storage: AnyStorage,
) -> None:
    """The old generation stays in the ledger. (AP-09)"""
    certificates = storage.push_certificates
    await certificates.save_push_certificate(push_certificate(1), audit("import"))
    await certificates.pause_topic(TOPIC, "BadCertificate", after(hours=1), shown=record_id(1))
    renewed = push_certificate(2, imported_at=after(days=1))
    await certificates.save_push_certificate(renewed, audit("renew"))
    assert await certificates.load_push_certificate(TOPIC) == renewed
    records = (await visible_state(storage))["records"]
    old, new = records[record_id(1)], records[record_id(2)]
    assert (old.kind, old.holder, old.generation, old.state, old.changed_at) == (
        TokenKind.PUSH_CERTIFICATE,
        TOPIC,
        1,
        TokenState.SUPERSEDED,
        after(days=1),
    )
    assert (new.generation, new.state, new.value) == (2, TokenState.OK, b"sealed key 2")
    assert [entry.verb for entry, _ in (await visible_state(storage))["audit"]] == [
        "import",
        "renew",
    ]


async def test_another_tenants_topic_is_not_taken_over(storage: AnyStorage) -> None:
    certificates = storage.push_certificates
    await certificates.save_push_certificate(push_certificate(1), audit("import"))
    before = await visible_state(storage)
    other = push_certificate(2, tenant=TenantId("other"))
    with pytest.raises(Conflicting):
        await certificates.save_push_certificate(other, audit("import"))
    assert await certificates.load_push_certificate(TOPIC) == push_certificate(1)
    assert await visible_state(storage) == before


async def test_certificates_are_listed_by_topic_within_a_tenant(storage: AnyStorage) -> None:
    certificates = storage.push_certificates
    other = push_certificate(2, topic=OTHER_TOPIC)
    elsewhere = push_certificate(3, topic=Topic("com.apple.mgmt.x"), tenant=TenantId("other"))
    for one in (other, push_certificate(1), elsewhere):
        await certificates.save_push_certificate(one, audit("import"))
    listed = await certificates.list_push_certificates(DEFAULT_TENANT)
    assert listed == (push_certificate(1), other)


async def test_a_paused_topic_keeps_its_first_reason(storage: AnyStorage) -> None:
    certificates = storage.push_certificates
    assert await certificates.pause_topic(TOPIC, "no-certificate", NOON, shown=None)
    await certificates.save_push_certificate(push_certificate(1), audit("import"))
    shown = record_id(1)
    assert await certificates.pause_topic(TOPIC, "BadCertificate", after(hours=1), shown=shown)
    assert await certificates.pause_topic(TOPIC, "Forbidden", after(hours=2), shown=shown)
    assert await certificates.load_push_certificate(TOPIC) == replace(
        push_certificate(1), paused_since=after(hours=1), paused_reason="BadCertificate"
    )


async def test_what_apns_says_of_a_replaced_certificate_pauses_nothing(
    storage: AnyStorage,
) -> None:
    """A push was under way while somebody brought in the new one. (AP-09)"""
    certificates = storage.push_certificates
    await certificates.save_push_certificate(push_certificate(1), audit("import"))
    renewed = push_certificate(2, imported_at=after(days=1))
    await certificates.save_push_certificate(renewed, audit("renew"))
    for shown in (record_id(1), None):
        assert not await certificates.pause_topic(TOPIC, "BadCertificate", NOON, shown=shown)
    assert await certificates.load_push_certificate(TOPIC) == renewed


async def test_served_enrollments_are_counted_by_topic(storage: AnyStorage) -> None:
    rows = (
        device(1),
        device(2, state=State.RENEWING),
        device(3, state=State.OUT),
        device(4, topic=OTHER_TOPIC),
        device(5, tenant=TenantId("other")),
    )
    await store(storage, rows=rows)
    counted = await storage.push_certificates.count_enrollments_by_topic(DEFAULT_TENANT)
    assert counted == {TOPIC: 2, OTHER_TOPIC: 1}


async def test_a_pending_key_waits_for_its_certificate_and_is_forgotten_with_it(
    storage: AnyStorage,
) -> None:
    certificates = storage.push_certificates
    keys = [
        PendingPushKey(
            record_id=record_id(number),
            tenant=DEFAULT_TENANT,
            public_key=f"{number:064x}",
            sealed_key=SealedValue(b"sealed"),
            created_at=NOON,
        )
        for number in (1, 2)
    ]
    for one in keys:
        await certificates.save_pending_push_key(one, audit("request"))
    found = await certificates.find_pending_push_key(DEFAULT_TENANT, keys[0].public_key)
    assert found == keys[0]
    other = await certificates.find_pending_push_key(TenantId("other"), keys[0].public_key)
    assert other is None
    with pytest.raises(Conflicting):
        await certificates.save_pending_push_key(
            replace(keys[0], record_id=record_id(3)), audit("again")
        )
    await certificates.save_push_certificate(
        push_certificate(5), audit("import"), spent_key=record_id(1)
    )
    assert await certificates.find_pending_push_key(DEFAULT_TENANT, keys[0].public_key) is None
    found = await certificates.find_pending_push_key(DEFAULT_TENANT, keys[1].public_key)
    assert found == keys[1]
