"""What the bench signs is what devices send: openssl accepts it, and so does the reader of the server."""

import plistlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from bench import fleet, messages
from bench.scenarios import deal
from bench.wire import Exchange
from ostiary.formats import base64, cms


@pytest.fixture(scope="module")
def bench_fleet() -> Iterator[fleet.Fleet]:
    with ThreadPoolExecutor(1) as pool:
        pool_of_processes: Any = pool  # signs here: the same calls, without starting processes
        yield fleet.Fleet(pool_of_processes)


def parted(exchange: Exchange) -> tuple[dict[str, str], bytes]:
    head, _, body = exchange.request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize("has_attributes", [False, True])
def test_a_request_is_signed_over_its_very_body(
    bench_fleet: fleet.Fleet, has_attributes: bool
) -> None:
    """check-in-and-commands.md 3.8: both forms of signature are in the field."""
    (device,) = bench_fleet.make_devices(1, has_attributes=has_attributes)
    (exchange,) = bench_fleet.sign([messages.idle(device)])
    headers, body = parted(exchange)
    signature = base64.decode_strict(headers["Mdm-Signature"], whitespace=False)
    signed = cms.verify_detached(signature, body)
    assert signed.certificate == device.certificate
    assert (signed.signing_time is not None) is has_attributes
    assert plistlib.loads(body) == {"UDID": device.udid, "Status": "Idle"}


def test_a_token_update_never_repeats_a_value(bench_fleet: fleet.Fleet) -> None:
    (device,) = bench_fleet.make_devices(1)
    one, other = (messages.token_update(device, unlock=True).message for _ in range(2))
    assert all(one[key] != other[key] for key in ("Token", "PushMagic", "UnlockToken"))


def test_a_session_expects_each_command_in_turn_and_then_nothing(bench_fleet: fleet.Fleet) -> None:
    (device,) = bench_fleet.make_devices(1)
    drafts = messages.work_off(device, ["A", "B"])
    assert [draft.holds for draft in drafts] == [b"A", b"B", b""]


def test_a_device_stays_on_its_connection() -> None:
    """Otherwise its messages could overtake each other."""
    exchanges = [Exchange(b"", kind=f"{lap}{device}") for lap in "xy" for device in "abcde"]
    queues = deal(exchanges, 2, devices=5)
    assert [[one.kind for one in queue] for queue in queues] == [
        ["xa", "xc", "xe", "ya", "yc", "ye"],
        ["xb", "xd", "yb", "yd"],
    ]


def test_keys_are_of_the_size_that_devices_use(bench_fleet: fleet.Fleet) -> None:
    keys = fleet._load_keys(bench_fleet._key_pems)
    assert all(isinstance(key, rsa.RSAPrivateKey) and key.key_size == 2048 for key in keys)
