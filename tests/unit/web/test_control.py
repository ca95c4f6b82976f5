"""What the command line asks of a house, and what it never hears: a value."""

import base64
import json

import httpx
import pytest

from enrolled import enroll
from installation import URL
from ostiary.domain.decision import Alert, Ask, ByName, Change
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.house import House
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.api_tokens import ApiTokenUnknown


async def post(operator: httpx.AsyncClient, path: str, **content: object) -> httpx.Response:
    return await operator.post(path, json=content, headers={"X-Ostiary-Actor": "anna"})


async def test_devices_are_listed_page_by_page(house: House, operator: httpx.AsyncClient) -> None:
    """A stable order, and a cursor that goes on after the last row. (users.md 3.2)"""
    for name in "CAB":
        await enroll(house, name)
    first = (await operator.get("/devices?limit=2")).json()
    assert [row["id"] for row in first["items"]] == ["A", "B"]
    rest = (await operator.get("/devices", params={"limit": 2, "after": first["after"]})).json()
    assert [row["id"] for row in rest["items"]] == ["C"]
    assert rest["after"] is None
    assert (first["more"], rest["more"]) == (True, False)
    whole = (await operator.get("/devices?limit=3")).json()
    assert (whole["after"], whole["more"]) == (None, False)


async def test_a_device_may_be_named_by_its_serial_number_if_it_is_the_only_one(
    house: House, operator: httpx.AsyncClient
) -> None:
    """A serial number is what stands on the device."""
    await enroll(house, "A")
    await enroll(house, "B")
    shown = (await operator.get("/device?id=SB")).json()
    assert [row["id"] for row in shown["enrollments"]] == ["B"]
    assert (await operator.get("/device?id=SC")).status_code == 404


async def test_one_command_is_shown_for_each_enrollment_that_has_it(
    house: House, operator: httpx.AsyncClient
) -> None:
    """Its UUID is one for all devices that it was queued for."""
    for name in "AB":
        await enroll(house, name)
    asked = await post(operator, "/commands", ids=["A", "B"], command="security-info")
    uuid = asked.json()["uuid"]
    found = (await operator.get("/command", params={"uuid": uuid})).json()["items"]
    assert sorted(line["enrollment"] for line in found) == ["A", "B"]
    (only,) = (await operator.get("/command", params={"uuid": uuid, "id": "B"})).json()["items"]
    assert only["enrollment"] == "B"
    assert (await operator.get("/command?uuid=X")).json()["code"] == "command_unknown"
    assert (await operator.get("/commands?limit=1")).json()["more"] is True


async def test_one_device_is_shown_with_tokens_and_commands(
    house: House, operator: httpx.AsyncClient
) -> None:
    """users.md 4.2: one page per device."""
    await enroll(house, "A")
    await post(operator, "/commands", ids=["A"], command="security-info")
    shown = (await operator.get("/device?id=A")).json()
    assert shown["enrollments"][0]["state"] == "enrolled"
    assert [token["kind"] for token in shown["tokens"]] == ["push"]
    assert [command["request_type"] for command in shown["commands"]] == ["SecurityInfo"]


async def test_no_answer_carries_a_tokens_value(house: House, operator: httpx.AsyncClient) -> None:
    """users.md 5.4 case 41: canary secrets may never appear."""
    await enroll(house, "A")
    paths = ("/devices", "/device?id=A", "/tokens", "/tokens?all=1", "/tokens/history?id=A")
    for path in (
        *paths,
        "/tokens/dead-pushes",
        "/commands",
        "/push-certificates",
        "/health",
        "/policies",
        "/status",
    ):
        answer = await operator.get(path)
        assert answer.status_code == 200
        assert "planted" not in answer.text
        assert base64.b64encode(b"planted-push-token").decode() not in answer.text


async def test_an_unknown_device_is_a_problem_with_a_hint(operator: httpx.AsyncClient) -> None:
    """The command prints the same words either way."""
    answer = await operator.get("/device?id=NOBODY")
    assert answer.status_code == 404
    problem = answer.json()
    assert problem["code"] == "enrollment_unknown"
    assert problem["family"] == "Missing"
    assert "device list" in problem["hint"]


async def test_a_typed_command_is_queued_for_each_device(
    house: House, operator: httpx.AsyncClient
) -> None:
    """Issue 2, item 4: typed commands; the payload is never shown."""
    await enroll(house, "A")
    answer = (await post(operator, "/commands", ids=["A", "X"], command="security-info")).json()
    assert answer["request_type"] == "SecurityInfo"
    by_id = {result["id"]: result for result in answer["results"]}
    assert by_id["A"]["error"] is None
    assert by_id["X"]["family"] == "Missing"
    (line,) = (await operator.get("/commands?id=A")).json()["items"]
    assert (line["source"], line["state"]) == ("anna", "queued")
    assert "payload" not in line


async def test_a_raw_command_is_classified(house: House, operator: httpx.AsyncClient) -> None:
    """Issue 2, item 4: raw ones by plist, classified by RequestType."""
    await enroll(house, "A")
    plist = b"<plist><dict><key>Command</key><dict><key>RequestType</key><string>DeviceLock</string></dict></dict></plist>"
    encoded = base64.b64encode(plist).decode()
    answer = (await post(operator, "/commands", ids=["A"], plist=encoded)).json()
    assert answer["request_type"] == "DeviceLock"


@pytest.mark.parametrize(
    "content",
    [
        {"ids": ["A"], "command": "erase-everything"},
        {"ids": ["A"], "command": "install-profile"},
        {"ids": ["A"], "command": "install-profile", "profile": "!"},
        {"ids": ["A"], "command": "device-lock", "pin": "12345"},
        {"ids": "A", "command": "security-info"},
        {"ids": [], "command": "security-info"},
        {"ids": ["A"]},
        {"ids": ["A"], "plist": "Z2FyYmFnZQ=="},
    ],
)
async def test_a_command_that_cannot_be_is_refused_and_nothing_queued(
    house: House, operator: httpx.AsyncClient, content: dict[str, object]
) -> None:
    """Bad input gets a clear error and changes nothing. (issue 2)"""
    await enroll(house, "A")
    answer = await post(operator, "/commands", **content)
    assert answer.status_code == 400
    assert (await operator.get("/commands?id=A")).json()["items"] == []


async def test_a_command_is_cancelled_by_name(house: House, operator: httpx.AsyncClient) -> None:
    """check-in-and-commands.md 3.4 rule 10."""
    await enroll(house, "A")
    uuid = (await post(operator, "/commands", ids=["A"], command="security-info")).json()["uuid"]
    closed = (await post(operator, "/commands/cancel", id="A", uuid=uuid, reason="no")).json()
    assert closed == {"uuid": uuid, "state": "cancelled"}
    again = await post(operator, "/commands/cancel", id="A", uuid=uuid)
    assert again.status_code == 409


async def test_an_invitation_is_an_address_that_devices_can_open(
    house: House, operator: httpx.AsyncClient
) -> None:
    """design.md 3: prints a one-time URL."""
    answer = (await post(operator, "/invitations", valid_seconds=60, uses=1, serial="C02X")).json()
    assert answer["url"] == f"{URL}/enroll/{answer['code']}"
    wrong = await post(operator, "/invitations", valid_seconds=0, uses=1)
    assert wrong.status_code == 400
    assert house.settings.url == URL


async def test_a_policy_is_set_and_refused_by_name(operator: httpx.AsyncClient) -> None:
    """users.md: policies live in the database."""
    changed = await post(operator, "/policies", name="user_login", value="digest")
    assert changed.json() == {"name": "user_login", "value": "digest"}
    values = {
        item["name"]: item["value"] for item in (await operator.get("/policies")).json()["items"]
    }
    assert values["user_login"] == "digest"
    assert (await post(operator, "/policies", name="user_login", value="maybe")).status_code == 400
    assert (await post(operator, "/policies", name="none", value="x")).status_code == 404


async def test_a_released_device_is_revoked(house: House, operator: httpx.AsyncClient) -> None:
    """design.md 3: `ostiary device release`."""
    await enroll(house, "A")
    row = (await post(operator, "/device/release", id="A", reason="sold")).json()
    assert row["state"] == "revoked"


async def test_there_is_nothing_to_accept_where_nobody_contests(
    house: House, operator: httpx.AsyncClient
) -> None:
    """design.md 3: `ostiary device accept-certificate`."""
    await enroll(house, "A")
    refused = await post(operator, "/device/accept-certificate", id="A")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_accept")
    named = await post(
        operator, "/device/accept-certificate", id="A", fingerprint="AB:" * 31 + "AB"
    )
    assert named.status_code == 200


@pytest.mark.parametrize("fingerprint", ["AB", "AB:" * 32 + "AB", "g" * 64, "sha256 " + "a" * 64])
async def test_a_fingerprint_that_no_certificate_has_is_refused(
    house: House, operator: httpx.AsyncClient, fingerprint: str
) -> None:
    """It would wait for ever for a certificate that cannot come."""
    await enroll(house, "A")
    refused = await post(operator, "/device/accept-certificate", id="A", fingerprint=fingerprint)
    assert (refused.status_code, refused.json()["code"]) == (400, "fingerprint_unusable")
    assert "openssl" in refused.json()["hint"]


async def test_a_name_in_force_is_not_taken_from_its_token_unasked(
    house: House, operator: httpx.AsyncClient
) -> None:
    """A program that signs in with it would be shut out by somebody else's typing."""
    ask = {"name": "munki", "scopes": ["read"]}
    first = Secret((await post(operator, "/api-tokens", **ask)).json()["token"].encode())
    refused = await post(operator, "/api-tokens", **ask)
    assert (refused.status_code, refused.json()["code"]) == (409, "api_token_name_taken")
    assert "--replace" in refused.json()["hint"]
    assert (await house.tokens.identify(first)).name == "munki"
    replaced = await post(operator, "/api-tokens", **ask, replace=True)
    second = Secret(replaced.json()["token"].encode())
    assert (await house.tokens.identify(second)).name == "munki"
    with pytest.raises(ApiTokenUnknown):
        await house.tokens.identify(first)


async def test_a_name_is_free_once_its_token_has_expired(operator: httpx.AsyncClient) -> None:
    ask = {"name": "munki", "scopes": ["read"]}
    assert (await post(operator, "/api-tokens", **ask, valid_seconds=-1)).status_code == 200
    assert (await post(operator, "/api-tokens", **ask)).status_code == 200


async def test_a_push_of_an_unknown_device_says_so(operator: httpx.AsyncClient) -> None:
    (result,) = (await post(operator, "/pushes", ids=["X"])).json()
    assert result["family"] == "Missing"


async def test_a_certificate_request_keeps_its_key_here(operator: httpx.AsyncClient) -> None:
    """check-in-and-commands.md 5.7: the key never leaves the server."""
    made = (await post(operator, "/push-certificates/request", name="Test")).json()
    assert made["pem"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert "PRIVATE" not in json.dumps(made)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b'{"ids": 1}'])
async def test_an_ask_that_cannot_be_read_is_a_problem(
    operator: httpx.AsyncClient, body: bytes
) -> None:
    """users.md 5.4 case 20."""
    answer = await operator.post("/pushes", content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "ask_unreadable"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "kind=none"])
async def test_a_list_is_bounded(operator: httpx.AsyncClient, query: str) -> None:
    """users.md 3.2."""
    answer = await operator.get(f"/tokens?{query}")
    assert answer.status_code == 400


async def test_an_actor_that_is_none_is_the_operator(
    house: House, operator: httpx.AsyncClient
) -> None:
    """Whoever writes the log must not be able to forge its lines."""
    await enroll(house, "A")
    content = {"ids": ["A"], "command": "security-info"}
    await operator.post("/commands", json=content, headers={"X-Ostiary-Actor": "x" * 65})
    (line,) = (await operator.get("/commands?id=A")).json()["items"]
    assert line["source"] == "operator"


async def test_an_identity_is_renewed_only_where_the_profile_came_from_us(
    house: House, operator: httpx.AsyncClient
) -> None:
    """`ostiary identity renew`: tests/e2e/test_simulated_fleet.py shows one that works."""
    await enroll(house, "A")
    asked = await post(operator, "/identities/renew", ids=["A", "NOBODY"])
    foreign, unknown = asked.json()["results"]
    assert (foreign["id"], foreign["uuid"], foreign["family"]) == ("A", None, "Refused")
    assert "not one that this server issued" in foreign["error"]
    assert (unknown["id"], unknown["family"]) == ("NOBODY", "Missing")
    assert (await post(operator, "/identities/renew", ids=[])).status_code == 400


async def test_a_device_is_shown_with_what_somebody_should_look_at(
    house: House, operator: httpx.AsyncClient
) -> None:
    """The hints send people to `ostiary device show`; another device's alerts are not there."""
    await enroll(house, "A")
    await enroll(house, "B")
    alert = Alert(tenant=DEFAULT_TENANT, subject="A", kind="contested", sentence="Look at it.")
    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId("A"))
    await house.storage.enrollments.decide(
        Ask(who=who), lambda _seen: Change(at=house.clock.now(), answer=None, alerts=(alert,))
    )
    (shown,) = (await operator.get("/device", params={"id": "A"})).json()["alerts"]
    assert (shown["kind"], shown["sentence"], shown["count"]) == ("contested", "Look at it.", 1)
    assert (await operator.get("/device", params={"id": "B"})).json()["alerts"] == []
