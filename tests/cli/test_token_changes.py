"""`ostiary token rotate`, `set`, `clear` and `verify` at the terminal, as their help shows them."""

import asyncio
import io
from pathlib import Path

import pytest

from enrolled import NOW
from escrowed import enroll_mac, escrow_values
from ostiary.cli.main import run
from ostiary.domain.token import TokenKind
from ostiary.house import open_house
from ostiary.settings import load_settings


async def _furnish(data: Path) -> None:
    async with open_house(load_settings(data)) as house:
        await enroll_mac(house, "HELD")
        await escrow_values(
            house.storage.enrollments,
            house.sealer,
            "HELD",
            TokenKind.RECOVERY_LOCK,
            [b"canary-password"],
            NOW,
        )


@pytest.fixture
def held(data: Path) -> Path:
    """An installation with one Mac whose Recovery Lock is known."""
    asyncio.run(_furnish(data))
    return data


@pytest.mark.parametrize("name", ["HELD", "SHELD"], ids=["enrollment id", "serial number"])
def test_a_device_is_named_as_everywhere_and_nobody_has_to_say_why(
    held: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """A reason is asked of who wants to see a value, and of nobody else."""
    assert run(["token", "verify", name, "recovery-lock", "--data", str(held)]) == 0
    assert run(["token", "rotate", name, "firmware-password", "--data", str(held)]) != 0
    assert "Intel" in capfd.readouterr().err
    assert run(["token", "rotate", name, "activation-bypass-device", "--data", str(held)]) == 0
    assert "canary" not in "".join(capfd.readouterr())


def test_an_empty_standard_input_is_named_as_such(
    held: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["token", "set", "HELD", "recovery-lock", "--data", str(held)]) == 65
    assert "no value on standard input" in capfd.readouterr().err


KINDS = {
    "recovery-lock": "another Recovery Lock password is on its way",
    "filevault-key": "the Mac is told to make another FileVault recovery key",
    "activation-bypass-device": "the code itself stays as it is",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_rotation_does_is_said_for_its_kind(
    held: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    """escrowed-secrets.md 4.3, 4.4, 4.9: a value that is drawn, one that the Mac makes, and one that stays."""
    given = ["--unlock-with-stdin"] if kind == "filevault-key" else []
    if given:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sys.stdin", io.StringIO("a user's password\n"))
            assert run(["token", "rotate", "HELD", kind, *given, "--data", str(held)]) == 0
    else:
        assert run(["token", "rotate", "HELD", kind, "--data", str(held)]) == 0
    assert KINDS[kind] in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rotate", "lock-pin"], "each lock has its own; `ostiary enqueue ID device-lock`"),
        (["rotate", "bootstrap"], "profiles install -type bootstraptoken"),
        (["clear", "admin-password"], "the administrator password is not cleared by a command"),
        (["clear", "filevault-key"], "the FileVault recovery key is not cleared by a command"),
        (["verify", "filevault-key"], "whether it holds the FileVault recovery key"),
    ],
    ids=lambda words: "-".join(words) if isinstance(words, list) else "",
)
def test_what_no_command_does_is_refused_in_the_words_of_the_kind(
    held: Path, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """users.md 5.3: what happened, what it means, what to do."""
    verb, kind = words
    assert run(["token", verb, "HELD", kind, "--data", str(held)]) == 77
    assert said in " ".join(capfd.readouterr().err.split())


def test_a_further_lock_says_that_it_carries_the_pending_pin(
    held: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """escrowed-secrets.md 4.6, re-issue; a device is named by its serial number here."""
    lock = ["enqueue", "SHELD", "device-lock", "--no-push", "--data", str(held)]
    assert run([*lock, "--pin", "111111"]) == 0
    assert "carries the same PIN" not in capfd.readouterr().err
    assert run(lock) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert "so this carries the same PIN: ostiary token reveal HELD lock-pin" in said
    assert run([*lock, "--pin", "222222"]) == 73
    said = capfd.readouterr().err
    assert "Leave the PIN out" in said
    assert "111111" not in said
