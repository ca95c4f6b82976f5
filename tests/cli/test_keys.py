"""`ostiary key` and what the doctor says of it: how many values are left, what does not open, and never a key or value."""

import asyncio
import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from conformance.storage_values import record_id
from ostiary.cli.main import run
from ostiary.house import House, open_house
from ostiary.keys.file import create_root_key
from ostiary.ports.resealing import Resealed, SealedIn
from ostiary.services.resealing import ResealingPace, ResealingService
from ostiary.settings import load_settings
from sealed_world import Place, fill, opened, rows

Said = pytest.CaptureFixture[str]


def at_home(data: Path, work: Any) -> Any:
    """Do something with the house of this directory, and close it."""

    async def do() -> Any:
        async with open_house(load_settings(data)) as house:
            return await work(house)

    return asyncio.run(do())


def filled(data: Path) -> dict[Place, bytes]:
    clear: dict[Place, bytes] = at_home(data, lambda house: fill(house.storage, house.sealer))
    return clear


async def reseal(house: House) -> None:
    """As a worker does, in no time."""
    service = ResealingService(
        house.storage.sealed_values,
        house.storage.retention,
        house.sealer,
        house.clock,
        ResealingPace(pause=timedelta(0), settle=timedelta(0)),
    )
    while not (await service.stand()).is_done:
        await service.run_round()


def check(capfd: Said) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, lines, and what was said of them."""
    capfd.readouterr()
    code = run(["key", "check", "-o", "json"])
    out, err = capfd.readouterr()
    return code, json.loads(out) if out else [], err


def doctor(capfd: Said) -> dict[str, Any]:
    run(["doctor", "-o", "json"])
    found: list[dict[str, Any]] = json.loads(capfd.readouterr().out)
    return next(one for one in found if one["subject"] == "sealing keys")


def test_a_rotation_is_told_from_its_first_value_to_its_last(data: Path, capfd: Said) -> None:
    clear = filled(data)
    assert check(capfd)[0] == 0
    assert doctor(capfd)["severity"] == "ok"
    assert run(["key", "rotate"]) == 0
    code, lines, said = check(capfd)
    assert (code, [one["values"] for one in lines]) == (4, [None, len(clear), 0])
    assert f"{len(clear)} values are under older keys" in said
    assert doctor(capfd)["severity"] == "warning"
    at_home(data, reseal)
    code, lines, said = check(capfd)
    assert (code, [one["values"] for one in lines]) == (0, [None, 0, len(clear)])
    assert "every value is under the newest" in said
    assert doctor(capfd)["severity"] == "ok"
    assert at_home(data, lambda house: opened(house.storage.sealed_values, house.sealer)) == clear


def test_what_does_not_open_is_critical(data: Path, capfd: Said) -> None:
    filled(data)

    async def alter(house: House) -> None:
        values = house.storage.sealed_values
        row = (await rows(values))[SealedIn.TOKENS, (record_id(1),)]
        bent = type(row.value)(row.value[:-1] + bytes([row.value[-1] ^ 1]))
        await values.replace_sealed(
            SealedIn.TOKENS, [Resealed(key=row.key, before=row.value, after=bent)]
        )

    at_home(data, alter)
    assert run(["key", "rotate"]) == 0
    at_home(data, reseal)
    code, _, said = check(capfd)
    assert code == 5
    assert "1 values do not open" in said
    assert doctor(capfd)["severity"] == "critical"


def test_a_value_under_a_key_that_nobody_has_is_critical(data: Path, capfd: Said) -> None:
    filled(data)

    async def lose(house: House) -> None:
        values = house.storage.sealed_values
        row = (await rows(values))[SealedIn.TOKENS, (record_id(1),)]
        strange = type(row.value)(row.value[:1] + b"\0\0\0\x07" + row.value[5:])
        await values.replace_sealed(
            SealedIn.TOKENS, [Resealed(key=row.key, before=row.value, after=strange)]
        )

    at_home(data, lose)
    code, lines, _ = check(capfd)
    assert code == 5
    assert (lines[-1]["epoch"], lines[-1]["use"], lines[-1]["values"]) == (7, "not there", 1)


def test_another_root_key_is_critical(data: Path, capfd: Said) -> None:
    root_key = data / "keys" / "root.key"
    root_key.unlink()
    assert check(capfd)[0] == 5
    create_root_key(root_key)
    code, _, said = check(capfd)
    assert code == 5
    assert "not the one" in said


def test_a_backup_opens_with_the_root_key_of_its_time(data: Path, tmp_path: Path) -> None:
    """The old file is kept for exactly this."""
    clear = filled(data)
    backup = tmp_path / "backup.sqlite"
    backup.write_bytes((data / "ostiary.sqlite").read_bytes())
    assert run(["key", "rotate", "--root"]) == 0
    assert run(["key", "rotate"]) == 0
    at_home(data, reseal)
    kept = list((data / "keys").glob("root.key.*"))
    assert len(kept) == 1
    for beside in data.glob("ostiary.sqlite-*"):
        beside.unlink()
    (data / "ostiary.sqlite").write_bytes(backup.read_bytes())
    kept[0].replace(data / "keys" / "root.key")
    assert at_home(data, lambda house: opened(house.storage.sealed_values, house.sealer)) == clear


def test_no_key_and_no_value_is_in_anything_that_is_said(data: Path, capfd: Said) -> None:
    """Secrets never reach a terminal, and both are there: raw, in hexadecimal, and in base64."""
    clear = filled(data)
    roots = [(data / "keys" / "root.key").read_bytes()]
    said = ""
    for command in (
        ["key", "check"],
        ["key", "rotate"],
        ["key", "rotate", "--root"],
        ["key", "check", "-o", "json"],
        ["key", "check", "-o", "csv"],
        ["doctor"],
    ):
        run(command)
        said += "".join(capfd.readouterr())
        roots.append((data / "keys" / "root.key").read_bytes())
    for value in (*clear.values(), *roots):
        for form in (value.hex(), repr(value)[2:-1], base64.b64encode(value).decode()):
            assert form not in said
    assert "canary" not in said


def test_an_old_root_key_that_others_may_read_is_told_by_the_doctor(
    data: Path, capfd: Said
) -> None:
    assert run(["key", "rotate", "--root"]) == 0
    (kept,) = (data / "keys").glob("root.key.*")
    kept.chmod(0o644)
    capfd.readouterr()
    run(["doctor", "-o", "json"])
    found = json.loads(capfd.readouterr().out)
    assert [one["severity"] for one in found if one["subject"] == str(kept)] == ["critical"]


def test_rotations_are_audited(data: Path) -> None:
    assert run(["key", "rotate"]) == 0
    assert run(["key", "rotate", "--root"]) == 0

    async def verbs(house: House) -> set[str]:
        engine = house.storage.epochs._engine  # type: ignore[attr-defined]  # the audit is not read by any command yet
        rows = await engine.run(lambda one: one.read("SELECT verb FROM audit").fetchall())
        return {verb for (verb,) in rows}

    assert {"key-rotate", "key-rotate-root"} <= at_home(data, verbs)
