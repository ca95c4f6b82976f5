"""What the command line is told of secrets, and the one answer that holds a value."""

from typing import Any

import httpx
import pytest

from enrolled import NOW
from escrowed import enroll_mac, escrow_values
from ostiary.domain.escrow import EscrowState
from ostiary.domain.token import TokenKind
from ostiary.house import House

LOCK = TokenKind.RECOVERY_LOCK
CANARY = "canary-of-a-recovery-lock"


async def hold(house: House, name: str, *values: bytes, **state: Any) -> None:
    await escrow_values(house.storage.enrollments, house.sealer, name, LOCK, values, NOW, **state)


async def reveal(operator: httpx.AsyncClient, **content: object) -> httpx.Response:
    return await operator.post("/secrets/reveal", json=content, headers={"X-Ostiary-Actor": "anna"})


async def test_bootstrap_tokens_are_told_worst_first_and_page_by_page(
    house: House, operator: httpx.AsyncClient
) -> None:
    await enroll_mac(house, "A", bootstrap=b"canary-bootstrap")
    await enroll_mac(house, "B")
    first = (await operator.get("/bootstrap-tokens?limit=1")).json()
    assert [(line["id"], line["severity"]) for line in first["items"]] == [("B", "warning")]
    rest = (
        await operator.get("/bootstrap-tokens", params={"limit": 9, "after": first["after"]})
    ).json()
    assert [(line["id"], line["health"]) for line in rest["items"]] == [("A", "held")]
    assert rest["after"] is None
    bad = (await operator.get("/bootstrap-tokens?severity=warning")).json()
    assert [line["id"] for line in bad["items"]] == ["B"]
    assert (await operator.get("/bootstrap-tokens?severity=ugly")).status_code == 400
    assert (await operator.get("/bootstrap-tokens?after=x/y")).json()["code"] == "place_unknown"


async def test_one_bootstrap_token_is_told_with_what_to_type(
    house: House, operator: httpx.AsyncClient
) -> None:
    await enroll_mac(house, "B")
    line = (await operator.get("/bootstrap-token?id=SB")).json()
    assert (line["id"], line["escrowed"], line["supported"]) == ("B", False, True)
    assert [one["command"] for one in line["at_the_mac"]] == [
        "sudo profiles install -type bootstraptoken",
        "sudo profiles status -type bootstraptoken",
    ]
    assert (await operator.get("/bootstrap-token?id=C")).json()["code"] == "enrollment_unknown"


async def test_secrets_are_told_without_values(house: House, operator: httpx.AsyncClient) -> None:
    """users.md 5.4 case 41."""
    await enroll_mac(house, "A", bootstrap=b"canary-bootstrap")
    state: dict[str, Any] = {"candidate": 1, "state": EscrowState.UNCERTAIN}
    await hold(house, "A", CANARY.encode(), b"canary-two", **state)
    answer = await operator.get("/secrets?id=A")
    told = answer.json()
    lock = next(line for line in told["secrets"] if line["kind"] == "recovery-lock")
    assert (lock["state"], lock["generation"], lock["candidate"]) == ("uncertain", 1, 2)
    assert [one["generation"] for one in lock["values"]] == [1, 2]
    assert "reveal" in lock["can"]
    kinds = [line["kind"] for line in told["generations"]]
    assert sorted(kinds) == ["bootstrap", "recovery-lock", "recovery-lock"]
    assert "canary" not in answer.text


async def test_a_reveal_carries_the_value_and_must_not_be_kept(
    house: House, operator: httpx.AsyncClient
) -> None:
    await enroll_mac(house, "A")
    await hold(house, "A", CANARY.encode())
    answer = await reveal(operator, id="SA", kind="recovery-lock", reason="ticket 4711")
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    (value,) = told["values"]
    assert (value["value"], value["encoding"], value["role"]) == (CANARY, "text", "current")
    assert (told["uncertain"], told["sentence"]) == (False, "")
    assert told["rotation_due"] is not None
    shown = (await operator.get("/secrets?id=A")).json()["secrets"][0]
    assert shown["disclosed"] is not None
    assert shown["rotation_due"] == told["rotation_due"]


async def test_two_values_come_with_the_sentence_that_says_which_to_try_first(
    house: House, operator: httpx.AsyncClient
) -> None:
    """RL-03."""
    await enroll_mac(house, "A")
    await hold(house, "A", b"first", b"\xff\x00", candidate=1, state=EscrowState.IN_FLIGHT)
    told = (await reveal(operator, id="A", kind="recovery-lock", reason="r")).json()
    assert [(one["encoding"], one["value"]) for one in told["values"]] == [
        ("text", "first"),
        ("base64", "/wA="),
    ]
    assert "try the first" in told["sentence"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ({"kind": "recovery-lock"}, 400, "reason_missing"),
        ({"kind": "recovery-lock", "reason": 5}, 400, "reason_missing"),
        ({"kind": "bootstrap", "reason": "r"}, 403, "not_for_people"),
        ({"kind": "lock-pin", "reason": "r"}, 404, "nothing_held"),
        ({"kind": "recovery-lock", "reason": "r", "generation": 9}, 404, "generation_unknown"),
        ({"kind": "recovery-lock", "reason": "r", "generation": "x"}, 400, "ask_unreadable"),
        ({"kind": "password", "reason": "r"}, 400, "word_unknown"),
    ],
    ids=["no reason", "odd reason", "bootstrap", "none", "generation", "odd generation", "kind"],
)
async def test_a_refused_reveal_says_why_and_shows_nothing(
    house: House, operator: httpx.AsyncClient, content: dict[str, object], status: int, code: str
) -> None:
    """ST-04."""
    await enroll_mac(house, "A")
    await hold(house, "A", CANARY.encode())
    answer = await reveal(operator, id="A", **content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert CANARY not in answer.text
