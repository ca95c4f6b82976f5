"""Canaries among escrowed secrets: each is set, answered, rotated and revealed, and found nowhere but where it is meant to be."""

import asyncio
import io
import plistlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from database_file import database
from e2e.door.conftest import TOPIC, Door, SignedDevice, door, template
from e2e.test_canaries import Aviary, read_all
from fuzz.envelopes import openssl_envelope
from installation import journal_as_before
from ostiary.app import control_app
from ostiary.cli.main import run
from ostiary.domain.token import DEFAULT_TENANT, SealedValue, TokenKind
from ostiary.formats import plist
from ostiary.formats.mobileconfig import read_profile
from ostiary.ports.sealer import SealLabel
from ostiary.web.journal import LogFormat, open_journal

__all__ = ["door", "template"]  # fixtures

GUID = "5C2B0B1E-0000-4000-8000-000000000001"
PASSWORDS = ("NewPassword", "CurrentPassword", "Password")
_HASHES = "SALTED-SHA512-PBKDF2"


class Told(dict[str, Any]):
    """What the Macs of this test answer, and what they were handed, by request type."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_out: dict[str, Mapping[str, Any]] = {}


async def work_off(mac: SignedDevice, told: Told) -> None:
    """Carry out whatever is queued and follows; an answer that depends on the command is a function of it."""
    answer = await mac.report()
    while answer.content or (answer := await mac.report()).content:
        message = plist.read_dict(answer.content).as_mapping()
        command: Any = message["Command"]
        name = str(command["RequestType"])
        told.handed_out[name] = command
        said = told.get(name, {})
        result = said(command) if callable(said) else said
        answer = await mac.report("Acknowledged", str(message["CommandUUID"]), **result)
        assert answer.is_success, answer.text


async def enrolled(door: Door, product: str, told: Told) -> SignedDevice:
    mac = door.device()
    facts = {"ProductName": product, "OSVersion": "14.5", "SerialNumber": f"S{mac.udid}"}
    assert (await mac.send("Authenticate", Topic=TOPIC, **facts)).is_success
    assert (await mac.token_update(UnlockToken=None)).is_success
    await work_off(mac, told)
    return mac


def learn(aviary: Aviary, told: Told) -> None:
    """Every secret that a Mac was handed is a canary from now on."""
    for name, command in told.handed_out.items():
        found = {**command, **command.get("FileVaultUnlock", {})}
        for key in PASSWORDS:
            if found.get(key):
                value = str(found[key]).encode()
                aviary.know(f"{key} of {name} {value[:4].hex()}", value)
        if "passwordHash" in command:
            hashed = plistlib.loads(command["passwordHash"])[_HASHES]
            aviary.know("entropy of the administrator's password", hashed["entropy"])
            aviary.know("salt of the administrator's password", hashed["salt"])


async def everything_is_escrowed(
    door: Door, operator: httpx.AsyncClient, aviary: Aviary
) -> tuple[SignedDevice, SignedDevice, str]:
    """A Mac of either kind with every secret there is; the two, and the PIN."""
    told = Told()
    account = {"GUID": GUID, "shortName": "admin"}
    told["DeviceInformation"] = {
        "QueryResponses": {"IsSupervised": True, "AutoSetupAdminAccounts": [account]}
    }
    told["VerifyRecoveryLock"] = {"PasswordVerified": True}
    told["SetFirmwarePassword"] = {"SetFirmwarePassword": {"PasswordChanged": True}}
    told["VerifyFirmwarePassword"] = {"VerifyFirmwarePassword": {"PasswordVerified": True}}
    told["ActivationLockBypassCode"] = {"ActivationLockBypassCode": aviary.text("bypass-code")}
    silicon = await enrolled(door, "Mac14,2", told)
    intel = await enrolled(door, "MacBookPro15,1", told)

    async def ask(path: str, mac: SignedDevice, **keys: Any) -> httpx.Response:
        answer = await operator.post(path, json={"id": mac.udid, "reason": "a scene", **keys})
        assert answer.is_success, answer.text
        if path != "/secrets/reveal":
            aviary.heard(f"answer of {path} {len(aviary.found_in)}", answer.content)
        await work_off(mac, told)
        learn(aviary, told)
        return answer

    await ask("/filevault", silicon, location="the help desk")
    profile: Any = read_profile(told.handed_out["InstallProfile"]["Payload"]).as_mapping()
    payloads = profile["PayloadContent"]
    (certificate,) = [
        one["PayloadContent"]
        for one in payloads
        if one["PayloadType"] == "com.apple.security.pkcs1"
    ]
    first = openssl_envelope(aviary.plant("recovery-key"), certificate)
    aviary.know("envelope", first[-64:])
    unread = openssl_envelope(b"x", door.authority.certificate.public_bytes(Encoding.DER))
    aviary.know("envelope for somebody else", unread[-64:])
    pending = {"PasswordExists": True, "ChangePending": False}
    told["SecurityInfo"] = {
        "SecurityInfo": {
            "FDE_Enabled": True,
            "FDE_PersonalRecoveryKeyCMS": first,
            "FDE_PersonalRecoveryKeyDeviceKey": aviary.text("device-key"),
            "FirmwarePasswordStatus": pending,
        }
    }

    def rotated(command: Mapping[str, Any]) -> dict[str, Any]:
        assert command["FileVaultUnlock"]["Password"].encode() == aviary.canaries["recovery-key"]
        envelope = openssl_envelope(
            aviary.plant("second-recovery-key"), command["ReplyEncryptionCertificate"]
        )
        aviary.know("envelope of the second key", envelope[-64:])
        return {"RotateResult": {"EncryptedNewRecoveryKey": envelope}}

    told["RotateFileVaultKey"] = rotated
    await _command(operator, silicon, "security-info")
    await work_off(silicon, told)
    await ask("/secrets/change", silicon, kind="filevault-key")
    told["SecurityInfo"]["SecurityInfo"]["FDE_PersonalRecoveryKeyCMS"] = unread
    await _command(operator, silicon, "security-info")
    await work_off(silicon, told)
    for _ in range(2):
        await ask("/secrets/change", silicon, kind="recovery-lock")
        await ask("/secrets/change", silicon, kind="admin-password")
        await ask("/secrets/change", silicon, kind="activation-bypass-device")
    await ask("/secrets/change", silicon, kind="recovery-lock", value=aviary.text("own")[:32])
    await ask("/secrets/change", intel, kind="firmware-password")
    await _command(operator, intel, "security-info")
    await work_off(intel, told)
    await ask("/secrets/verify", intel, kind="firmware-password")
    wrong = {"id": silicon.udid, "kind": "recovery-lock", "value": aviary.text("bad") + "\t"}
    refused = await operator.post("/secrets/change", json=wrong)
    assert not refused.is_success
    aviary.heard("answer to a password that nobody can type", refused.content)
    await _command(operator, silicon, "device-lock")
    await work_off(silicon, told)
    for kind in ("recovery-lock", "filevault-key", "lock-pin", "activation-bypass-device"):
        shown = await ask("/secrets/reveal", silicon, kind=kind)
        assert shown.json()["values"][0]["value"]
    await _echoes(operator, silicon, told)
    learn(aviary, told)
    assert len(aviary.canaries) > 15
    return silicon, intel, str(told.handed_out["DeviceLock"]["PIN"])


async def _echoes(operator: httpx.AsyncClient, mac: SignedDevice, told: Told) -> None:
    """The Mac refuses commands in words of its own, and quotes what they carried. (users.md 5.2 rule 4)"""
    for path in ("/secrets/change", "/secrets/verify"):
        wish = {"id": mac.udid, "kind": "recovery-lock", "reason": "a scene"}
        answer = await operator.post(path, json=wish)
        assert answer.is_success, answer.text
        message = plist.read_dict((await mac.report()).content).as_mapping()
        command: Any = message["Command"]
        told.handed_out[f"{command['RequestType']} that was refused"] = command
        said = command.get("NewPassword") or command["Password"]
        link = {
            "ErrorCode": 70, "ErrorDomain": "MDMErrorDomain",
            "LocalizedDescription": f"{said} geht nicht", "USEnglishDescription": f"No: {said}.",
        }  # fmt: skip
        refused = await mac.report("Error", str(message["CommandUUID"]), ErrorChain=[link])
        assert refused.is_success, refused.text
    await work_off(mac, told)


async def _command(operator: httpx.AsyncClient, mac: SignedDevice, name: str) -> None:
    answer = await operator.post("/commands", json={"ids": [mac.udid], "command": name})
    assert answer.is_success, answer.text


async def everybody_looks(
    operator: httpx.AsyncClient, macs: tuple[SignedDevice, ...], aviary: Aviary
) -> None:
    """What operators are shown of it without asking for a value."""
    for mac in macs:
        for path in (
            f"/secrets?id={mac.udid}", f"/device?id={mac.udid}", f"/tokens/history?id={mac.udid}",
            f"/commands?id={mac.udid}&all=1", f"/bootstrap-token?id={mac.udid}",
            "/status", "/health", "/tokens?all=1", "/bootstrap-tokens",
        ):  # fmt: skip
            answer = await operator.get(path)
            assert answer.is_success, path
            aviary.heard(f"control {path}", answer.content)
        for line in (await operator.get(f"/commands?id={mac.udid}&all=1")).json()["items"]:
            answer = await operator.get("/command", params={"uuid": line["uuid"]})
            aviary.heard(f"control /command {line['uuid']}", answer.content)


def the_command_line_says(
    data: Path, capsys: pytest.CaptureFixture[str], udid: str
) -> Iterator[str]:
    for words in (
        ["token", "escrow", udid, "--all"], ["token", "history", udid], ["token", "health", udid],
        ["queue", "list", udid, "--all", "-o", "json"], ["device", "show", udid], ["doctor"],
    ):  # fmt: skip
        with journal_as_before():
            run([*words, "--data", str(data)])
        captured = capsys.readouterr()
        assert captured.out or captured.err, words
        yield captured.out + captured.err


def learn_escrow_keys(door: Door, aviary: Aviary) -> None:
    """A line out of the middle of each private key that answers are encrypted to."""
    kind = TokenKind.FILEVAULT_ESCROW_KEY
    with database(door.house.settings.places.database) as connection:
        rows = connection.execute(
            "SELECT id, holder, value FROM token WHERE kind = ?", (kind.value,)
        ).fetchall()
    assert len(rows) == 2, "one of the profile, one of the rotation"
    for record_id, holder, value in rows:
        label = SealLabel(tenant=DEFAULT_TENANT, holder=holder, kind=kind, record_id=record_id)
        bundle = door.house.sealer.unseal(SealedValue(value), label).reveal()
        aviary.know(f"escrow key {record_id}", bundle.splitlines()[5])


@pytest.mark.case("ST-02", "AK-30")
@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_escrowed_secret_is_found_in_any_file_log_answer_or_listing(
    door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    """4.0.2 rule 5, for each secret of the sheet that is not of a check-in message (those: test_canaries.py)."""
    aviary, log = Aviary(), io.StringIO()
    data = door.house.settings.places.database.parent
    transport = httpx.ASGITransport(app=control_app(door.house), raise_app_exceptions=False)
    with journal_as_before():
        open_journal(log_format, "debug", log)
        async with httpx.AsyncClient(transport=transport, base_url="http://ostiary") as operator:
            silicon, intel, pin = await everything_is_escrowed(door, operator, aviary)
            await everybody_looks(operator, (silicon, intel), aviary)
    learn_escrow_keys(door, aviary)
    aviary.heard("log", log.getvalue())
    read_all(data, aviary)
    copy = Path(shutil.copytree(data, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock")))
    said = await asyncio.to_thread(list, the_command_line_says(copy, capsys, silicon.udid))
    for number, text in enumerate(said):
        aviary.heard(f"command line {number}", text)
    assert aviary.sightings() == []
    for place, content in aviary.found_in.items():
        assert not re.search(rb"[>\"' ]%s[<\"' ,]" % pin.encode(), content), f"the PIN in {place}"
