"""Transcripts of `ostiary token health`, `escrow` and `reveal`, on an installation with Macs and their secrets."""

import asyncio
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.test_transcripts import as_words, blocks
from enrolled import NOW
from escrowed import enroll_mac, escrow_values
from ostiary.cli.main import run
from ostiary.domain.decision import Ask, ByName, Change
from ostiary.domain.escrow import EscrowState
from ostiary.domain.facts import Fact, FactSheet, SheetName
from ostiary.domain.token import DEFAULT_TENANT, TokenKind, TokenState, TokenStep
from ostiary.house import open_house
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.settings import load_settings

SHOWN = ("first-password", "second-password", "third-password", "AAAA-BBBB", "135791")
TRANSCRIPT = Path(__file__).parent / "token-secrets.txt"
USERS: Mapping[str, Fact] = {
    "Users": [
        {"UserName": "ann", "HasSecureToken": True, "IsLoggedIn": False},
        {"UserName": "bob\x1b[2J", "HasSecureToken": True, "IsLoggedIn": False},
        {"UserName": "guest", "HasSecureToken": False},
    ]
}


async def _furnish(data: Path) -> None:
    async with open_house(load_settings(data)) as house:
        storage, sealer = house.storage, house.sealer
        held = await enroll_mac(house, "HELD", bootstrap=b"canary-bootstrap")
        doubted = await enroll_mac(house, "SUSPECT", bootstrap=b"canary-bootstrap")
        waits = await enroll_mac(house, "WAITS")
        assert held.bootstrap is not None
        assert doubted.bootstrap is not None
        step = TokenStep(
            record_id=doubted.bootstrap.record_id,
            state=TokenState.SUSPECT,
            cause="EACSPreflight said: unknown failure",
        )
        sheet = FactSheet(
            enrollment_key=waits.key, name=SheetName.USERS, facts=USERS, reported_at=NOW
        )
        who = ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId("WAITS"))
        await storage.enrollments.decide(
            Ask(who=who), lambda _seen: Change(at=NOW, answer=None, steps=(step,), facts=(sheet,))
        )
        await escrow_values(
            storage.enrollments,
            sealer,
            "HELD",
            TokenKind.RECOVERY_LOCK,
            [b"first-password", b"second-password", b"third-password"],
            NOW,
            current=1,
            candidate=2,
            state=EscrowState.UNCERTAIN,
            trouble="no answer came",
        )
        await escrow_values(
            storage.enrollments,
            sealer,
            "HELD",
            TokenKind.FILEVAULT_KEY,
            [b"AAAA-BBBB-CCCC-DDDD-EEEE-FFFF"],
            NOW,
        )
        for name, state in (
            ("QUEUED", EscrowState.CANDIDATE),
            ("LOCKED", EscrowState.UNCERTAIN),
        ):
            await enroll_mac(house, name)
            await escrow_values(
                storage.enrollments,
                sealer,
                name,
                TokenKind.LOCK_PIN,
                [b"135791"],
                NOW,
                current=None,
                candidate=0,
                state=state,
            )


def test_the_terminal_says_of_secrets_what_the_transcript_says(
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """design.md 3: names and exit codes that scripts rely on; a value is on standard output alone."""
    asyncio.run(_furnish(data))
    monkeypatch.setenv("COLUMNS", "100")
    for command, expected in blocks(TRANSCRIPT.read_text()):
        code = run(shlex.split(command))
        out, err = capfd.readouterr()
        said = as_words(out + err, {data: "DATA", tmp_path: "HERE"})
        ending = f"[exit {code}]" if code else ""
        assert f"{said}\n{ending}".strip() == expected, command
        assert "canary" not in out + err
        assert not [value for value in SHOWN if value in err], "a value is on standard output alone"
