"""Attacks at the devices' door that must come to nothing. (users.md 5.4)"""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from e2e.door.conftest import CONNECT, TOPIC, Door, SignedDevice
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind
from ostiary.formats import plist
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.caller import Caller, Scope

VICTIM_TOKEN = b"the victim's bootstrap token"
STRANGERS = 150
DOCUMENT = b'<?xml version="1.0" encoding="UTF-8"?>%s<plist version="1.0">%s</plist>'


async def enqueue(door: Door, enrollment_id: str, request_type: str = "ProfileList") -> str:
    caller = Caller(name="operator", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.ADMIN}))
    target = EnrollmentId(enrollment_id)
    done = await door.house.desk.enqueue([target], {"RequestType": request_type}, caller)
    assert done.refused == {target: None}
    return done.uuid


async def open_commands(door: Door, enrollment_id: str) -> list[str]:
    found = await door.house.storage.reports.list_commands(
        DEFAULT_TENANT, EnrollmentId(enrollment_id), live_only=True, limit=100
    )
    return [line.uuid for line in found]


async def add_user(device: SignedDevice, user: str) -> None:
    keys: dict[str, Any] = {"UserID": user, "UserShortName": user, "UnlockToken": None}
    assert (await device.token_update(**keys)).status_code == 200


async def bootstrap_token(device: SignedDevice, **keys: Any) -> bytes | None:
    answer = await device.send("GetBootstrapToken", **keys)
    if answer.status_code != 200:
        return None
    return plist.read_dict(answer.content).optional_data("BootstrapToken")


async def victim(door: Door) -> SignedDevice:
    """A device with everything that somebody might be after."""
    device = await door.device().enroll()
    await add_user(device, "U1")
    await device.send("SetBootstrapToken", BootstrapToken=VICTIM_TOKEN)
    return device


@pytest.mark.parametrize(
    "pretend",
    [
        lambda udid: {"UDID": udid},
        lambda udid: {"UDID": udid.lower()},
        lambda udid: {"UDID": None, "EnrollmentID": udid},
        lambda udid: {"UDID": "", "EnrollmentID": udid},
        lambda udid: {"UDID": udid, "UserID": "U1"},
        lambda udid: {"UDID": udid + ":U1"},
        lambda udid: {"UDID": udid + ","},
        lambda udid: {"UDID": udid + " "},
        lambda udid: {"UDID": udid + "\u200b"},
        lambda udid: {"UDID": "\u202e" + udid},
        lambda udid: {"UDID": udid.replace("D", "\uff24", 1)},
    ],
)
async def test_a_certificate_of_one_device_speaks_for_no_other_however_it_is_spelled(
    door: Door, pretend: Any
) -> None:
    """users.md 5.4 case 3."""
    target, mallory = await victim(door), await door.device().enroll()
    uuid = await enqueue(door, target.udid)
    who: Mapping[str, Any] = pretend(target.udid)
    for answer in (
        await mallory.send("GetBootstrapToken", **who),
        await mallory.send("SetBootstrapToken", BootstrapToken=b"", **who),
        await mallory.token_update(Token=b"\x66" * 32, **who),
        await mallory.send("CheckOut", Topic=TOPIC, **who),
        await mallory.send("Authenticate", Topic=TOPIC, **who),
        await mallory.report(**who),
        await mallory.report("Acknowledged", uuid, **who),
    ):
        assert answer.status_code == 400
    assert await bootstrap_token(target) == VICTIM_TOKEN
    assert await open_commands(door, target.udid) == [uuid]


async def test_an_unproven_newcomer_reads_changes_and_ends_nothing(door: Door) -> None:
    """users.md 5.4 cases 4, 12: the old binding goes on working, whatever the newcomer sends."""
    target = await victim(door)
    queued = [await enqueue(door, target.udid), await enqueue(door, f"{target.udid}:U1")]
    newcomer = SignedDevice(door, target.udid, door.certificate("newcomer"))
    assert (await newcomer.authenticate()).status_code == 200
    assert await bootstrap_token(newcomer) == b""
    assert (await newcomer.report()).content == b""
    assert (await newcomer.token_update(AwaitingConfiguration=True)).status_code == 200
    await add_user(newcomer, "U1")
    handed = b""
    answer = await newcomer.report()
    while answer.content:
        handed += answer.content
        uuid = plist.read_dict(answer.content).text("CommandUUID")
        answer = await newcomer.report("Acknowledged", uuid)
    assert not any(uuid.encode() in handed for uuid in queued)
    assert (await newcomer.report(UserID="U1")).content == b""
    for uuid in queued:
        await newcomer.report("Acknowledged", uuid)
    await newcomer.send("SetBootstrapToken", BootstrapToken=b"")
    await newcomer.send("CheckOut", Topic=TOPIC)
    assert await bootstrap_token(target) == VICTIM_TOKEN
    assert queued[0].encode() in (await target.report()).content
    assert queued[1].encode() in (await target.report(UserID="U1")).content


@pytest.mark.parametrize("message", ["GetBootstrapToken", "SetBootstrapToken", "TokenUpdate"])
async def test_a_device_that_left_or_never_came_is_served_no_secret(
    door: Door, message: str
) -> None:
    """users.md 5.4 case 5."""
    stranger = door.device()
    keys: dict[str, Any] = {"Topic": TOPIC, "Token": b"t", "PushMagic": "m", "BootstrapToken": b"b"}
    assert (await stranger.send(message, **keys)).status_code == 400
    target = await victim(door)
    assert (await target.send("CheckOut", Topic=TOPIC)).status_code == 200
    assert await bootstrap_token(target) is None
    assert await bootstrap_token(target, UserID="U1") is None


async def test_a_replayed_token_update_loses_no_token(door: Door) -> None:
    """users.md 5.4 case 2: a signature carries no nonce, so a replay counts; what it pushes aside stays in the ledger."""
    device = door.device()
    await device.authenticate()
    body = device.message(
        "TokenUpdate", Topic=TOPIC, Token=b"\x01" * 32, PushMagic="m", UnlockToken=b"older"
    )
    signature = device.signature(body)
    assert (await device.put(body, Mdm_Signature=signature)).status_code == 200
    assert (await device.token_update(UnlockToken=b"newer")).status_code == 200
    assert (await device.put(body, Mdm_Signature=signature)).status_code == 200
    records = await door.house.storage.reports.token_history(DEFAULT_TENANT, Holder(device.udid))
    unlocks = [record for record in records if record.kind is TokenKind.UNLOCK]
    newer = door.house.sealer.digest(DEFAULT_TENANT, Secret(b"newer"))
    assert newer in {record.digest for record in unlocks}


async def test_a_report_closes_commands_of_its_own_channel_only(door: Door) -> None:
    """users.md 5.4 cases 37, 38: foreign, unknown and other channels' commands; never anything but 200."""
    target, other = await victim(door), await victim(door)
    uuids = [await enqueue(door, target.udid), await enqueue(door, f"{target.udid}:U1")]
    for uuid in (*uuids, "never queued", "x" * 127, "'; DROP TABLE command; --"):
        assert (await other.report("Acknowledged", uuid)).status_code == 200
        assert (await other.report("Error", uuid, UserID="U1")).status_code == 200
    assert (await target.report("Acknowledged", uuids[1])).status_code == 200
    assert (await target.report("Acknowledged", uuids[0], UserID="U1")).status_code == 200
    assert await open_commands(door, target.udid) == [uuids[0]]
    assert await open_commands(door, f"{target.udid}:U1") == [uuids[1]]


def _binary(*objects: bytes, count: int | None = None, top: int = 0) -> bytes:
    """A binary property list of these objects, told of in a trailer that need not be true."""
    body, offsets = b"bplist00", []
    for each in objects:
        offsets.append(len(body))
        body += each
    table = b"".join(struct.pack(">Q", offset) for offset in offsets)
    said = len(objects) if count is None else count
    return body + table + bytes(6) + bytes([8, 1]) + struct.pack(">QQQ", said, top, len(body))


_LAUGHS = (b'<!DOCTYPE plist [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>', b"<string>&b;</string>")
_FILE = (b'<!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]>', b"<string>&a;</string>")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(DOCUMENT % _LAUGHS, id="entities"),
        pytest.param(DOCUMENT % _FILE, id="external-entity"),
        pytest.param(DOCUMENT % (b"", b"<array>" * 10_000 + b"</array>" * 10_000), id="deep"),
        pytest.param(DOCUMENT % (b"", b"<array>" + b"<true/>" * 2_000_000), id="wide"),
        pytest.param(
            DOCUMENT % (b"", b"<integer>" + b"9" * 1_000_000 + b"</integer>"), id="huge-number"
        ),
        pytest.param(_binary(b"\xa1\x00"), id="holds-itself"),
        pytest.param(_binary(b"\xa1\x01", b"\xa1\x00"), id="holds-each-other"),
        pytest.param(
            _binary(*(bytes([0xAA, *[n + 1] * 10]) for n in range(12)), b"\x51a"), id="laughs"
        ),
        pytest.param(_binary(b"\xd0", count=2**63), id="2^63-objects"),
        pytest.param(_binary(b"\xd0", top=99), id="top-outside"),
        pytest.param(_binary(b"\xaf\x13" + b"\xff" * 8), id="negative-length"),
    ],
)
async def test_a_bomb_in_a_signed_body_is_refused_and_the_next_message_served(
    door: Door, body: bytes
) -> None:
    """users.md 5.4 cases 16, 17."""
    device = await door.device().enroll()
    assert (await device.put(body, kind=CONNECT)).status_code in {400, 413}
    assert (await device.report()).status_code == 200


async def test_strangers_do_not_use_up_the_memory_that_devices_need(door: Door) -> None:
    """users.md 5.4 case 15: SCEP takes bodies of anybody, and has a budget of its own."""
    device = await door.device().enroll()
    stop, all_held = asyncio.Event(), asyncio.Event()
    answered: list[int] = []
    held = 0

    def count() -> None:
        if held + len(answered) >= STRANGERS:
            all_held.set()

    async def slow() -> AsyncIterator[bytes]:
        nonlocal held
        yield b"x" * 60_000
        held += 1
        count()
        await stop.wait()

    async def ask() -> None:
        answer = await door.client.post("/scep?operation=PKIOperation", content=slow())
        answered.append(answer.status_code)
        count()

    async with asyncio.TaskGroup() as group:
        for _ in range(STRANGERS):
            group.create_task(ask())
        await all_held.wait()
        assert 503 in answered
        assert door.house.budget.held_bytes == 0
        assert (await device.report()).status_code == 200
        stop.set()
