"""What the command line is told of the fleet's gaps: a line for each, counts, and where to go on."""

from typing import Any

import httpx

from enrolled import NOW
from escrowed import enroll_mac, escrow_values
from ostiary.domain.decision import Ask, ByName, Change
from ostiary.domain.escrow import EscrowState
from ostiary.domain.facts import Fact, FactSheet, SheetName
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.house import House
from ostiary.protocol.mdm.identity import EnrollmentId


async def told(house: House, name: str, sheet: SheetName, **facts: Fact) -> None:
    """Store what a device reported."""
    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId(name))
    rows = await house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(name))
    reported = FactSheet(enrollment_key=rows[0].key, name=sheet, facts=facts, reported_at=NOW)
    await house.storage.enrollments.decide(
        Ask(who=who), lambda _seen: Change(at=NOW, answer=None, facts=(reported,))
    )


async def furnish(house: House) -> None:
    """A: FileVault on, no key. B: a lock in doubt. C: never answered."""
    for name in "ABC":
        await enroll_mac(house, name, bootstrap=b"canary-bootstrap")
    for name in "AB":
        await told(house, name, SheetName.DEVICE, IsSupervised=False)
        await told(house, name, SheetName.SECURITY, FDE_Enabled=name == "A")
    await escrow_values(
        house.storage.enrollments,
        house.sealer,
        "B",
        TokenKind.RECOVERY_LOCK,
        [b"canary-first", b"canary-second"],
        NOW,
        candidate=1,
        state=EscrowState.UNCERTAIN,
        trouble="no answer came",
    )


async def page(operator: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await operator.get("/secrets/missing", params=params)
    assert answer.status_code == 200
    assert "canary" not in answer.text, "a value is in no answer"
    found: dict[str, Any] = answer.json()
    return found


async def test_gaps_are_told_with_what_would_close_them(
    house: House, operator: httpx.AsyncClient
) -> None:
    await furnish(house)
    found = await page(operator)
    disk, lock = found["items"]
    assert (disk["id"], disk["serial"], disk["kind"]) == ("A", "SA", "filevault-key")
    assert (disk["state"], disk["severity"], disk["since"]) == ("missing", "critical", None)
    assert disk["reported"] == "2026-06-01T00:00:00Z"
    assert disk["todo"].startswith("ostiary filevault install --location ")
    assert (lock["id"], lock["kind"], lock["state"]) == ("B", "recovery-lock", "in doubt")
    assert (lock["why"], lock["severity"]) == ("no answer came", "warning")
    assert (found["looked_at"], found["with_gaps"]) == (3, 2)
    assert found["by_kind"] == {"filevault-key": 1, "recovery-lock": 1}
    silent = {"devices": 1, "first": ["C"]}
    assert found["not_known"] == {"security-info": silent, "device-information": silent}
    assert (found["after"], found["more"]) == (None, False)


async def test_gaps_are_told_page_by_page_and_kind_by_kind(
    house: House, operator: httpx.AsyncClient
) -> None:
    await furnish(house)
    first = await page(operator, limit=1)
    assert [line["id"] for line in first["items"]] == ["A"]
    assert (first["looked_at"], first["more"]) == (1, True)
    rest = await page(operator, limit=9, after=first["after"])
    assert ([line["id"] for line in rest["items"]], rest["looked_at"]) == (["B"], 2)
    locks = await page(operator, kind="recovery-lock")
    assert [line["id"] for line in locks["items"]] == ["B"]
    assert locks["by_kind"] == {"recovery-lock": 1}


async def test_a_kind_that_no_device_owes_is_refused_with_those_that_there_are(
    operator: httpx.AsyncClient,
) -> None:
    for kind, code in (("push", "kind_not_surveyed"), ("passwords", "word_unknown")):
        answer = await operator.get("/secrets/missing", params={"kind": kind})
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert "filevault-key" in answer.json()["detail"]
