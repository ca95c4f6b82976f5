"""The demo's acts about a Mac's escrowed secrets: brought, set, proven, replaced, and shown to a person for a reason."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, Final

from ostiary.cli.demo_board import BoardRow
from ostiary.cli.demo_house import abbreviated
from ostiary.cli.demo_stage import Stage, generation, is_proven, token
from ostiary.settings import Places
from ostiary.storage.sqlite.connection import open_reader
from ostiary_sim.device import Device

DISK, LOCK = "filevault-key", "recovery-lock"
REASON: Final = "ticket 4711"
SHOWN_LETTERS: Final = 4
"""So much of a value is printed: a demo's output gets copied, and readers should not learn that whole values do."""
_VERIFY: Final = "VerifyRecoveryLock"
# The audit has no command of its own yet, so the demo reads the entry where the server wrote it.
_AUDIT: Final = """
    SELECT actor, verb, subject, reason FROM audit WHERE verb = 'secret-reveal' ORDER BY number
"""


async def keep_secrets(stage: Stage, mac: Device, row: BoardRow) -> None:
    """FileVault key and Recovery Lock of one Mac, from nothing to their second generation. Raises DemoFailed."""
    await escrow_filevault_key(stage, mac, row)
    await set_recovery_lock(stage, mac, row)
    await rotate_recovery_lock(stage, mac, row)
    await reveal_to_person(stage, mac)
    await tell_what_is_held(stage, mac)


async def escrow_filevault_key(stage: Stage, mac: Device, row: BoardRow) -> None:
    """The profile first, then a login that encrypts, then the key: in that order, or there would be no envelope."""
    stage.act("FileVault: the Mac's recovery key comes in an envelope that this server alone opens")
    await stage.house.run("filevault", "install", mac.udid, "--location", "the help desk")
    await stage.until(
        "the Mac installs the FileVault profile", lambda: stage.has_answered(row, "InstallProfile")
    )
    mac.user_logout("ada")
    await stage.played("ada logs in once more", mac.user_login("ada"))
    stage.require("the Mac's disk is encrypted", holds=mac.volume.encrypted)
    for word in ("user-list", "security-info"):  # answered in this order: grace is new here
        await stage.house.ask("enqueue", mac.udid, word)
    await stage.until("the ledger holds the recovery key", lambda: token(row, DISK) is not None)
    await stage.pause()


async def set_recovery_lock(stage: Stage, mac: Device, row: BoardRow) -> None:
    """Drawn here, stored before it leaves, and in force once the Mac has said that it holds it."""
    stage.act(
        "A Recovery Lock is set; the Mac is asked whether it holds it, and only then it counts"
    )
    await stage.house.run("token", "rotate", mac.udid, LOCK)
    await stage.until("the Recovery Lock is proven", lambda: is_proven(row, LOCK))
    stage.require("the Mac has a Recovery Lock", holds=mac.recovery_lock.password is not None)
    await stage.pause()


async def rotate_recovery_lock(stage: Stage, mac: Device, row: BoardRow) -> None:
    """The Mac takes the second value and puts off the question; until it answers, either may be in force."""
    stage.act(
        "It is replaced: the old one is kept until the Mac has proven that it holds the new one"
    )
    mac.say_not_now([_VERIFY])
    await stage.house.run("token", "rotate", mac.udid, LOCK, "--reason", REASON)
    await stage.until(
        "the Mac puts the question off", lambda: stage.has_answered(row, _VERIFY, "NotNow")
    )
    await stage.until("the ledger holds two Recovery Locks", lambda: generation(row, LOCK) > 1)
    stage.require("the new lock does not count yet", holds=not is_proven(row, LOCK))
    held = await stage.house.ask("token", "escrow", mac.udid)
    stage.tell_all(escrow_line(line) for line in held if line["kind"] == LOCK)
    await stage.pause()
    mac.ready()
    await stage.played("the Mac comes back", mac.poll())
    await stage.until("the new Recovery Lock is proven", lambda: is_proven(row, LOCK))
    await stage.pause()


async def reveal_to_person(stage: Stage, mac: Device) -> None:
    """Audit entry and disclosure are on disk before the value leaves; here only its beginning is printed."""
    stage.act("A person may see a value, for a reason that is kept; it is replaced an hour later")
    told = await stage.house.ask("token", "reveal", mac.udid, DISK, "--reason", REASON)
    value = told["values"][0]["value"]
    stage.require("it is the key of the Mac's disk", holds=value == mac.volume.recovery_key)
    stage.tell_all([(DISK, masked(value)), *read_audit(stage)])
    await stage.pause()


async def tell_what_is_held(stage: Stage, mac: Device) -> None:
    """Every secret of the Mac, and the health of its bootstrap token, without any value."""
    stage.act("What is held of the Mac, whether it works, and what can be done: never a value")
    held = await stage.house.ask("token", "escrow", mac.udid)
    stage.tell_all(escrow_line(line) for line in held)
    await stage.pause()
    health = await stage.house.ask("token", "health", mac.udid)
    stage.tell_all(line for one in health for line in health_lines(one))
    await stage.pause()


def escrow_line(line: dict[str, Any]) -> tuple[str, str]:
    """One secret as `token escrow` tells it: where it stands, which generation, what can be done, who saw it."""
    numbers = [str(one) for one in (line["generation"], line["candidate"]) if one is not None]
    told = [f"{line['state']:<10} generation {' or '.join(numbers) or '-'}"]
    if line["can"]:
        told.append(f"can: {', '.join(line['can'])}")
    if line["disclosed"] and line["rotation_due"]:
        told.append(f"shown, replaced at {clock_of(line['rotation_due'])}")
    return line["kind"].removeprefix("activation-"), "; ".join(told)


def health_lines(line: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A bootstrap token as `token health` tells it: its state, its proof, and who holds a SecureToken."""
    proof = f"{line['proven_by']}, {clock_of(line['proven'])}" if line["proven"] else "not proven"
    yield "bootstrap token", f"{line['health']}, {line['severity']}; {proof}"
    holders = line["secure_token_holders"]
    yield "SecureToken", "not known" if holders is None else ", ".join(holders)


def masked(value: str) -> str:
    """The beginning of a value; of the rest its form alone."""
    rest = "".join(letter if letter == "-" else "*" for letter in value[SHOWN_LETTERS:])
    return value[:SHOWN_LETTERS] + rest


def read_audit(stage: Stage) -> list[tuple[str, str]]:
    """Every reveal that the audit knows of: who, what and why."""
    database = Places(stage.house.data).database
    with closing(open_reader(database)) as reading:
        entries = list(reading.execute(_AUDIT))
    stage.require("the reveal is in the audit", holds=any(entry[3] == REASON for entry in entries))
    return [
        ("audit", f"{actor}: {verb} {abbreviated(subject)}; reason: {reason}")
        for actor, verb, subject, reason in entries
    ]


def clock_of(moment: str) -> str:
    """The time of day in a moment as the command line writes it."""
    return f"{datetime.fromisoformat(moment):%H:%M:%S}"
