"""`/enroll`: what browsers, devices and previews get, and what nobody can inject."""

from collections.abc import AsyncIterator

import httpx
import pytest

from ostiary.secret import Secret
from ostiary.services.enrollment import NoPushCertificate
from ostiary.services.invitations import InvitationRefused
from ostiary.web.body import BodyBudget
from ostiary.web.enroll import enroll_routes
from ostiary.web.front import FrontDoor, Wing
from ostiary.web.problems import Door

HTML = {"Accept": "text/html,application/xhtml+xml"}


class Profiles:
    """Stands for EnrollmentService.profile_for: one good code, and a count of profiles made."""

    def __init__(self) -> None:
        self.made = 0
        self.asked: list[bytes] = []

    async def profile_for(self, code: Secret) -> bytes:
        self.asked.append(code.reveal())
        if code == Secret(b"nopush"):
            raise NoPushCertificate
        if code != Secret(b"GOOD-CODE"):
            raise InvitationRefused
        self.made += 1
        return b"a profile"


@pytest.fixture
def profiles() -> Profiles:
    return Profiles()


@pytest.fixture
async def http(profiles: Profiles) -> AsyncIterator[httpx.AsyncClient]:
    routes = enroll_routes(profiles.profile_for, BodyBudget(1024 * 1024))
    door = FrontDoor([Wing(door=Door.ENROLLMENT, routes=routes)])
    transport = httpx.ASGITransport(app=door)
    async with httpx.AsyncClient(transport=transport, base_url="https://mdm.example.org") as client:
        yield client


@pytest.mark.parametrize("address", ["/enroll?code=GOOD-CODE", "/enroll/GOOD-CODE"])
async def test_a_code_gets_a_profile(http: httpx.AsyncClient, address: str) -> None:
    """Source: check-in-and-commands.md 6.5."""
    answer = await http.get(address, headers=HTML)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-apple-aspen-config"
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.content == b"a profile"


async def test_the_form_sends_what_the_address_may_hold(
    http: httpx.AsyncClient, profiles: Profiles
) -> None:
    answer = await http.post("/enroll", data={"code": "GOOD-CODE"}, headers=HTML)
    assert answer.content == b"a profile"
    assert profiles.asked == [b"GOOD-CODE"]


@pytest.mark.parametrize("address", ["/enroll", "/enroll?code="])
async def test_without_a_code_a_page_asks_for_it(
    http: httpx.AsyncClient, profiles: Profiles, address: str
) -> None:
    """Source: design.md 3, bare GET /enroll."""
    answer = await http.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert '<form method="post" action="/enroll">' in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "<script" not in answer.text
    assert not profiles.asked


@pytest.mark.parametrize("address", ["/enroll?code=GOOD-CODE", "/enroll/GOOD-CODE", "/enroll"])
async def test_looking_without_fetching_makes_nothing(
    http: httpx.AsyncClient, profiles: Profiles, address: str
) -> None:
    """Previews of messages and proxies send HEAD."""
    answer = await http.head(address)
    assert answer.status_code == 200
    assert profiles.made == 0
    assert not profiles.asked


@pytest.mark.parametrize(
    "code", ["<script>alert(1)</script>", "$title", "{{7*7}}", '"><img src=x>', "\u202egnp"]
)
async def test_a_browser_is_told_on_a_page_that_shows_nothing_it_sent(
    http: httpx.AsyncClient, code: str
) -> None:
    """Source: users.md 5.4 item 9."""
    for answer in (
        await http.get("/enroll", params={"code": code}, headers=HTML),
        await http.post("/enroll", data={"code": code}, headers=HTML),
    ):
        assert answer.status_code == 403
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "This code does not open an invitation" in answer.text
        assert "ask for a new one" in answer.text
        assert code not in answer.text
        assert "$" not in answer.text
        assert "WWW-Authenticate" not in answer.headers


async def test_a_device_is_told_in_plain_text(http: httpx.AsyncClient) -> None:
    answer = await http.get("/enroll?code=wrong")
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/plain")


async def test_what_the_operator_forgot_is_said_with_its_remedy(http: httpx.AsyncClient) -> None:
    answer = await http.get("/enroll?code=nopush", headers=HTML)
    assert answer.status_code == 503
    assert "ostiary apns csr" in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"\xff\xfe", 400), (b"a=1&b=2&c=3&d=4&e=5", 400), (b"code=" + b"x" * 5000, 413)],
)
async def test_a_form_that_is_not_ours_is_refused(
    http: httpx.AsyncClient, profiles: Profiles, body: bytes, status: int
) -> None:
    answer = await http.post("/enroll", content=body)
    assert answer.status_code == status
    assert not profiles.asked


async def test_no_log_line_holds_a_code(
    http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Query strings are secrets. Source: escrowed-secrets.md 4.0.2 rule 5."""
    for address in ("/enroll?code=TOPSECRET", "/enroll/TOPSECRET", "/enroll?code=GOOD-CODE"):
        await http.get(address, headers=HTML)
    await http.post("/enroll", data={"code": "TOPSECRET"}, headers=HTML)
    said = capsys.readouterr()
    assert "request_answered" in said.out
    assert "TOPSECRET" not in said.out + said.err
    assert "GOOD-CODE" not in said.out + said.err
