"""Canaries: marked secrets go in through every door, and come out nowhere but where they are meant to."""

import asyncio
import base64
import io
import re
import secrets
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from database_file import database
from e2e.door.conftest import CONNECT, TOPIC, Door, SignedDevice, door, template
from fuzz.pki import ec_key, issue
from installation import journal_as_before
from ostiary.app import control_app
from ostiary.cli.main import run
from ostiary.errors import OstiaryError
from ostiary.formats import plist
from ostiary.protocol.mdm.checkin import decode_checkin
from ostiary.protocol.mdm.connect import decode_connect
from ostiary.web.journal import LogFormat, open_journal

__all__ = ["door", "template"]  # fixtures

PIN = "480159"


def forms(value: bytes) -> Iterator[bytes]:
    """How a value might have been written: as it is, in UTF-16, hexadecimal, or base64 at any of three alignments."""
    yield value
    yield value.hex().encode()
    yield value.hex().upper().encode()
    for encoding in ("utf-16-le", "utf-16-be"):
        yield value.decode("latin-1").encode(encoding)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # Bytes before and after change the characters at the edges, so those are left out.
            whole = encode(bytes(shift) + value + bytes(2))
            first, last = -(-shift * 8 // 6), (shift + len(value)) * 8 // 6
            yield whole[first:last]


@dataclass
class Aviary:
    """The canaries of one test, and whatever was said and written while they were about."""

    canaries: dict[str, bytes] = field(default_factory=dict)
    found_in: dict[str, bytes] = field(default_factory=dict)
    """By place: everything that could be read there."""

    def plant(self, name: str) -> bytes:
        """A new value that nobody else has."""
        self.know(name, f"canary-{name}-{secrets.token_hex(8)}".encode())
        return self.canaries[name]

    def text(self, name: str) -> str:
        return self.plant(name).decode()

    def know(self, name: str, value: bytes) -> None:
        """A secret that Ostiary made, e.g. an invitation's code."""
        assert len(value) >= 8, "too short to be looked for"
        self.canaries[name] = value

    def heard(self, place: str, said: str | bytes) -> None:
        self.found_in[place] = said.encode() if isinstance(said, str) else said

    def sightings(self) -> list[str]:
        """Which canary was seen where."""
        seen = []
        for place, said in self.found_in.items():
            # A property list wraps its base64 in lines.
            haystack = said + b"\0" + re.sub(rb"\s", b"", said)
            seen += [
                f"{name} in {place}"
                for name, value in self.canaries.items()
                if any(form in haystack for form in forms(value))
            ]
        return seen


def test_the_search_finds_a_canary_in_every_form() -> None:
    """What is not found is only good news if it would have been found."""
    value = b"canary-of-some-length"
    for form in (
        *forms(value),
        base64.b64encode(b"x" + value),
        base64.b64encode(b"xx" + value + b"y"),
    ):
        aviary = Aviary({"it": value}, {"there": b"before " + form + b" after"})
        assert aviary.sightings() == ["it in there"]
    wrapped = base64.encodebytes(b"some bytes before " * 5 + value + b" and after")
    assert Aviary({"it": value}, {"there": wrapped}).sightings() == ["it in there"]


async def devices_say(door: Door, aviary: Aviary) -> SignedDevice:
    """A Mac with a user enrolls, escrows, is commanded and reports; every secret of it is a canary."""
    mac = door.device()
    push = {
        "Token": aviary.plant("push-token"),
        "PushMagic": aviary.text("push-magic"),
        "UnlockToken": aviary.plant("unlock-token"),
    }
    assert (await mac.authenticate()).status_code == 200
    assert (await mac.token_update(**push)).status_code == 200
    assert (await mac.token_update(UnlockToken=aviary.plant("second-unlock-token"))).is_success
    escrow = aviary.plant("bootstrap-token")
    assert (await mac.send("SetBootstrapToken", BootstrapToken=escrow)).is_success
    assert escrow in plist.read_dict((await mac.send("GetBootstrapToken")).content).data(
        "BootstrapToken"
    )
    user = {"UserID": "U1", "UserShortName": "ann"}
    login = await mac.send("UserAuthenticate", **user, DigestResponse=aviary.text("digest"))
    assert login.status_code in (200, 410)
    await mac.token_update(
        **user,
        Token=aviary.plant("users-push-token"),
        PushMagic=aviary.text("users-push-magic"),
        UnlockToken=aviary.plant("unlock-token-on-user-channel"),
        AuthToken=aviary.text("auth-token"),
    )
    await mac.send("GetToken", TokenServiceType="com.apple.maid")
    return mac


async def operators_command(
    door: Door, operator: httpx.AsyncClient, mac: SignedDevice, aviary: Aviary
) -> None:
    """Commands that carry secrets, through both APIs; the device answers with some of its own."""
    api_token = (door.house.settings.places.api_token).read_text().strip()
    aviary.know("first-api-token", api_token.encode())
    profile = plist.encode(
        {
            "PayloadContent": [
                {"PayloadType": "com.apple.wifi.managed", "Password": aviary.text("wifi-password")}
            ],
            "PayloadType": "Configuration",
            "PayloadIdentifier": "org.example.wifi",
            "PayloadUUID": "00000000-0000-4000-8000-000000000001",
            "PayloadVersion": 1,
        }
    )
    install: dict[str, Any] = {"Command": {"RequestType": "InstallProfile", "Payload": profile}}
    queued = await door.client.put(
        f"/v1/enqueue/{mac.udid}?nopush=1", content=plist.encode(install), auth=("nano", api_token)
    )
    assert queued.status_code == 200, queued.text
    aviary.heard("answer of /v1/enqueue", queued.content)
    for ask in (
        {"ids": [mac.udid], "command": "device-lock", "pin": PIN},
        {"ids": [mac.udid], "command": "clear-passcode"},
        {"ids": [mac.udid], "command": "device-lock", "pin": aviary.text("unusable-pin")},
    ):
        answer = await operator.post("/commands", json=ask)
        aviary.heard(f"answer of /commands {ask['command']} {len(aviary.found_in)}", answer.content)
    for name in ("one", "two"):
        answer = await operator.post(
            "/api-tokens", json={"name": name, "scopes": ["read"], "valid_seconds": 3600}
        )
        assert answer.is_success, answer.text
        aviary.know(f"api-token-{name}", answer.json()["token"].encode())
    await invited_people_enroll(door, operator, aviary)
    handed_out: list[Any] = []
    report = await mac.report()
    for status in ("Acknowledged", "Error", "CommandFormatError", "NotNow") * 2:
        if not report.content:
            break
        command = plist.read_dict(report.content)
        handed_out += [*command.as_mapping()["Command"].values()]  # type: ignore[union-attr]  # a dict
        report = await mac.report(status, command.text("CommandUUID"), **secret_results(aviary))
    assert profile in handed_out
    assert aviary.canaries["second-unlock-token"] in handed_out
    assert PIN not in handed_out, (
        "an iPhone is opened with its own passcode; of a Mac: test_escrow_canaries.py"
    )


def secret_results(aviary: Aviary) -> dict[str, Any]:
    """What a report may hold that must be neither kept nor shown. (escrowed-secrets.md 4.0.2 rule 5)"""
    return {
        "UnlockToken": aviary.plant("unlock-token-in-a-report"),
        "ActivationLockBypassCode": aviary.text("bypass-code"),
        "SecurityInfo": {
            "FDE_PersonalRecoveryKeyCMS": aviary.plant("recovery-key"),
            "FDE_PersonalRecoveryKeyDeviceKey": aviary.text("device-key"),
        },
        "RotateResult": {"EncryptedNewRecoveryKey": aviary.plant("new-recovery-key")},
        "ProfileList": [{"PayloadContent": [{"Password": aviary.text("password-in-a-profile")}]}],
    }


async def invited_people_enroll(door: Door, operator: httpx.AsyncClient, aviary: Aviary) -> None:
    """An invitation's code, and the challenge inside the profile that it buys."""
    invited = await operator.post("/invitations", json={"valid_seconds": 3600, "uses": 2})
    assert invited.status_code == 200, invited.text
    code = invited.json()["code"]
    aviary.know("invitation-code", code.encode())
    profile = await door.client.get(f"/enroll/{code}")
    assert profile.status_code == 200, profile.text
    found = re.search(rb"<key>Challenge</key>\s*<string>([^<]+)</string>", profile.content)
    assert found is not None
    aviary.know("scep-challenge", found[1])
    wrong = await door.client.get(f"/enroll/{aviary.text('wrong-code')}")
    assert wrong.status_code >= 400
    aviary.heard("answer to a wrong code", wrong.content)


async def everything_goes_wrong(door: Door, mac: SignedDevice, aviary: Aviary) -> None:
    """Bad bodies with canaries in them: what is refused is told by its size, its hash and its field."""
    stranger = issue("nobody's", key=ec_key(7))
    for name, body in bad_bodies(mac, aviary).items():
        for kind in ("application/x-apple-aspen-mdm-checkin", CONNECT):
            answer = await mac.put(body, kind=kind)
            assert answer.status_code != 401
            aviary.heard(f"answer to {name} as {kind}", answer.content)
            aviary.heard(f"headers of {name} as {kind}", repr(answer.headers))
        for decode in (decode_checkin, decode_connect):
            try:
                decode(plist.read_dict(body))
            except OstiaryError as error:
                told = [repr(error), str(error), *traceback.format_exception(error)]
                aviary.heard(f"error {name} {decode.__name__}", "\n".join(told))
    good = mac.message("SetBootstrapToken", BootstrapToken=aviary.plant("refused-bootstrap-token"))
    unsigned = await mac.put(good, Mdm_Signature=None)
    other = await mac.put(good, Mdm_Signature=mac.signature(b"another body"))
    foreign = await SignedDevice(door, mac.udid, stranger).put(good)
    unbound = await door.device(certificate=door.certificate("unbound")).put(good)
    signature = mac.signature(good)
    aviary.know("signature", signature[100:160].encode())
    for name, answer in {
        "unsigned": unsigned, "another body": other, "foreign": foreign, "unbound": unbound
    }.items():  # fmt: skip
        assert 400 <= answer.status_code < 500, name
        assert answer.status_code != 401
        aviary.heard(f"answer {name}", answer.content)
    big = mac.message("TokenUpdate", UnlockToken=aviary.plant("too-large") * 100_000)
    aviary.heard("answer to too much", (await mac.put(big)).content)
    await door.fill_disk()
    large = aviary.plant("on-a-full-disk") * 10_000
    full = await mac.send("SetBootstrapToken", BootstrapToken=large)
    aviary.heard("answer on a full disk", full.content)
    await door.free_disk()
    with database(door.house.settings.places.database) as connection:
        connection.execute("UPDATE token SET value = substr(value, 1, 40) WHERE kind = 'bootstrap'")
    broken = await mac.send("GetBootstrapToken")
    assert broken.status_code == 503
    aviary.heard("answer with a broken seal", broken.content)


def bad_bodies(mac: SignedDevice, aviary: Aviary) -> dict[str, bytes]:
    """Malformed in every way that the decoders know, each with a canary of its own."""

    def update(name: str, **keys: Any) -> bytes:
        values = {
            "Topic": TOPIC,
            "Token": b"t",
            "PushMagic": "m",
            "UnlockToken": aviary.plant(name),
        }
        return mac.message("TokenUpdate", **{**values, **keys})

    whole = update("in-a-truncated-body")
    garbage = update("in-garbage").replace(b"</data>", b"*not base64*</data>")
    mark = aviary.text("as-a-word")
    return {
        "truncated": whole[: len(whole) * 3 // 4],
        "garbage base64": garbage,
        "wrong root": f"<plist><array><string>{mark}</string></array></plist>".encode(),
        "not a plist": aviary.plant("as-a-body"),
        "broken xml": f"<plist><dict><key>{aviary.text('as-a-key')}</dict>".encode(),
        "entity": f'<!DOCTYPE x [<!ENTITY e "{aviary.text("as-an-entity")}">]><plist/>'.encode(),
        "unknown message": mac.message("Unheard", UnlockToken=aviary.plant("in-the-unknown")),
        "no token": update("without-token", Token=None),
        "token of text": update("token-of-text", Token=aviary.text("token-as-text")),
        "unlock token of text": update("x", UnlockToken=aviary.text("unlock-as-text")),
        "bad topic": update("with-a-bad-topic", Topic="com.apple.mgmt"),
        "magic of data": update("magic-of-data", PushMagic=aviary.plant("magic-as-data")),
        "bootstrap of text": mac.message(
            "SetBootstrapToken", BootstrapToken=aviary.text("bootstrap-as-text")
        ),
        "no identity": plist.encode(
            {"MessageType": "TokenUpdate", "UnlockToken": aviary.plant("of-nobody")}
        ),
        "binary": b"bplist00" + aviary.plant("in-a-broken-binary-list"),
    }


async def everybody_looks(
    door: Door, operator: httpx.AsyncClient, mac: SignedDevice, aviary: Aviary
) -> None:
    """What people and programs are shown."""
    for path in (
        "/status", "/health", "/devices", f"/device?id={mac.udid}", "/commands", "/commands?all=1",
        f"/commands?id={mac.udid}&all=1", "/tokens", "/tokens?all=1", "/policies",
        f"/tokens/history?id={mac.udid}", "/push-certificates", "/device?id=nobody",
    ):  # fmt: skip
        answer = await operator.get(path)
        assert answer.is_success or "nobody" in path, path
        aviary.heard(f"control {path}", answer.content)
    token = door.house.settings.places.api_token.read_text().strip()
    for path in ("/metrics", "/version", "/v1/pushcert", f"/v1/push/{mac.udid}", "/healthz"):
        for auth in (("nano", token), ("nano", aviary.text(f"wrong-token{len(aviary.found_in)}"))):
            answer = await door.client.get(path, auth=auth)
            aviary.heard(f"front {path} {auth[0]} {answer.status_code}", answer.content)


def read_all(data: Path, aviary: Aviary) -> None:
    """Every byte under the data directory."""
    for path in sorted(data.rglob("*")):
        if path.is_file():
            aviary.heard(f"file {path.relative_to(data)}", path.read_bytes())


def ask_the_command_line(
    data: Path, capsys: pytest.CaptureFixture[str], udid: str
) -> Iterator[str]:
    """What `ostiary` prints about it all, on a store that nobody else has open."""
    for words in (
        ["token", "list"], ["token", "history", udid], ["queue", "list"], ["device", "list"],
        ["device", "show", udid], ["doctor"], ["apns", "show"], ["policy", "list"],
    ):  # fmt: skip
        with journal_as_before():
            run([*words, "--data", str(data)])
        captured = capsys.readouterr()
        assert captured.out or captured.err, words
        yield captured.out + captured.err


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_secret_is_found_in_any_file_log_answer_or_error(
    door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    """escrowed-secrets.md 4.0.2 rule 5: as far as the messages of this version go."""
    aviary, log = Aviary(), io.StringIO()
    data = door.house.settings.places.database.parent
    transport = httpx.ASGITransport(app=control_app(door.house), raise_app_exceptions=False)
    with journal_as_before():
        open_journal(log_format, "debug", log)
        async with httpx.AsyncClient(transport=transport, base_url="http://ostiary") as operator:
            mac = await devices_say(door, aviary)
            await operators_command(door, operator, mac, aviary)
            await everything_goes_wrong(door, mac, aviary)
            await everybody_looks(door, operator, mac, aviary)
    aviary.heard("log", log.getvalue())
    read_all(data, aviary)
    copy = Path(shutil.copytree(data, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock")))
    for number, said in enumerate(
        await asyncio.to_thread(list, ask_the_command_line(copy, capsys, mac.udid))
    ):
        aviary.heard(f"command line {number}", said)
    named = {place for place, said in aviary.found_in.items() if mac.udid.encode() in said}
    database = f"file {door.house.settings.places.database.name}"
    assert named >= {f"{database}-wal", "log", "control /devices", "command line 1"}
    expected = ["first-api-token in file api-token"]
    assert aviary.sightings() == expected
    for place, content in aviary.found_in.items():
        assert not re.search(rb"[>\"']%s[<\"']" % PIN.encode(), content), f"the PIN in {place}"
