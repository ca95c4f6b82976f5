"""What those who run the server ask."""

import httpx
import pytest
from starlette.routing import Route

from enrolled import enroll
from ostiary.app import front_app
from ostiary.errors import Missing, OstiaryError
from ostiary.house import House
from ostiary.ports.sealer import SealBroken
from ostiary.ports.storage import StorageFailed
from ostiary.services.api_tokens import ApiTokenUnknown
from ostiary.services.caller import ScopeMissing
from ostiary.services.gate import Presented, Visitor
from ostiary.web.front import FrontDoor, Wing
from ostiary.web.metrics import MOST_REQUEST_TYPES, PrometheusMeter
from ostiary.web.operations import operations_routes
from ostiary.web.problems import Door

DEVICE_ADDRESSES = ("/mdm", "/checkin", "/mdm/checkin", "/mdm/connect")
AWAY = ("203.0.113.7", 1)


def client_at(house: House, address: tuple[str, int]) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=front_app(house), client=address)
    return httpx.AsyncClient(transport=transport, base_url="https://mdm.example.org")


async def test_alive_and_ready_say_one_word(client: httpx.AsyncClient) -> None:
    """users.md 3.7."""
    assert (await client.get("/healthz")).text == "ok\n"
    assert (await client.get("/readyz")).text == "ready\n"


async def test_a_store_that_is_away_is_not_ready_and_says_no_more(house: House) -> None:
    """users.md 3.7: ready means the database is reachable."""

    async def check() -> None:
        raise StorageFailed(database="/planted/path")

    async def figures() -> bytes:
        return b""

    routes = operations_routes(check=check, figures=figures, tokens=house.tokens)
    transport = httpx.ASGITransport(app=FrontDoor([Wing(door=Door.API, routes=routes)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ready\n")


async def test_metrics_count_what_is_the_case(house: House, client: httpx.AsyncClient) -> None:
    """users.md 3.6: the names."""
    await enroll(house, "A")
    house.meter.checkin("TokenUpdate", "ok", 0.01)
    house.meter.push("accepted", None)
    house.meter.command_closed("DeviceLock", "done")
    page = (await client.get("/metrics")).text
    for line in (
        'ostiary_enrollments{state="enrolled",type="Device"} 1.0',
        'ostiary_checkin_total{msg_type="TokenUpdate",result="ok"} 1.0',
        'ostiary_push_total{reason="",result="accepted"} 1.0',
        'ostiary_command_results_total{request_type="DeviceLock",status="done"} 1.0',
        "ostiary_command_queue_depth 0.0",
        "ostiary_outbox_depth 0.0",
        "ostiary_checkin_duration_seconds_count 1.0",
    ):
        assert line in page.splitlines()
    assert "planted" not in page


async def test_metrics_are_for_this_machine_or_a_token(house: House) -> None:
    """They name topics and counts; a proxy on this machine is not this machine."""
    token = (await house.tokens.create("prometheus", ["read"], actor="anna")).reveal().decode()
    other = (await house.tokens.create("ci", ["push"], actor="anna")).reveal().decode()
    async with client_at(house, AWAY) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", auth=("x", other))).status_code == 403
        assert (await client.get("/metrics", auth=("x", token))).status_code == 200
    async with client_at(house, ("127.0.0.1", 1)) as client:
        assert (await client.get("/metrics")).status_code == 200
        proxied = {"X-Forwarded-For": "203.0.113.7"}
        assert (await client.get("/metrics", headers=proxied)).status_code == 401


def test_an_operators_words_do_not_grow_the_metrics_without_end() -> None:
    """users.md 3.6: few labels."""
    meter = PrometheusMeter()
    for number in range(MOST_REQUEST_TYPES + 50):
        meter.command_closed(f"Type{number}", "done")
    samples = [sample for metric in meter.registry.collect() for sample in metric.samples]
    types = {sample.labels.get("request_type") for sample in samples}
    assert "other" in types
    assert len(types) <= MOST_REQUEST_TYPES + 2


@pytest.mark.case("CI-52")
@pytest.mark.parametrize("path", DEVICE_ADDRESSES)
async def test_device_addresses_take_put_and_answer_400_to_a_stranger(
    client: httpx.AsyncClient, path: str
) -> None:
    """design.md 3, and the fail-safe rule of 3.7."""
    for content in (
        b"x",
        b"",
        b"<plist><dict><key>Status</key><string>Idle</string></dict></plist>",
    ):
        for headers in ({}, {"Mdm-Signature": ""}, {"Client-Cert": ":AAAA:"}):
            answer = await client.put(path, content=content, headers=headers)
            assert answer.status_code == 400
    assert (await client.get(path)).status_code == 405


async def test_every_address_is_one_of_design_3(house: House) -> None:
    """Deny by default: what is not named there does not exist."""
    app = front_app(house)
    assert isinstance(app, FrontDoor)
    assert sorted(app.addresses) == [
        *("/checkin", "/enroll", "/enroll/{code}", "/healthz", "/mdm", "/mdm/checkin"),
        *("/mdm/connect", "/metrics", "/readyz", "/scep", "/v1/enqueue/{ids}"),
        *("/v1/push/{ids}", "/v1/pushcert", "/version"),
    ]


def test_two_routes_for_one_address_are_noticed_at_start() -> None:
    """A second route would silently never be reached."""
    route = Route("/x", lambda _request: None, methods=["GET"])
    with pytest.raises(ValueError, match="two routes"):
        FrontDoor([Wing(door=Door.API, routes=[route, route])])


@pytest.mark.case("CQ-19")
@pytest.mark.parametrize("path", DEVICE_ADDRESSES)
@pytest.mark.parametrize(
    "fault",
    [
        *(ValueError("planted"), KeyError("planted"), RecursionError(), MemoryError(), OSError(28)),
        *(
            StorageFailed(),
            SealBroken(),
            ApiTokenUnknown(),
            ScopeMissing(),
            Missing(),
            OstiaryError(),
        ),
        TimeoutError(),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_whatever_fails_inside_no_device_is_told_to_leave(
    house: House, monkeypatch: pytest.MonkeyPatch, path: str, fault: Exception
) -> None:
    """check-in-and-commands.md 3.7: an internal exception is never 401 and never the 403 that unenrolls."""

    def fail(_presented: Presented) -> Visitor:
        raise fault

    monkeypatch.setattr(house.device_door.gate, "recognize", fail)
    async with client_at(house, AWAY) as client:
        answer = await client.put(path, content=b"x")
    assert answer.status_code in {400, 500, 503}
    assert "unrecognized" not in answer.text
    assert "planted" not in answer.text
