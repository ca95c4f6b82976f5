"""Where one life of secrets is played: a real house on SQLite, which fails and dies when it is told to, and comes back."""

import hashlib
import plistlib
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw
import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from typing_extensions import override

from installation import make_installation
from ostiary.app import front_app
from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import DEFAULT_TENANT, RecordId, SealedValue
from ostiary.formats import plist
from ostiary.house import House, SystemClock, open_house
from ostiary.keys.authority import open_device_authority
from ostiary.keys.escrow_key import make_escrow_key
from ostiary.ports.escrow_keys import EscrowKey
from ostiary.ports.storage import PushCertificate
from ostiary.protocol.mdm.checkin import Topic
from ostiary.secret import Secret
from ostiary.settings import load_settings
from ostiary_sim.identity import new_rsa_key
from scenes.house import TOPIC, MovedClock

IN_MEMORY = Path("/dev/shm")
DATABASE = "ostiary.sqlite"
STEPS = ("sealed", "loaded", "ruled", "written", "released", "committing", "committed")
"""Where a house may die; see ports/trace.py."""
KEYS = 3
ESCROW_KEYS = 12


@dataclass(frozen=True)
class Template:
    """An installation that many lives begin with, and the RSA keys that they share: keys cost more than a life."""

    data: Path
    start: datetime
    device_keys: Sequence[rsa.RSAPrivateKey]
    escrow_keys: Sequence[EscrowKey]


def make_template(folder: Path) -> Template:
    """A new one, in a directory of its own; not to be called within an event loop."""
    data, start = make_installation(folder), SystemClock().now()
    keys = [make_escrow_key(f"life {number}", start, bits=2048) for number in range(ESCROW_KEYS)]
    return Template(data, start, [new_rsa_key(2048) for _ in range(KEYS)], keys)


class Trouble:
    """A trace that fails commits, or takes a picture of the disk at the instant at which the house dies."""

    def __init__(self) -> None:
        self.failures = 0
        """So many commits fail."""
        self.dies_at: str | None = None
        self.dies_after = 0
        """So many times that step is passed unharmed."""
        self.is_dead = False
        self.database = Path()
        self.picture = Path()

    def __call__(self, step: str) -> None:
        """A step of a decision passes."""
        if not self.is_dead and step == self.dies_at:
            if self.dies_after:
                self.dies_after -= 1
            else:
                self._die()
        if step == "committing" and self.failures and not self.is_dead:
            self.failures -= 1
            raise apsw.IOError("disk I/O error")

    def _die(self) -> None:
        """What is on the disk now is all that the next house will find; the old one lives on and is heard by nobody."""
        for suffix in ("", "-wal"):
            source = self.database.with_name(self.database.name + suffix)
            if source.exists():
                shutil.copyfile(source, self.picture.with_name(self.picture.name + suffix))
        self.is_dead, self.dies_at = True, None


@dataclass
class Station:
    """One house at a time, reached by devices as over HTTP; `house` opens it again if it has died."""

    template: Template
    folder: Path
    clock: MovedClock
    trouble: Trouble = field(default_factory=Trouble)
    deaths: int = 0
    loses_answers: int = 0
    """So many answers do not reach the device: the server has done its part."""
    heard: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    """What devices said and how it was answered (also where the answer was lost); the oracle empties it."""
    _opened: tuple[House, httpx.ASGITransport] | None = None
    _context: AbstractAsyncContextManager[House] | None = None

    async def house(self) -> House:
        """The house that stands now."""
        return (await self._standing())[0]

    async def _standing(self) -> tuple[House, httpx.ASGITransport]:
        if self.trouble.is_dead:
            await self.close()
            self.deaths += 1
        if self._opened is None:
            self._opened = await self._open()
        return self._opened

    async def _open(self) -> tuple[House, httpx.ASGITransport]:
        data = self.folder / f"house-{self.deaths}"
        if self.deaths == 0:
            shutil.copytree(self.template.data, data)
        self._plan_picture(data)
        context = open_house(load_settings(data), self.clock, self.trouble)
        house = await context.__aenter__()
        self._context = context
        if self.deaths == 0:
            await hold_topic(house, self.clock.now())
        transport = httpx.ASGITransport(front_app(house), raise_app_exceptions=True)
        return house, transport

    def _plan_picture(self, data: Path) -> None:
        following = self.folder / f"house-{self.deaths + 1}"
        shutil.copytree(
            self.template.data, following, ignore=shutil.ignore_patterns(f"{DATABASE}*")
        )
        self.trouble.is_dead = False
        self.trouble.database, self.trouble.picture = data / DATABASE, following / DATABASE

    async def close(self) -> None:
        """Close whatever stands. What a dead house still writes is in a file that nobody opens again."""
        self.trouble.failures, self.trouble.dies_at = 0, None
        context, self._context, self._opened = self._context, None, None
        if context is not None:
            await context.__aexit__(None, None, None)

    async def reopen(self) -> None:
        """An orderly restart: the same file."""
        await self.close()
        shutil.move(self.folder / f"house-{self.deaths}", self.folder / "resting")
        shutil.rmtree(self.folder / f"house-{self.deaths + 1}")
        self.deaths += 1
        shutil.move(self.folder / "resting", self.folder / f"house-{self.deaths}")

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """What the house says; nothing if it dies meanwhile, or the answer gets lost."""
        _, transport = await self._standing()
        response = await transport.handle_async_request(request)
        await response.aread()
        if self.trouble.is_dead:
            raise httpx.ReadError("the server is gone", request=request)
        self._note(request, response.status_code)
        if self.loses_answers:
            self.loses_answers -= 1
            raise httpx.ReadError("the answer got lost", request=request)
        return response

    def _note(self, request: httpx.Request, status: int) -> None:
        if request.method == "PUT":
            self.heard.append((plistlib.loads(request.content), status))


class Line(httpx.AsyncBaseTransport):
    """The network between a device and whichever house stands."""

    def __init__(self, station: Station) -> None:
        self._station = station

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return await self._station.answer(request)


@asynccontextmanager
async def open_station(template: Template, folder: Path) -> AsyncIterator[Station]:
    """A house on a copy of the template, closed in the end."""
    station = Station(template, folder, MovedClock(template.start))
    try:
        yield station
    finally:
        await station.close()


@contextmanager
def shared_keys(template: Template) -> Iterator[None]:
    """Within it the server takes its RSA keys from the template, instead of making them or proving them prime."""
    keys = cycle(template.escrow_keys)
    authority = open_device_authority(*load_settings(template.data).places.device_ca)

    def make(_holder: str, _now: datetime, *, bits: int) -> EscrowKey:
        assert bits >= 2048
        return next(keys)

    with (
        patch("ostiary.house.open_device_authority", lambda *_paths: authority),
        patch("ostiary.keys.escrow_key.make_escrow_key", make),
        patch("ostiary.services.escrow.salted_sha512_pbkdf2", _cheap_hash),
        patch("ostiary.services.admin_account.salted_sha512_pbkdf2", _cheap_hash),
    ):
        yield


def _cheap_hash(password: Secret, *, salt: bytes) -> Secret:
    """One round: nobody guesses passwords here. The real one is proven in tests/unit/protocol."""
    entropy = hashlib.pbkdf2_hmac("sha512", password.reveal(), salt, 1, 128)
    inner: plist.PlistValue = {"entropy": entropy, "salt": salt, "iterations": 1}
    return Secret(plist.encode({"SALTED-SHA512-PBKDF2": inner}))


async def hold_topic(house: House, now: datetime) -> None:
    """Let enrollment profiles have a topic; nothing can be pushed under it."""
    certificate = PushCertificate(
        topic=Topic(TOPIC),
        tenant=DEFAULT_TENANT,
        record_id=RecordId("70" * 16),
        certificate_pem=b"a certificate",
        sealed_key=SealedValue(b"a sealed key"),
        not_before=now,
        not_after=now + timedelta(days=3650),
        imported_at=now,
    )
    audit = AuditEntry(
        tenant=DEFAULT_TENANT, actor="life", verb="apns-import", subject=TOPIC, reason=""
    )
    await house.storage.push_certificates.save_push_certificate(certificate, audit)
