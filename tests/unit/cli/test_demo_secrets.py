"""What the demo prints of escrowed secrets: where they stand in one line, and of a value its beginning alone."""

from datetime import UTC, datetime
from typing import Any

from ostiary.cli.demo_board import Board, BoardRow
from ostiary.cli.demo_secrets import escrow_line, health_lines, masked

MAC = "4C0E7700-0000-4000-8000-000000000001"
REPORT = "1B6F0D2A-0000-4000-8000-000000000002"


def secret(**changes: Any) -> dict[str, Any]:
    """A Recovery Lock in force, as `token escrow -o json` tells it."""
    settled: dict[str, Any] = {
        "kind": "recovery-lock",
        "state": "ok",
        "generation": 2,
        "candidate": None,
        "can": ["reveal", "rotate", "verify"],
        "disclosed": None,
        "rotation_due": None,
    }
    return settled | changes


def health(**changes: Any) -> dict[str, Any]:
    """A bootstrap token that was used, as `token health -o json` tells it."""
    held: dict[str, Any] = {
        "health": "held",
        "severity": "fine",
        "proven": "2026-03-02T09:00:00Z",
        "proven_by": "EACSPreflight said success",
        "secure_token_holders": ["ada", "grace"],
    }
    return held | changes


def test_of_a_value_the_beginning_is_printed_and_of_the_rest_its_form() -> None:
    """Groups can be counted; no letter after the fourth can be read."""
    assert masked("ABCD-EF23-GH45") == "ABCD-****-****"
    assert masked("correct horse") == "corr*********"


def test_a_secret_is_one_line_with_its_generation_and_what_can_be_done() -> None:
    """As `token escrow` has it in columns."""
    who, text = escrow_line(secret())
    assert who == "recovery-lock"
    assert text == "ok         generation 2; can: reveal, rotate, verify"


def test_while_a_change_is_under_way_both_generations_are_named_the_older_one_first() -> None:
    """Source: escrowed-secrets.md 4.0.3."""
    asked = secret(state="uncertain", generation=1, candidate=2, can=["reveal"])
    assert escrow_line(asked)[1] == "uncertain  generation 1 or 2; can: reveal"


def test_a_secret_that_was_shown_says_when_it_is_replaced() -> None:
    """Source: escrowed-secrets.md 4.0.2 rule 7."""
    shown = secret(disclosed="2026-03-02T09:00:00Z", rotation_due="2026-03-02T10:00:00Z")
    assert escrow_line(shown)[1].endswith("; shown, replaced at 10:00:00")


def test_a_secret_of_which_nothing_is_held_has_no_generation() -> None:
    """A Mac that was encrypted before it was managed."""
    absent = secret(kind="filevault-key", state="not escrowed", generation=None, can=["rotate"])
    assert escrow_line(absent) == ("filevault-key", "not escrowed generation -; can: rotate")


def test_health_tells_the_proof_and_who_holds_a_secure_token() -> None:
    """Held is not proven; who holds a SecureToken takes a UserList to know."""
    assert list(health_lines(health())) == [
        ("bootstrap token", "held, fine; EACSPreflight said success, 09:00:00"),
        ("SecureToken", "ada, grace"),
    ]
    unknown = health(proven=None, proven_by=None, secure_token_holders=None)
    assert list(health_lines(unknown)) == [
        ("bootstrap token", "held, fine; not proven"),
        ("SecureToken", "not known"),
    ]


def test_the_table_names_the_command_that_brought_a_secret() -> None:
    """The ledger has its CommandUUID, for which the table has no room; long names of commands are cut, not what became of them."""
    board = Board()
    row = board.add(BoardRow(name="Mac", who="Mac", serial="S", channel="device", id=MAC))
    board.take(
        [{"id": MAC, "state": "enrolled"}],
        [
            {
                "uuid": "another",
                "enrollment": MAC,
                "request_type": "VerifyRecoveryLock",
                "state": "deferred",
            },
            {
                "uuid": REPORT,
                "enrollment": MAC,
                "request_type": "SecurityInfo",
                "state": "done",
            },
        ],
        [
            {
                "holder": MAC,
                "kind": "filevault-key",
                "generation": 1,
                "state": "unproven",
                "cause": f"came with report of command {REPORT}",
                "proven_by": None,
            }
        ],
    )
    assert [line.known_by for line in row.tokens] == ["SecurityInfo"]
    assert row.command == "VerifyRecovery NotNow"


def test_what_a_command_answered_stands_below_it_without_a_prompt() -> None:
    """`$` is for what a person typed."""
    board = Board()
    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    board.tell(at, "ostiary token escrow …")
    board.answer(at, "recovery-lock", "ok")
    assert [line.who for line in board.lines] == ["$", "recovery-lock"]
