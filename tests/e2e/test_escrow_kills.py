"""SIGKILL of a real server while a simulated Mac changes its secrets: what the Mac holds is never missing afterwards.

Between its lives the house is opened here, for the operator's part and for the comparison.
Source: escrowed-secrets.md 4.0.2 rule 1, 4.0.3.
"""

import asyncio
import plistlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from socket import create_server

import httpx
import pytest

from e2e.fleet import HOST
from installation import journal_as_before
from lives.escrow_station import hold_topic
from lives.escrow_truth import Oracle, envelopes_noted
from ostiary.cli.main import run
from ostiary.domain.enrollment import Bound
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.errors import OstiaryError
from ostiary.house import House, SystemClock, open_house
from ostiary.protocol.mdm.filevault_profile import FileVaultOptions
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.escrow import Wish
from ostiary.settings import load_settings
from ostiary_sim.connections import TlsClients, Trust
from ostiary_sim.device import Device
from ostiary_sim.personality import PERSONALITIES
from ostiary_sim.retry import RetryPolicy
from scenes.house import OPERATOR
from served import Server, served

SHORT_ROUNDS, LONG_ROUNDS = 3, 60
MOST_REQUESTS = 6
LONGEST_LEFT = 0.02
"""Seconds that a server lives on when the request has come at which it dies; it answers in about half of them."""
KINDS = (TokenKind.RECOVERY_LOCK, TokenKind.RECOVERY_LOCK, TokenKind.FILEVAULT_KEY)


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """An installation that a device reaches at one address for all its life; nothing is ever pushed."""
    with create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
    data, address = tmp_path / "data", f"{HOST}:{port}"
    with journal_as_before():
        told = ["init", "--data", str(data), "--url", f"https://{address}", "--listen", address]
        assert run(told) == 0
    settings = data / "ostiary.toml"
    nowhere = f'[apns]\nhost = "{HOST}"\nport = 9\n'
    settings.write_text(settings.read_text().replace("[apns]\n", nowhere))
    return data


async def test_what_a_mac_holds_survives_kills_of_the_server(
    installation: Path, long_form: bool
) -> None:
    with envelopes_noted() as envelopes:
        tried = Trial(installation, Oracle(envelopes, Counter()))
        await tried.begin()
        for number in range(LONG_ROUNDS if long_form else SHORT_ROUNDS):
            await tried.round(number)
        await tried.close()
    compared = tried.oracle.compared
    assert compared["recovery-lock"] or compared["filevault-key"], "no secret was ever looked for"


@contextmanager
def killed_in_the_end(data: Path) -> Iterator[Server]:
    """A server that never has the time to put its things away."""
    with served(data) as server:
        yield server
    server.ready_file.unlink(missing_ok=True)


class Trial:
    """One Mac, and the servers that are killed under it."""

    def __init__(self, data: Path, oracle: Oracle) -> None:
        self.oracle = oracle
        self._data = data
        self._chance = random.Random(4)
        self._requests_left = 0
        self._kill: Callable[[], None] = _nobody
        self._clients = TlsClients(load_settings(data).places.ca_bundle)
        self._mac = Device(
            PERSONALITIES["mac"],
            http=self._client,
            clock=SystemClock().now,
            seed=4,
            sleeper=asyncio.sleep,
            retry=RetryPolicy(attempts=1),
            listener=lambda event: oracle.watch(self._mac, event),
        )

    def _client(self, trust: Trust) -> httpx.AsyncClient:
        """A client that tells the oracle what was said and how it was answered."""
        client = self._clients(trust)
        client.event_hooks = {"request": [self._aim], "response": [self._note]}
        return client

    async def _aim(self, _request: httpx.Request) -> None:
        """The server dies somewhere in the request whose turn has come."""
        self._requests_left -= 1
        if self._requests_left == 0:
            asyncio.get_running_loop().call_later(self._chance.uniform(0, LONGEST_LEFT), self._kill)

    async def _note(self, response: httpx.Response) -> None:
        if response.request.method == "PUT":
            self.oracle.hear(plistlib.loads(response.request.content), response.status_code)

    async def begin(self) -> None:
        """The Mac enrolls, is encrypted under the escrow profile, and has a password for recoveryOS."""
        async with open_house(load_settings(self._data)) as house:
            await hold_topic(house, SystemClock().now())
            _, code = await house.invitations.invite(
                DEFAULT_TENANT, Bound(), valid_for=timedelta(hours=1), uses=1, actor="test"
            )
            profile = await house.enrollment.profile_for(code)
        with killed_in_the_end(self._data):
            await self._mac.enroll(profile)
            await self._mac.idle()
        async with open_house(load_settings(self._data)) as house:
            await house.filevault.install(
                self._id, OPERATOR, location="the help desk", options=FileVaultOptions()
            )
        with killed_in_the_end(self._data):
            await self._mac.idle()
            self._mac.turn_on_filevault()
            await self._mac.user_login("ada")
        async with open_house(load_settings(self._data)) as house:
            await self._want(house)
        with killed_in_the_end(self._data):
            await self._mac.idle()

    async def round(self, number: int) -> None:
        """An operator wants something changed; the server dies while the Mac obeys; what is held is compared."""
        async with open_house(load_settings(self._data)) as house:
            await self._want(house)
        with killed_in_the_end(self._data) as server:
            self._requests_left = self._chance.randint(1, MOST_REQUESTS)
            self._kill = server.process.kill
            await self._mac.idle()
        async with open_house(load_settings(self._data)) as house:
            await self.oracle.check(house, self._mac, SystemClock().now(), is_double=False)
        assert self._mac.profile is not None, f"round {number} made the Mac leave"

    async def _want(self, house: House) -> None:
        kind = self._chance.choice(KINDS)
        with suppress(OstiaryError):  # a change under way, or none that can be asked for yet
            await house.escrow.change(Wish(enrollment_id=self._id, kind=kind), OPERATOR)
        await house.desk.enqueue([self._id], {"RequestType": "SecurityInfo"}, OPERATOR)

    @property
    def _id(self) -> EnrollmentId:
        return EnrollmentId(self._mac.udid)

    async def close(self) -> None:
        await self._mac.close()
        await self._clients.aclose()


def _nobody() -> None:
    """No server is to die."""
