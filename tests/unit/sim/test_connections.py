"""Real TLS: the profile's anchors are trusted, others are not, and an identity is shown where nothing is signed."""

import asyncio
import plistlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from ostiary_sim.apns import PushAuthority
from ostiary_sim.connections import TlsClients, load_identity
from ostiary_sim.device import Device
from ostiary_sim.errors import EnrollmentRefused
from ostiary_sim.personality import PERSONALITIES
from unit.sim.fake_mdm import FakeMdm


@asynccontextmanager
async def tls_server(authority: PushAuthority) -> AsyncIterator[tuple[int, list[bytes | None]]]:
    """Answers 200 to whatever comes and notes which client certificates were shown."""
    shown: list[bytes | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                (length,) = [int(x[15:]) for x in lines if x.startswith("content-length:")]
                await reader.readexactly(length)
                shown.append(writer.get_extra_info("ssl_object").getpeercert(True))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority.ca_pem.decode())
    load_identity(context, authority.issue_server_certificate())
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], shown


def profile(
    server: FakeMdm, authority: PushAuthority, port: int, *, trusted: bool, **changes: Any
) -> tuple[bytes, x509.Certificate]:
    """A profile for that server, with a PKCS#12 identity of the same authority."""
    url = f"https://127.0.0.1:{port}/mdm"
    top = plistlib.loads(server.profile(sign=False, ServerURL=url, CheckInURL=None, **changes))
    ours = authority.issue_push_certificate()  # any client certificate of that authority will do
    top["PayloadContent"][1] |= {
        "PayloadType": "com.apple.security.pkcs12",
        "PayloadContent": pkcs12.serialize_key_and_certificates(
            b"identity",
            ours.key,
            ours.certificate,
            None,
            serialization.BestAvailableEncryption(b"pass"),
        ),
        "Password": "pass",
    }
    if trusted:
        top["PayloadContent"][0]["PayloadContent"] = authority.ca_pem
    return plistlib.dumps(top), ours.certificate


@pytest.fixture(scope="module")
def authority() -> PushAuthority:
    return PushAuthority.create()


async def test_the_profiles_anchors_are_trusted_and_nothing_is_shown_when_messages_are_signed(
    authority: PushAuthority,
) -> None:
    server = FakeMdm()
    async with tls_server(authority) as (port, shown):
        document, _ = profile(server, authority, port, trusted=True)
        async with Device(PERSONALITIES["mac"], seed=1) as mac:
            await mac.enroll(document)
            assert mac.enrolled
    assert shown == [None, None]


async def test_without_sign_message_the_identity_is_the_client_certificate(
    authority: PushAuthority,
) -> None:
    server = FakeMdm()
    async with tls_server(authority) as (port, shown):
        document, ours = profile(server, authority, port, trusted=True, SignMessage=False)
        async with Device(PERSONALITIES["iphone"], seed=1) as phone:
            await phone.enroll(document)
    assert shown == [ours.public_bytes(serialization.Encoding.DER)] * 2


async def test_an_unknown_server_is_not_spoken_to(authority: PushAuthority, tmp_path: Path) -> None:
    server = FakeMdm()
    async with tls_server(authority) as (port, shown):
        document, _ = profile(server, authority, port, trusted=False)
        async with Device(PERSONALITIES["iphone"], seed=1) as phone:
            with pytest.raises(EnrollmentRefused) as refusal:
                await phone.enroll(document)
        assert refusal.value.status == 0
        assert shown == []
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(authority.ca_pem)
        clients = TlsClients(ca_file)
        async with Device(PERSONALITIES["iphone"], seed=1, http=clients) as phone:
            await phone.enroll(document)
            assert phone.enrolled
        await clients.aclose()
