"""What operators see of secrets, on both databases: the last generation of many devices, what they report, worst first."""

from dataclasses import replace

import pytest

from conformance.storage_twins import Database, store
from conformance.storage_values import (
    NOON,
    MovedClock,
    after,
    device,
    key,
    pointer,
    record,
    record_id,
    sheet,
    udid,
    user,
)
from ostiary.domain.bootstrap_words import BootstrapWord
from ostiary.domain.enrollment import Enrollment, InstalledProfile, Standing
from ostiary.domain.facts import SheetName
from ostiary.domain.operator import EnrollmentUnknown, NotADevice
from ostiary.domain.severity import Severity
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Holder,
    SealedValue,
    TenantId,
    TokenKind,
    TokenState,
    TokenStep,
)
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.enrollment_profile import BOOTSTRAP_TOKEN
from ostiary.services import secrets_desk
from ostiary.services.secrets_desk import PlaceUnknown, SecretsDesk

CAPABLE = InstalledProfile(access_rights=8191, capabilities=frozenset({BOOTSTRAP_TOKEN}))
KIND = TokenKind.BOOTSTRAP


def desk(database: Database) -> SecretsDesk:
    return SecretsDesk(database.reports, database.escrows, MovedClock(after(days=30)))


def mac(number: int, **changes: object) -> Enrollment:
    facts = DeviceFacts(os_version="15.1", product_name="Mac14,2", serial_number=f"S{number}")
    return device(number, **{"facts": facts, "profile": CAPABLE, "enrolled_at": NOON, **changes})


async def test_the_last_generation_of_each_holder_is_found_in_one_go(database: Database) -> None:
    other = TenantId("other")
    strange = Holder("an odd\ufdd0 id")
    records = (
        record(1, 1, KIND),
        record(2, 1, KIND),
        record(3, 2, KIND),
        record(4, 1, TokenKind.UNLOCK),
        record(5, 3, KIND),
        record(6, 1, KIND, tenant=other),
        replace(record(7, 1, KIND), holder=strange),
    )
    await store(database, rows=tuple(device(number) for number in (1, 2, 3)), records=records)
    asked = [Holder(udid(1)), Holder(udid(2)), strange, Holder("nobody")]
    found = await database.reports.newest_tokens(DEFAULT_TENANT, KIND, asked)
    assert {(one.holder, one.generation, one.id) for one in found} == {
        (udid(1), 2, record_id(2)),
        (udid(2), 1, record_id(3)),
        (strange, 1, record_id(7)),
    }
    assert all(one.value == SealedValue(b"") for one in found), "values stay where they are"
    assert await database.reports.newest_tokens(DEFAULT_TENANT, KIND, []) == ()


async def test_what_several_devices_report_is_found_in_one_go(database: Database) -> None:
    sheets = (sheet(1), sheet(1, SheetName.USERS, facts={"Users": []}), sheet(2), sheet(3))
    await store(database, rows=tuple(device(number) for number in (1, 2, 3)), facts=sheets)
    found = await database.reports.list_facts([key(1), key(2), key(9)])
    assert sorted(found, key=lambda one: (one.enrollment_key, one.name)) == list(sheets[:3])
    assert await database.reports.list_facts([]) == ()


async def test_bootstrap_tokens_are_listed_worst_first_page_by_page(database: Database) -> None:
    """At whatever length of page; nothing is shown twice or left out."""
    rows = (
        mac(1, bootstrap=pointer(1)),
        mac(2),
        mac(3, bootstrap=pointer(3)),
        mac(4),
        mac(5, standing=Standing.ENDED, id=udid(1)),
        mac(6, tenant=TenantId("other")),
        device(7),
        user(8, parent=1),
    )
    steps = (
        TokenStep(record_id=record_id(3), state=TokenState.SUSPECT, cause="EACSPreflight failed"),
        TokenStep(
            record_id=record_id(4), state=TokenState.RETIRED, cause="the device enrolled again"
        ),
    )
    await store(database, rows=rows, records=tuple(record(n, n, KIND) for n in (1, 3, 4)))
    await store(database, steps=steps)

    async def listed(limit: int, at_least: Severity = Severity.OK) -> list[tuple[str, str]]:
        found, after_place = await desk(database).list_bootstrap(
            DEFAULT_TENANT, at_least=at_least, limit=limit, after=None
        )
        pages = list(found)
        while after_place is not None:
            found, after_place = await desk(database).list_bootstrap(
                DEFAULT_TENANT, at_least=at_least, limit=limit, after=after_place
            )
            pages += found
            assert len(found) <= limit
        return [(one.device.key, one.health.word) for one in pages]

    expected = [
        (key(3), BootstrapWord.SUSPECT),
        (key(4), BootstrapWord.LOST),
        (key(2), BootstrapWord.WAITING),
        (key(1), BootstrapWord.HELD),
    ]
    for limit in (1, 2, 3, 9):
        assert await listed(limit) == expected
    assert await listed(9, Severity.WARNING) == expected[:3]
    assert await listed(1, Severity.CRITICAL) == expected[:2]


async def test_a_page_walks_so_far_and_no_further(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet without trouble is not searched through for it in one request."""
    monkeypatch.setattr(secrets_desk, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(secrets_desk, "_MOST_ROWS", 4)
    await store(database, rows=tuple(mac(n, bootstrap=pointer(n)) for n in range(1, 8)))
    found, place = await desk(database).list_bootstrap(
        DEFAULT_TENANT, at_least=Severity.OK, limit=100, after=None
    )
    assert found == ()
    shown = []
    while place is not None:
        found, place = await desk(database).list_bootstrap(
            DEFAULT_TENANT, at_least=Severity.OK, limit=100, after=place
        )
        shown += [one.device.key for one in found]
    assert shown == [key(n) for n in range(1, 8)]


async def test_one_device_is_examined_by_its_id_or_serial_number(database: Database) -> None:
    rows = (mac(1, bootstrap=pointer(1)), user(2, parent=1))
    users = sheet(
        1, SheetName.USERS, facts={"Users": [{"UserName": "ann", "HasSecureToken": True}]}
    )
    await store(database, rows=rows, records=(record(1, 1, KIND),), facts=(users,))
    for name in (udid(1), "S1"):
        found = await desk(database).bootstrap_of(DEFAULT_TENANT, name)
        assert (found.health.word, found.health.holders) == (BootstrapWord.HELD, ("ann",))
    with pytest.raises(NotADevice):
        await desk(database).bootstrap_of(DEFAULT_TENANT, rows[1].id)
    with pytest.raises(EnrollmentUnknown):
        await desk(database).bootstrap_of(DEFAULT_TENANT, "nobody")
    with pytest.raises(PlaceUnknown):
        await desk(database).list_bootstrap(
            DEFAULT_TENANT, at_least=Severity.OK, limit=1, after="elsewhere/x"
        )
