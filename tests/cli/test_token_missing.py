"""Transcript of `ostiary token missing`, on an installation with a fleet of a few Macs and an iPhone."""

import asyncio
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from cli.test_transcripts import as_words, blocks
from enrolled import NOW, enroll
from escrowed import LONG_AGO, enroll_mac, escrow_values
from ostiary.cli.main import run
from ostiary.domain.decision import Ask, ByName, Change, Snapshot
from ostiary.domain.escrow import EscrowState
from ostiary.domain.facts import Fact, FactSheet, SheetName
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.house import House, open_house
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.settings import load_settings

TRANSCRIPT = Path(__file__).parent / "token-missing.txt"
WITHOUT_LOCK: dict[str, Fact] = {"IsSupervised": True, "IsActivationLockSupported": False}


async def _told(house: House, name: str, *sheets: tuple[SheetName, dict[str, Fact]]) -> None:
    def rule(seen: Snapshot) -> Change[None]:
        assert seen.device is not None
        key = seen.device.key
        facts = tuple(
            FactSheet(enrollment_key=key, name=sheet, facts=said, reported_at=NOW)
            for sheet, said in sheets
        )
        return Change(at=NOW, answer=None, facts=facts)

    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId(name))
    await house.storage.enrollments.decide(Ask(who=who), rule)


async def _enroll_phone(house: House, name: str) -> None:
    row = await enroll(house, name, device_name="evil\x1b[2Jname")
    facts = DeviceFacts(
        serial_number=f"S{name}",
        device_name="evil\x1b[2Jname",
        product_name="iPhone15,2",
        os_version="18.1",
    )

    def rule(seen: Snapshot) -> Change[None]:
        assert seen.device is not None
        phone = replace(row, facts=facts, enrolled_at=LONG_AGO, version=seen.device.version)
        return Change(at=NOW, answer=None, rows=(phone,))

    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId(name))
    await house.storage.enrollments.decide(Ask(who=who), rule)


async def _furnish(data: Path) -> None:
    """A key is missing, a lock in doubt, a token lost; one is in order, two never answered."""
    async with open_house(load_settings(data)) as house:
        for name in ("DISK", "FINE", "LOCK", "MUTE-1", "MUTE-2"):
            await enroll_mac(house, name, bootstrap=b"canary-bootstrap")
        await enroll_mac(house, "LOGIN")
        for name in ("DISK", "FINE", "LOCK", "LOGIN"):
            said: dict[str, Fact] = {"FDE_Enabled": name in ("DISK", "FINE")}
            await _told(house, name, (SheetName.SECURITY, said), (SheetName.DEVICE, WITHOUT_LOCK))
        await escrow_values(
            house.storage.enrollments,
            house.sealer,
            "FINE",
            TokenKind.FILEVAULT_KEY,
            [b"canary-AAAA-BBBB"],
            NOW,
        )
        await escrow_values(
            house.storage.enrollments,
            house.sealer,
            "LOCK",
            TokenKind.RECOVERY_LOCK,
            [b"canary-first", b"canary-second"],
            NOW,
            candidate=1,
            state=EscrowState.UNCERTAIN,
            trouble="no answer came",
        )
        await _enroll_phone(house, "PHONE")
        await _told(
            house,
            "PHONE",
            (SheetName.SECURITY, {"PasscodePresent": True}),
            (SheetName.DEVICE, {"IsSupervised": True, "IsMultiUser": False}),
        )


def test_the_terminal_says_what_is_missing(
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """design.md 3: names and exit codes that scripts rely on; a name cannot move the terminal's cursor."""
    asyncio.run(_furnish(data))
    monkeypatch.setenv("COLUMNS", "100")
    for command, expected in blocks(TRANSCRIPT.read_text()):
        code = run(shlex.split(command))
        out, err = capfd.readouterr()
        said = as_words(out + err, {data: "DATA", tmp_path: "HERE"})
        said = "\n".join(_placed(line) for line in said.splitlines())
        ending = f"[exit {code}]" if code else ""
        assert f"{said}\n{ending}".strip() == expected, command
        assert "canary" not in out + err


def test_a_list_that_was_cut_off_goes_on_behind_its_place(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Together the pieces are the whole, and the place is printed as it is to be given."""
    asyncio.run(_furnish(data))
    run(["token", "missing", "-o", "json"])
    whole = json.loads(capfd.readouterr().out)
    pieces: list[object] = []
    more: list[str] = []
    while True:
        run(["token", "missing", "-o", "json", "--limit", "2", *more])
        out, err = capfd.readouterr()
        pieces += json.loads(out)
        if "There is more" not in err:
            break
        more = shlex.split(err.partition("There is more: ")[2])[:1]
    assert pieces == whole
    assert {line["id"] for line in whole} == {"DISK", "LOCK", "LOGIN", "PHONE"}


def test_a_printed_command_means_the_device_even_if_its_id_looks_like_an_option(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Devices choose their ids, and commands are copied: behind `--` nothing is an option."""
    ids = ["--confirm=9", "--dry-run"]
    asyncio.run(_furnish_odd(data, ids))
    run(["token", "missing", "-o", "json"])
    out, err = capfd.readouterr()
    todos = [line["todo"].partition("; then ")[2] for line in json.loads(out)]
    assert todos == [
        f"ostiary token rotate --unlock-with-stdin -- {one} filevault-key" for one in ids
    ]
    (asks,) = [line for line in err.splitlines() if "device-information" in line]
    _, _, command = asks.partition("answer: ")
    assert command == "ostiary enqueue -- --confirm=9 --dry-run device-information"
    assert run([*shlex.split(command)[1:-1], "security-info"]) == 0
    out, _ = capfd.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ids, "queued for both"
    run(["token", "health", "--", "--dry-run"])
    out, _ = capfd.readouterr()
    assert "`ostiary enqueue -- --dry-run user-list`" in out
    run(["token", "escrow", "--all", "--", "--dry-run"])
    out, _ = capfd.readouterr()
    assert "admin-password" in out


async def _furnish_odd(data: Path, ids: list[str]) -> None:
    """Macs with such ids, each with an encrypted disk whose key is not here."""
    async with open_house(load_settings(data)) as house:
        for name in ids:
            await enroll_mac(house, name, bootstrap=b"canary-bootstrap")
            await _told(house, name, (SheetName.SECURITY, {"FDE_Enabled": True}))
            await escrow_values(
                house.storage.enrollments,
                house.sealer,
                name,
                TokenKind.ADMIN_PASSWORD,
                [b"canary-AAAA"],
                NOW,
            )


def _placed(line: str) -> str:
    """The key in a place is drawn anew for each enrollment."""
    return re.sub(r"(?<=/)[0-9a-f]{32}\b", "KEY", line)
