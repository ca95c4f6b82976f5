"""Dead push tokens as people see them, on both databases and over the control socket."""

from datetime import timedelta

from conformance.storage_twins import Database, store
from conformance.storage_values import NOON, device, key, pointer, record, user
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.web.lines import dead_push_line, enrollment_facts


def dead(number: int, **changes: object) -> Enrollment:
    facts = {"push": pointer(100 + number), "push_dead_since": NOON} | changes
    return device(number, push_dead_reason="Unregistered", **facts)


async def test_dead_push_tokens_are_listed_page_by_page(database: Database) -> None:
    """Those of channels in force; whoever left needs no healing."""
    rows = (
        dead(1),
        device(2, push=pointer(102)),
        dead(3, state=State.OUT),
        dead(4, tenant=TenantId("other")),
        dead(5),
        user(6, parent=2, push=pointer(106), push_dead_since=NOON, push_dead_reason="ExpiredToken"),
    )
    await store(database, rows=rows, records=tuple(record(100 + n, holder=n) for n in (1, 2, 5, 6)))

    async def listed(limit: int, after: str | None = None) -> list[str]:
        found = await database.reports.list_push_dead(DEFAULT_TENANT, limit=limit, after=after)
        return [row.key for row in found]

    assert await listed(10) == [key(1), key(5), key(6)]
    assert await listed(2) == [key(1), key(5)]
    assert await listed(2, after=key(5)) == [key(6)]


def test_a_dead_token_is_told_with_since_when_why_and_what_heals_it() -> None:
    """Not the token itself."""
    row = dead(1, push_dead_since=NOON + timedelta(hours=1))
    line = dead_push_line(row)
    assert line["dead_since"] == "2026-05-04T13:00:00Z"
    assert line["reason"] == "Unregistered"
    assert "erased" in line["why"]
    assert "checks in" in line["heals"]
    assert enrollment_facts(row)["push_heals"] == line["heals"]
    assert enrollment_facts(device(2))["push_heals"] is None
