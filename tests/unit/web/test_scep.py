"""`/scep` over HTTP: operations, content types, bounds."""

import base64
from collections.abc import AsyncIterator

import httpx
import pytest

from fuzz.scep_client import Requester
from ostiary.web.body import BodyBudget
from ostiary.web.front import FrontDoor, Wing
from ostiary.web.problems import Door
from ostiary.web.scep import scep_routes
from unit.services.enrollment_world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    routes = scep_routes(world.scep(), BodyBudget(1024 * 1024))
    door = FrontDoor([Wing(door=Door.DEVICE, routes=routes)])
    transport = httpx.ASGITransport(app=door)
    async with httpx.AsyncClient(transport=transport, base_url="https://mdm.example.org") as client:
        yield client


async def _ask(world: World) -> tuple[Requester, bytes]:
    await world.add_challenge(b"once")
    device = world.requester()
    return device, device.request(b"once")


async def test_capabilities_are_plain_lines(http: httpx.AsyncClient) -> None:
    """Source: check-in-and-commands.md 6.3; RFC 8894 3.5.2."""
    answer = await http.get("/scep", params={"operation": "GetCACaps"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert set(answer.text.splitlines()) == {
        "AES",
        "POSTPKIOperation",
        "Renewal",
        "SHA-256",
        "SHA-512",
        "SCEPStandard",
    }


async def test_the_ca_is_one_certificate(http: httpx.AsyncClient, world: World) -> None:
    answer = await http.get("/scep", params={"operation": "GetCACert", "message": "Ostiary"})
    assert answer.headers["content-type"] == "application/x-x509-ca-cert"
    assert answer.content == world.authority.certificate


async def test_a_posted_request_is_answered(http: httpx.AsyncClient, world: World) -> None:
    device, message = await _ask(world)
    answer = await http.post("/scep", params={"operation": "PKIOperation"}, content=message)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-pki-message"
    assert answer.headers["cache-control"] == "no-store"
    assert device.open(answer.content).status == "0"


@pytest.mark.parametrize("escaped", [True, False])
async def test_a_request_in_the_address_is_answered(
    http: httpx.AsyncClient, world: World, escaped: bool
) -> None:
    """Clients forget to escape the plus of base64; a blank there can mean nothing else."""
    device, message = await _ask(world)
    text = base64.b64encode(message).decode()
    spelled = text.replace("+", "%2B") if escaped else text
    answer = await http.get(f"/scep?operation=PKIOperation&message={spelled}")
    assert device.open(answer.content).status == "0"


async def test_a_failure_of_pki_is_an_answer_and_not_an_http_error(
    http: httpx.AsyncClient, world: World
) -> None:
    device = world.requester()
    answer = await http.post(
        "/scep", params={"operation": "PKIOperation"}, content=device.request(b"guess")
    )
    assert answer.status_code == 200
    assert device.open(answer.content).status == "2"


@pytest.mark.parametrize(
    ("method", "query", "body", "status"),
    [
        ("GET", "", b"", 400),
        ("GET", "operation=getcacert", b"", 400),
        ("GET", "operation=GetNextCACert", b"", 400),
        ("POST", "operation=GetCACert", b"", 400),
        ("HEAD", "operation=PKIOperation&message=AAAA", b"", 400),
        ("GET", "operation=PKIOperation", b"", 400),
        ("GET", "operation=PKIOperation&message=%21%21", b"", 400),
        ("GET", "operation=PKIOperation&message=AAAA", b"", 400),
        ("POST", "operation=PKIOperation", b"", 400),
        ("POST", "operation=PKIOperation", b"no message", 400),
        ("POST", "operation=PKIOperation", b"0" * (64 * 1024 + 1), 413),
        ("GET", "operation=PKIOperation&message=" + "A" * 30_000, b"", 413),
        ("PUT", "operation=PKIOperation", b"", 405),
    ],
)
async def test_everything_else_is_refused(
    http: httpx.AsyncClient, world: World, method: str, query: str, body: bytes, status: int
) -> None:
    answer = await http.request(method, f"/scep?{query}", content=body)
    assert answer.status_code == status
    assert not world.challenges.issued
