"""NanoMDM's API: the same methods, codes and JSON. (users.md 3.4.1)"""

import asyncio
import plistlib
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from enrolled import enroll
from ostiary import __version__
from ostiary.domain.token import TenantId
from ostiary.errors import Unavailable
from ostiary.house import House
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.push import PushResult
from ostiary.web.front import FrontDoor, Wing
from ostiary.web.nano import NanoApi, NanoServices
from ostiary.web.nano_push import CoalescedPushes
from ostiary.web.problems import Door

COMMAND = plistlib.dumps(
    {"CommandUUID": "C1", "Command": {"RequestType": "ProfileList", "ManagedOnly": True}}
)
LOCK = plistlib.dumps({"Command": {"RequestType": "DeviceLock"}})


class FakePushes:
    """A PushService that APNs always takes from, but for ids that say otherwise."""

    def __init__(self) -> None:
        self.pushed: list[str] = []

    async def push_now(
        self, tenant: TenantId, ids: Iterable[EnrollmentId]
    ) -> tuple[PushResult, ...]:
        assert tenant == "default"
        await asyncio.sleep(0)
        return tuple(self._push(one) for one in ids)

    def _push(self, one: EnrollmentId) -> PushResult:
        self.pushed.append(one)
        if one.startswith("DEAD"):
            return PushResult(enrollment_id=one, error=Unavailable("APNs is away"))
        return PushResult(enrollment_id=one, apns_id=f"apns-{len(self.pushed)}")


class Nano:
    """The API with a program before it and faked pushes behind it."""

    def __init__(self, house: House, debounce_seconds: float) -> None:
        self.house = house
        self.pushes = FakePushes()
        services = NanoServices(
            tokens=house.tokens,
            desk=house.desk,
            pushes=CoalescedPushes(self.pushes, debounce_seconds),  # type: ignore[arg-type]  # a fake
            certificates=house.push_certificates,
            budget=house.budget,
        )
        app = FrontDoor([Wing(door=Door.NANO, routes=NanoApi(services).routes())])
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://nano"
        )

    async def sign_in(self, *scopes: str) -> None:
        token = await self.house.tokens.create("ci", scopes, actor="anna")
        self.client.auth = httpx.BasicAuth("nanomdm", token.reveal().decode())

    def sign_out(self) -> None:
        self.client.auth = httpx.Auth()  # which adds nothing

    async def send(self, method: str, path: str, content: bytes | None = None) -> tuple[int, Any]:
        response = await self.client.request(method, path, content=content)
        assert response.headers["content-type"] == "application/json"
        return response.status_code, response.json()

    async def queued(self, enrollment_id: str) -> list[str]:
        lines = await self.house.storage.reports.list_commands(
            TenantId("default"), EnrollmentId(enrollment_id), live_only=True, limit=100
        )
        return [line.uuid for line in lines]


@pytest.fixture
async def nano(house: House) -> AsyncIterator[Nano]:
    for name in ("A", "B", "DEAD"):
        await enroll(house, name)
    api = Nano(house, debounce_seconds=60)
    await api.sign_in("commands", "push", "pushcert")
    async with api.client:
        yield api


async def test_the_version_is_open_to_all(nano: Nano) -> None:
    nano.sign_out()
    assert await nano.send("GET", "/version") == (200, {"version": __version__})


@pytest.mark.parametrize("path", ["/v1/push/A", "/v1/enqueue/A", "/v1/pushcert"])
async def test_nothing_else_is(nano: Nano, path: str) -> None:
    """401 with the realm that NanoMDM names, whatever is wrong with the sign-in."""
    await asyncio.sleep(0)
    for headers in (
        {},
        {"Authorization": "Basic !"},
        {"Authorization": "Basic bmFub21kbTpuYW5vbWRt"},
        {"Authorization": "Bearer nanomdm"},
        {"Authorization": "Digest x"},
    ):
        nano.sign_out()
        response = await nano.client.put(path, headers=headers)
        if response.status_code == 405:
            response = await nano.client.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Basic realm="nanomdm"'
        assert response.headers["content-type"] == "application/json"
        assert response.text.startswith('{\n\t"error": "')


async def test_any_user_name_will_do_and_bearer_too(nano: Nano) -> None:
    """design.md 3."""
    token = (await nano.house.tokens.create("x", ["push"], actor="anna")).reveal().decode()
    for auth in (httpx.BasicAuth("micromdm", token), httpx.BasicAuth("", token)):
        nano.client.auth = auth
        assert (await nano.send("GET", "/v1/push/A"))[0] == 200
    nano.sign_out()
    response = await nano.client.get("/v1/push/A", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200


async def test_a_push_answers_with_apns_id(nano: Nano) -> None:
    assert await nano.send("GET", "/v1/push/A,B") == (
        200,
        {"status": {"A": {"push_result": "apns-1"}, "B": {"push_result": "apns-2"}}},
    )


async def test_the_json_is_indented_by_tabs(nano: Nano) -> None:
    response = await nano.client.get("/v1/push/A")
    assert (
        response.text
        == '{\n\t"status": {\n\t\t"A": {\n\t\t\t"push_result": "apns-1"\n\t\t}\n\t}\n}\n'
    )


async def test_some_failed_is_207_and_all_failed_is_500(nano: Nano) -> None:
    code, said = await nano.send("GET", "/v1/push/A,DEAD")
    assert (code, said["status"]["DEAD"]) == (207, {"push_error": "APNs is away"})
    assert (await nano.send("GET", "/v1/push/DEAD"))[0] == 500


async def test_a_command_is_queued_and_pushed(nano: Nano) -> None:
    assert await nano.send("PUT", "/v1/enqueue/A,B", COMMAND) == (
        200,
        {
            "status": {"A": {"push_result": "apns-1"}, "B": {"push_result": "apns-2"}},
            "command_uuid": "C1",
            "request_type": "ProfileList",
        },
    )
    assert await nano.queued("A") == await nano.queued("B") == ["C1"]


async def test_destructive_commands_beyond_the_cap_are_queued_for_nobody(nano: Nano) -> None:
    """Issue 4, item 6: this door has the cap, too; who counts the devices may go beyond it."""
    await nano.house.policies.change("most_destructive_an_hour", "1", actor="anna")
    token = await nano.house.tokens.create("eraser", ["admin"], actor="anna")
    nano.client.auth = httpx.BasicAuth("nanomdm", token.reveal().decode())
    erase = plistlib.dumps({"Command": {"RequestType": "EraseDevice"}, "CommandUUID": "E1"})
    code, said = await nano.send("PUT", "/v1/enqueue/A,B?nopush=1", erase)
    assert code == 403
    assert "one hour" in str(said)
    assert await nano.queued("A") == []
    code, _ = await nano.send("PUT", "/v1/enqueue/A,B?nopush=1&confirm=three", erase)
    assert (code, await nano.queued("A")) == (400, [])
    code, _ = await nano.send("PUT", "/v1/enqueue/A,B?nopush=1&confirm=2", erase)
    assert (code, await nano.queued("A")) == (200, ["E1"])


async def test_nopush_queues_only(nano: Nano) -> None:
    """Any value that is not empty."""
    assert await nano.send("PUT", "/v1/enqueue/A?nopush=0", COMMAND) == (
        200,
        {"no_push": True, "command_uuid": "C1", "request_type": "ProfileList"},
    )
    assert nano.pushes.pushed == []
    await nano.send("PUT", "/v1/enqueue/B?nopush=", COMMAND)
    assert nano.pushes.pushed == ["B"]


async def test_an_unknown_id_is_named_and_the_others_are_served(nano: Nano) -> None:
    code, said = await nano.send("PUT", "/v1/enqueue/A,NOBODY", COMMAND)
    assert code == 207
    assert said["status"]["A"] == {"push_result": "apns-1"}
    assert "No enrollment of this id" in said["status"]["NOBODY"]["command_error"]
    assert (await nano.send("PUT", "/v1/enqueue/NOBODY", COMMAND))[0] == 500


@pytest.mark.parametrize("body", [b"garbage", plistlib.dumps([]), plistlib.dumps({"Command": {}})])
async def test_a_command_that_cannot_be_read_is_500_and_queues_nothing(
    nano: Nano, body: bytes
) -> None:
    """As NanoMDM says it: command_error, `decoding command`."""
    code, said = await nano.send("PUT", "/v1/enqueue/A", body)
    assert code == 500
    assert list(said) == ["command_error"]
    assert said["command_error"].startswith("decoding command: ")
    assert await nano.queued("A") == []
    assert nano.pushes.pushed == []


async def test_without_a_command_it_only_pushes(nano: Nano) -> None:
    assert await nano.send("PUT", "/v1/enqueue/A") == (
        200,
        {"status": {"A": {"push_result": "apns-1"}}},
    )
    assert await nano.send("PUT", "/v1/enqueue/A?nopush=1") == (
        500,
        {"no_push": True, "command_error": "must enqueue or push"},
    )


async def test_a_destructive_command_needs_its_own_scope(nano: Nano) -> None:
    """design.md 5: classified by its RequestType, also behind /v1/enqueue."""
    code, said = await nano.send("PUT", "/v1/enqueue/A", LOCK)
    assert (code, list(said)) == (403, ["error"])
    assert await nano.queued("A") == []
    await nano.sign_in("commands", "commands:destructive")
    assert (await nano.send("PUT", "/v1/enqueue/A", LOCK))[0] == 200


async def test_a_token_without_the_scope_is_refused(nano: Nano) -> None:
    await nano.sign_in("read")
    for method, path in (("GET", "/v1/push/A"), ("PUT", "/v1/enqueue/A"), ("PUT", "/v1/pushcert")):
        code, said = await nano.send(method, path)
        assert (code, list(said)) == (403, ["error"])


async def test_a_push_certificate_is_asked_for_by_topic(nano: Nano) -> None:
    assert await nano.send("GET", "/v1/pushcert") == (
        400,
        {"error": "missing required query parameter: topic"},
    )
    assert (await nano.send("GET", "/v1/pushcert?topic=com.apple.mgmt.none"))[0] == 500
    assert (await nano.client.post("/v1/pushcert")).status_code == 405


@pytest.mark.parametrize("body", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n"])
async def test_a_push_certificate_that_is_none_is_400(nano: Nano, body: bytes) -> None:
    code, said = await nano.send("PUT", "/v1/pushcert", body)
    assert (code, list(said)) == (400, ["error"])


async def test_many_pushes_at_once_are_one(nano: Nano) -> None:
    """check-in-and-commands.md 5.2: enqueue many commands, push once."""
    answers = await asyncio.gather(
        *(
            nano.send("PUT", "/v1/enqueue/A", LOCK.replace(b"DeviceLock", b"CertificateList"))
            for _ in range(20)
        )
    )
    assert {code for code, _ in answers} == {200}
    assert {said["status"]["A"]["push_result"] for _, said in answers} == {"apns-1"}
    assert len(await nano.queued("A")) == 20
    assert nano.pushes.pushed == ["A"]


async def test_a_push_that_failed_is_not_shared_with_later_ones(nano: Nano) -> None:
    """Whoever tries again gets another try."""
    await nano.send("GET", "/v1/push/DEAD")
    await nano.send("GET", "/v1/push/DEAD")
    assert nano.pushes.pushed == ["DEAD", "DEAD"]


async def test_later_pushes_are_pushes_of_their_own(house: House) -> None:
    """Coalescing has an end."""
    api = Nano(house, debounce_seconds=0)
    await api.sign_in("push")
    async with api.client:
        await api.send("GET", "/v1/push/A")
        await asyncio.sleep(0.01)
        await api.send("GET", "/v1/push/A")
    assert api.pushes.pushed == ["A", "A"]


async def test_an_expired_token_signs_in_nobody(nano: Nano) -> None:
    """design.md 5: tokens expire."""
    token = await nano.house.tokens.create(
        "old", ["push"], actor="anna", valid_for=timedelta(seconds=-1)
    )
    nano.client.auth = httpx.BasicAuth("x", token.reveal().decode())
    assert (await nano.client.get("/v1/push/A")).status_code == 401
