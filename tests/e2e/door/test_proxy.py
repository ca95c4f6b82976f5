"""A proxy that verifies client certificates speaks for devices: in both header forms, and only if it is trusted. (3.8)"""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from e2e.door.conftest import TOPIC, Door, SignedDevice, open_door
from fuzz.pki import Issued, issue, rsa_key

HEADER = "X-Device-Certificate"
HERE = ["127.0.0.0/8"]
"""Where the tests' requests come from."""


@pytest.fixture
async def behind(template: Path, tmp_path: Path) -> AsyncIterator[Door]:
    """An Ostiary behind a proxy that it trusts."""
    proxy = {"trusted": HERE, "certificate_header": HEADER}
    async with open_door(template, tmp_path, proxy=proxy) as door:
        yield door


def rfc_9440(certificate: Issued) -> str:
    return f":{base64.b64encode(certificate.der).decode()}:"


def escaped_pem(certificate: Issued) -> str:
    return quote(certificate.certificate.public_bytes(Encoding.PEM).decode(), safe="")


async def put(device: SignedDevice, header: str | None, *, signed: bool = False) -> int:
    body = device.message("Authenticate", Topic=TOPIC)
    signature = device.signature(body) if signed else None
    answer = await device.put(body, Mdm_Signature=signature, **{HEADER: header})
    return answer.status_code


@pytest.mark.parametrize("form", [rfc_9440, escaped_pem])
async def test_a_trusted_proxy_speaks_for_a_device_in_either_form(
    behind: Door, form: object
) -> None:
    """3.8: RFC 9440, and nginx's $ssl_client_escaped_cert."""
    device = behind.device()
    assert callable(form)
    assert await put(device, form(device.certificate)) == 200
    update = device.message("TokenUpdate", Topic=TOPIC, Token=b"t", PushMagic="m")
    answer = await device.put(update, Mdm_Signature=None, **{HEADER: form(device.certificate)})
    assert answer.status_code == 200
    other = behind.device()
    assert await put(other, form(behind.device().certificate)) == 200, (
        "the certificate says who it is"
    )
    stolen = await device.put(update, Mdm_Signature=None, **{HEADER: form(other.certificate)})
    assert stolen.status_code == 400


async def test_the_proxys_certificate_must_chain_to_an_authority_all_the_same(behind: Door) -> None:
    """users.md 5.4 case 1: a wrong chain, an empty header, garbage, both forms mixed; never 401."""
    device = behind.device()
    stranger = issue("nobody knows", key=rsa_key(2))
    mixed = ":" + escaped_pem(device.certificate)
    for header in (
        rfc_9440(stranger),
        escaped_pem(stranger),
        "",
        ":AAAA:",
        "garbage",
        mixed,
        "A" * 40_000,
    ):
        assert await put(device, header) in (400, 413), header[:20]


async def test_a_signature_and_another_certificate_do_not_go_together(behind: Door) -> None:
    """users.md 5.4 case 1: valid in TLS, and another one in the header."""
    device, other = behind.device(), behind.device()
    other.certificate = issue("another device", behind.authority, key=rsa_key(2))
    assert await put(device, rfc_9440(other.certificate), signed=True) == 400
    assert await put(device, rfc_9440(device.certificate), signed=True) == 200


async def test_two_certificate_headers_are_refused(behind: Door) -> None:
    """users.md 5.4 case 1."""
    device = behind.device()
    value = rfc_9440(device.certificate)
    answer = await behind.client.put(
        "/mdm",
        content=device.message("Authenticate", Topic=TOPIC),
        headers=[(HEADER, value), (HEADER, value)],
    )
    assert answer.status_code == 400


async def test_a_peer_that_is_no_proxy_is_not_believed(template: Path, tmp_path: Path) -> None:
    """3.8: the header is not even read."""
    proxy = {"trusted": ["10.9.8.0/24"], "certificate_header": HEADER}
    async with open_door(template, tmp_path, proxy=proxy) as door:
        device = door.device()
        assert await put(device, rfc_9440(device.certificate)) == 400
        assert await put(device, "garbage", signed=True) == 200
