"""What a fleet's secrets are judged by, on both databases, and the walk through it: page by page, one tenant's, no value."""

from dataclasses import replace
from typing import Any

import pytest

from conformance.storage_twins import Database, store
from conformance.storage_values import (
    NOON,
    MovedClock,
    after,
    device,
    escrow,
    key,
    pointer,
    record,
    record_id,
    sheet,
    udid,
    user,
)
from ostiary.domain.bootstrap_words import BootstrapWord
from ostiary.domain.enrollment import Enrollment, InstalledProfile, Standing, State
from ostiary.domain.escrow import EscrowState
from ostiary.domain.facts import SheetName
from ostiary.domain.secret_gap import Report
from ostiary.domain.severity import Severity
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Holder,
    SealedValue,
    TenantId,
    TokenKind,
    TokenState,
)
from ostiary.ports.fleet_secrets import NEWEST_OF_A_KIND, DeviceSecrets
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.enrollment_profile import BOOTSTRAP_TOKEN
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services import missing_secrets
from ostiary.services.missing_secrets import KindNotSurveyed, MissingPage, MissingSecrets
from ostiary.services.secrets_desk import PlaceUnknown, SecretsDesk

CAPABLE = InstalledProfile(access_rights=8191, capabilities=frozenset({BOOTSTRAP_TOKEN}))
LOCK, DISK = TokenKind.RECOVERY_LOCK, TokenKind.FILEVAULT_KEY
BOOTSTRAP = TokenKind.BOOTSTRAP
KINDS = (LOCK, DISK, BOOTSTRAP, TokenKind.UNLOCK)
OTHER = TenantId("other")


def mac(number: int, **changes: Any) -> Enrollment:
    """A Mac with a bootstrap token, enrolled for weeks."""
    facts = DeviceFacts(os_version="15.1", product_name="Mac14,2", serial_number=f"S{number}")
    given = {
        "facts": facts,
        "profile": CAPABLE,
        "enrolled_at": NOON,
        "bootstrap": pointer(9_000 + number),
    }
    return device(number, **{**given, **changes})


async def listed(
    database: Database, *, limit: int = 50, tenant: TenantId = DEFAULT_TENANT
) -> list[DeviceSecrets]:
    """Every device, in pages of so many rows."""
    found: list[DeviceSecrets] = []
    place: str | None = None
    while True:
        page = await database.fleet_secrets.list_secrets(tenant, KINDS, limit=limit, after=place)
        assert len(page.devices) <= limit
        found += page.devices
        if (place := page.after) is None:
            return found


async def test_each_device_comes_with_what_is_its_own(database: Database) -> None:
    rows = (mac(1, bootstrap=None), mac(2, bootstrap=None))
    records = (record(1, 1, LOCK), record(2, 1, LOCK), record(3, 2, DISK), record(4, 1))
    escrows = (
        escrow(1, LOCK, current=record_id(2), candidate=record_id(1)),
        escrow(1, DISK),
        escrow(2, DISK, current=record_id(3), state=EscrowState.UNCERTAIN, trouble="why"),
    )
    sheets = (sheet(1), sheet(1, SheetName.DEVICE, facts={"IsSupervised": True}), sheet(2))
    await store(database, rows=rows, records=records, escrows=escrows, facts=sheets)
    first, second = await listed(database)
    assert (first.device.id, second.device.id) == (udid(1), udid(2))
    assert first.escrows == (escrows[1], escrows[0]), "by kind"
    assert [(one.kind, one.generation) for one in first.records] == [(LOCK, 1), (LOCK, 2)]
    assert first.sheets == (sheets[1], sheets[0]), "by name"
    assert (second.escrows, second.sheets) == (escrows[2:], sheets[2:])
    assert [one.id for one in second.records] == [record_id(3)]
    assert {one.value for found in (first, second) for one in found.records} == {SealedValue(b"")}


async def test_only_managed_devices_are_looked_at(database: Database) -> None:
    rows = (
        mac(1),
        mac(2, state=State.RENEWING),
        mac(3, state=State.OUT),
        mac(4, state=State.PENDING),
        mac(5, id=udid(1), standing=Standing.CONTESTED),
        mac(6, id=udid(2), standing=Standing.ENDED),
        user(7, parent=1),
    )
    await store(database, rows=rows)
    for limit in (1, 3, 50):
        assert [one.device.key for one in await listed(database, limit=limit)] == [key(1), key(2)]


async def test_a_tenant_is_told_of_its_own_devices_alone(database: Database) -> None:
    """Though another holds secrets under the same id, and records of any tenant could be named."""
    own = escrow(1, LOCK, current=record_id(1), candidate=record_id(2))
    theirs = escrow(1, LOCK, tenant=OTHER, current=record_id(2))
    await store(
        database,
        rows=(mac(1, bootstrap=None), mac(2, id=udid(1), tenant=OTHER, bootstrap=None)),
        records=(record(1, 1, LOCK), record(2, 1, LOCK, tenant=OTHER)),
        escrows=(own, theirs),
        facts=(sheet(1), sheet(2, facts={"FDE_Enabled": False})),
    )
    for tenant, number, kept in ((DEFAULT_TENANT, 1, own), (OTHER, 2, theirs)):
        (one,) = await listed(database, tenant=tenant)
        assert (one.device.key, one.escrows) == (key(number), (kept,))
        assert [each.id for each in one.records] == [record_id(number)]
        assert [each.enrollment_key for each in one.sheets] == [key(number)]
    assert await listed(database, tenant=TenantId("nobody")) == []


async def test_of_a_long_history_the_last_generations_are_read_and_what_pointers_name(
    database: Database,
) -> None:
    """A device that changes a token without end takes no more memory than another."""
    many = 2 * NEWEST_OF_A_KIND
    history = [record(number, 1, LOCK, state=TokenState.SUSPECT) for number in range(1, many + 1)]
    replaced = record(many + 1, 1, DISK, state=TokenState.SUPERSEDED)
    tokens = [record(100 + number, 1, BOOTSTRAP) for number in range(many)]
    await store(
        database,
        rows=(mac(1, bootstrap=pointer(100)),),
        records=(*history, replaced, *tokens),
        escrows=(escrow(1, LOCK, current=record_id(1), candidate=record_id(2)),),
    )
    (one,) = await listed(database)
    locks = [each.generation for each in one.records if each.kind is LOCK]
    assert locks == [1, 2, *range(many - NEWEST_OF_A_KIND + 1, many + 1)]
    bootstraps = [each.generation for each in one.records if each.kind is BOOTSTRAP]
    assert bootstraps == [1, *range(many - NEWEST_OF_A_KIND + 1, many + 1)]
    assert not [each for each in one.records if each.kind is DISK], "superseded: no news"


async def test_a_contester_pushes_nothing_out_of_the_window_and_puts_nothing_in(
    database: Database,
) -> None:
    """check-in-and-commands.md 2.3: what an earlier relationship left behind still counts, except handed over tokens."""
    many = 2 * NEWEST_OF_A_KIND
    theirs: dict[str, Any] = {"relationship": key(2)}
    flood = [record(100 + number, 1, BOOTSTRAP, **theirs) for number in range(many)]
    told = [
        record(200 + number, 1, DISK, state=TokenState.CANDIDATE, **theirs)
        for number in range(many)
    ]
    gone = TokenState.RETIRED
    await store(
        database,
        rows=(mac(1, bootstrap=None), mac(2, id=udid(1), standing=Standing.CONTESTED)),
        records=(
            record(1, 1, BOOTSTRAP, state=gone),
            *flood[:-1],
            record(2, 1, BOOTSTRAP, state=gone),
            flood[-1],
            record(3, 1, DISK, relationship=key(3), state=gone),
            record(4, 1, TokenKind.UNLOCK, relationship=key(3), state=gone),
            record(5, 1, DISK, state=gone),
            *told,
            record(6, 1, DISK, state=TokenState.CANDIDATE),
        ),
    )
    (one,) = await listed(database)
    assert [each.id for each in one.records if each.kind is BOOTSTRAP] == [
        record_id(1),
        record_id(2),
    ]
    assert [each.id for each in one.records if each.kind is DISK] == [
        record_id(3),
        record_id(5),
        record_id(6),
    ]
    assert not [each for each in one.records if each.kind is TokenKind.UNLOCK]


async def test_the_fleets_list_and_the_health_of_one_mac_agree_whatever_a_contester_hands_over(
    database: Database,
) -> None:
    """Source: escrowed-secrets.md 4.2: lost at re-enrollment stays critical."""
    flood = [
        record(100 + number, 1, BOOTSTRAP, relationship=key(2))
        for number in range(NEWEST_OF_A_KIND + 5)
    ]
    lost = record(1, 1, BOOTSTRAP, state=TokenState.RETIRED, cause="the device enrolled again")
    await store(
        database,
        rows=(
            mac(1, bootstrap=None),
            mac(2, id=udid(1), standing=Standing.CONTESTED, bootstrap=pointer(124)),
        ),
        records=(lost, *flood),
    )
    (page,) = await walk(database, 50, BOOTSTRAP)
    ((gap,),) = [one.gaps for one in page.found]
    desk = SecretsDesk(database.reports, database.escrows, MovedClock(after(days=30)))
    health = (await desk.bootstrap_of(DEFAULT_TENANT, udid(1))).health
    assert (health.word, health.severity) == (BootstrapWord.LOST, Severity.CRITICAL)
    assert gap.severity is health.severity
    assert gap.why == f"{health.word}: {health.causes[0]}"


async def test_ids_of_any_letters_are_walked_through(database: Database) -> None:
    ids = ["a/b", "a/c/d", "odd\ufdd0 id", "plain"]
    rows = [
        mac(number, id=EnrollmentId(one), bootstrap=None) for number, one in enumerate(ids, start=1)
    ]
    secrets = [
        replace(escrow(number, LOCK), holder=Holder(one)) for number, one in enumerate(ids, start=1)
    ]
    await store(database, rows=tuple(rows), escrows=tuple(secrets))
    for limit in (1, 2, 3):
        found = await listed(database, limit=limit)
        assert [one.device.id for one in found] == ids
        assert all(len(one.escrows) == 1 for one in found)


async def furnish(database: Database, count: int) -> None:
    """Every third Mac has a disk without a key, every third a key, every third was never asked."""
    rows = [mac(number) for number in range(1, count + 1)]
    tokens = [record(9_000 + number, number, BOOTSTRAP) for number in range(1, count + 1)]
    told = [number for number in range(1, count + 1) if number % 3]
    keys = [record(number, number, DISK) for number in told if number % 3 == 1]
    sheets = [
        each
        for number in told
        for each in (
            sheet(number),
            sheet(number, SheetName.DEVICE, facts={"IsSupervised": False}),
        )
    ]
    await store(database, rows=tuple(rows), records=(*tokens, *keys), facts=tuple(sheets))


async def walk(database: Database, limit: int, kind: TokenKind | None = None) -> list[MissingPage]:
    """Every page of the walk."""
    desk = MissingSecrets(database.fleet_secrets, MovedClock(after(days=30)))
    pages = [await desk.list_missing(DEFAULT_TENANT, kind=kind, limit=limit, after=None)]
    while (place := pages[-1].after) is not None:
        pages.append(await desk.list_missing(DEFAULT_TENANT, kind=kind, limit=limit, after=place))
    return pages


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_the_walk_finds_each_gap_once_and_counts_every_device_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """At whatever length of page."""
    monkeypatch.setattr(missing_secrets, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(missing_secrets, "_MOST_ROWS", 6)
    await furnish(database, 9)
    pages = await walk(database, limit)
    assert all(len(page.found) <= limit for page in pages)
    found = [
        (one.device.id, [gap.kind for gap in one.gaps]) for page in pages for one in page.found
    ]
    assert found == [(udid(number), [DISK]) for number in (2, 5, 8)]
    assert sum(page.looked_at for page in pages) == 9
    assert sum(page.by_kind.get(DISK, 0) for page in pages) == 3
    silent = [page.not_known[Report.SECURITY_INFO] for page in pages if page.not_known]
    assert sum(one.devices for one in silent) == 3
    assert [name for one in silent for name in one.first] == [udid(number) for number in (3, 6, 9)]


async def test_a_walk_may_look_at_one_kind_alone(database: Database) -> None:
    await furnish(database, 3)
    (page,) = await walk(database, 50, TokenKind.BYPASS_DEVICE)
    assert (page.found, page.looked_at, dict(page.by_kind)) == ((), 3, {})
    assert list(page.not_known) == [Report.DEVICE_INFORMATION]
    (page,) = await walk(database, 50, LOCK)
    assert list(page.not_known) == [Report.SECURITY_INFO]
    with pytest.raises(KindNotSurveyed, match="filevault-key"):
        await walk(database, 50, TokenKind.PUSH)


async def test_a_walk_goes_on_from_no_place_but_its_own(database: Database) -> None:
    """An id alone would begin at the beginning, and say that all is there."""
    desk = MissingSecrets(database.fleet_secrets, MovedClock())
    for place in (udid(1), "", "/", f"{udid(1)}/x"):
        with pytest.raises(PlaceUnknown):
            await desk.list_missing(DEFAULT_TENANT, kind=None, limit=1, after=place)
