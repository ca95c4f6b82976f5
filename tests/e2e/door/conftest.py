"""A whole Ostiary behind its front door, a foreign authority it trusts, and devices that sign with openssl."""

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fuzz.pki import NOW, Issued, issue, openssl_sign, rsa_key
from installation import copy_installation, make_installation
from ostiary.app import front_app
from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import DEFAULT_TENANT, RecordId, SealedValue
from ostiary.formats import plist
from ostiary.house import House, open_house
from ostiary.ports.storage import PushCertificate
from ostiary.protocol.mdm.checkin import Topic
from ostiary.settings import load_settings
from scenes.house import MovedClock

TOPIC = "com.apple.mgmt.External.6f3a6ae4-0000-4000-8000-00000000000d"
CHECKIN = "application/x-apple-aspen-mdm-checkin"
CONNECT = "application/x-apple-aspen-mdm; charset=UTF-8"


@dataclass
class Door:
    """The front door, and what a test may pull at behind it."""

    house: House
    client: httpx.AsyncClient
    authority: Issued
    devices: int = 0

    def device(self, **changes: Any) -> "SignedDevice":
        self.devices += 1
        certificate = changes.pop("certificate", None) or self.certificate(f"device {self.devices}")
        return SignedDevice(self, f"DOOR-{self.devices:04d}", certificate, **changes)

    def certificate(self, name: str, **changes: Any) -> Issued:
        starts = changes.pop("starts_at", NOW - timedelta(days=1))
        return issue(
            name, self.authority, key=rsa_key(1), starts_at=starts, ends_at=NOW + timedelta(days=30)
        )

    async def fill_disk(self) -> None:
        """Let the database have no page more than it has: whatever needs one fails as on a full disk."""
        await self._pragma("PRAGMA max_page_count = 1")  # it never goes below what is in use

    async def free_disk(self) -> None:
        await self._pragma("PRAGMA max_page_count = 1000000")

    async def _pragma(self, statement: str) -> None:
        engine = self.house.storage.enrollments._engine  # type: ignore[attr-defined]  # no port fills disks
        await engine.run(lambda transaction: transaction.read(statement))


@dataclass
class SignedDevice:
    """A device that speaks HTTP, each body signed by `openssl cms`."""

    door: Door
    udid: str
    certificate: Issued
    signing: tuple[str, ...] = ("-md", "sha256")
    headers: Mapping[str, str] = field(default_factory=dict)

    def signature(self, body: bytes) -> str:
        return base64.b64encode(openssl_sign(self.certificate, body, *self.signing)).decode()

    async def put(
        self, body: bytes, *, path: str = "/mdm", kind: str = CHECKIN, **headers: str | None
    ) -> httpx.Response:
        """Send a body; a header given as None is left out."""
        sent: dict[str, str | None] = {"Content-Type": kind, "Mdm-Signature": self.signature(body)}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.door.client.put(
            path,
            content=body,
            headers={name: value for name, value in sent.items() if value is not None},
        )

    async def send(self, message_type: str, **keys: Any) -> httpx.Response:
        return await self.put(self.message(message_type, **keys))

    def message(self, message_type: str, **keys: Any) -> bytes:
        fields = {"MessageType": message_type, "UDID": self.udid, **keys}
        return plist.encode({key: value for key, value in fields.items() if value is not None})

    async def authenticate(self) -> httpx.Response:
        return await self.send(
            "Authenticate",
            Topic=TOPIC,
            ProductName="iPhone15,2",
            OSVersion="18.1",
            SerialNumber=f"S{self.udid}",
        )

    async def token_update(self, **keys: Any) -> httpx.Response:
        values = {
            "Topic": TOPIC,
            "Token": b"\x01" * 32,
            "PushMagic": "magic",
            "UnlockToken": b"first",
        }
        return await self.send("TokenUpdate", **{**values, **keys})

    async def report(
        self, status: str = "Idle", uuid: str | None = None, **keys: Any
    ) -> httpx.Response:
        fields = {"Status": status, "UDID": self.udid, "CommandUUID": uuid, **keys}
        body = plist.encode({key: value for key, value in fields.items() if value is not None})
        return await self.put(body, kind=CONNECT)

    async def enroll(self) -> "SignedDevice":
        assert (await self.authenticate()).status_code == 200
        assert (await self.token_update()).status_code == 200
        answer = await self.report()
        while answer.content:
            uuid = plist.read_dict(answer.content).text("CommandUUID")
            answer = await self.report("Acknowledged", uuid)
        return self


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ostiary init` makes, once."""
    return make_installation(tmp_path_factory.mktemp("installation"))


@pytest.fixture
async def door(template: Path, tmp_path: Path) -> AsyncIterator[Door]:
    """An Ostiary that trusts one foreign authority and holds one push topic."""
    async with open_door(template, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_door(template: Path, tmp_path: Path, **flags: Any) -> AsyncIterator[Door]:
    """As the fixture, with more settings."""
    data = copy_installation(template, tmp_path / "data")
    authority = issue(
        "a foreign authority", key=rsa_key(0), authority=True, ends_at=NOW + timedelta(days=60)
    )
    (data / "foreign.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    settings = load_settings(data, trust_ca=[data / "foreign.pem"], **flags)
    async with open_house(settings, MovedClock(NOW)) as house:
        certificate = PushCertificate(
            topic=Topic(TOPIC),
            tenant=DEFAULT_TENANT,
            record_id=RecordId(hashlib.sha256(TOPIC.encode()).hexdigest()[:32]),
            certificate_pem=b"a certificate",
            sealed_key=SealedValue(b"a sealed key"),
            not_before=NOW,
            not_after=NOW + timedelta(days=365),
            imported_at=NOW,
        )
        audit = AuditEntry(
            tenant=DEFAULT_TENANT, actor="test", verb="apns-import", subject=TOPIC, reason=""
        )
        await house.storage.push_certificates.save_push_certificate(certificate, audit)
        transport = httpx.ASGITransport(app=front_app(house), raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="https://mdm.example.org"
        ) as client:
            yield Door(house, client, authority)
