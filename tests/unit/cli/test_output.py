"""How lists reach a terminal, a program and a spreadsheet, whatever a device is called."""

import csv
import io
import json

import pytest

from ostiary.cli.output import Form, print_facts, print_list, printable

COLUMNS = {"id": "ID", "name": "NAME"}
HOSTILE = [
    "=HYPERLINK(1)",
    "+1",
    "-1",
    "@SUM",
    "\x1b[2J\x1b]0;owned\x07",
    "a\nb",
    "\u202egnp.exe",
    "[red]bold[/red]",
    "{{7*7}}",
    "\x00",
]


def rows() -> list[dict[str, str]]:
    return [{"id": str(number), "name": name} for number, name in enumerate(HOSTILE)]


def test_no_name_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """users.md 5.4 case 9: CRLF, NUL, RTL marks; followed through list and export."""
    print_list(rows(), COLUMNS, Form.TABLE)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == len(HOSTILE) + 1
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "[red]bold[/red]" in out


def test_no_name_is_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    """users.md 5.4 case 9: CSV formula."""
    print_list(rows(), COLUMNS, Form.CSV)
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in read[:4]] == ["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM"]
    assert len(read) == len(HOSTILE)


def test_programs_get_every_key_and_the_very_value(capsys: pytest.CaptureFixture[str]) -> None:
    """Json and jsonl carry what the table leaves out."""
    lines = [row | {"more": 1} for row in rows()]
    print_list(lines, COLUMNS, Form.JSON)
    assert json.loads(capsys.readouterr().out) == lines
    print_list(lines, COLUMNS, Form.JSONL)
    assert [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]] == lines


@pytest.mark.parametrize("form", [Form.JSON, Form.JSONL])
def test_json_that_is_read_on_a_terminal_moves_no_cursor_and_carries_the_very_value(
    capsys: pytest.CaptureFixture[str], form: Form
) -> None:
    """users.md 5.4 case 9: control and format characters are escapes, whatever the reader is."""
    hostile = {"id": "a\x9b2J\x7f\u202e\u2028\U000e0041\ud800", "name": "Zoë’s Mac 🍏"}
    print_list([hostile], COLUMNS, form)
    out = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "a\\u009b2J\\u007f\\u202e\\u2028\\udb40\\udc41\\ud800" in out
    assert "Zoë’s Mac 🍏" in out, "letters stay letters"
    assert json.loads(out) == ([hostile] if form is Form.JSON else hostile)
    print_facts(hostile, form)
    assert all(c.isprintable() or c == "\n" for c in capsys.readouterr().out)


def test_csv_is_escaped_as_a_table_is_where_a_terminal_shows_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program on a pipe gets the very value."""
    lines = [{"id": "a\x9b\x7f\u202e", "name": "Zoë"}]
    print_list(lines, COLUMNS, Form.CSV)
    assert capsys.readouterr().out == "id,name\na\x9b\x7f\u202e,Zoë\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_list(lines, COLUMNS, Form.CSV)
    assert capsys.readouterr().out == "id,name\na\\x9b\\x7f\\x202e,Zoë\n"


def test_a_table_on_a_pipe_is_neither_folded_nor_coloured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """users.md 3.1: no colour when not a terminal."""
    monkeypatch.setenv("COLUMNS", "40")
    print_list([{"id": "x" * 200, "name": None}], COLUMNS, Form.TABLE)
    assert capsys.readouterr().out == f"{'ID':<200}  NAME\n{'x' * 200}\n"


def test_facts_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"last_seen": None, "awaiting": True, "rights": [1, 2]}, Form.TABLE)
    assert capsys.readouterr().out == "last seen\nawaiting   yes\nrights     1, 2\n"
    print_facts({"id": "A"}, Form.JSON)
    assert json.loads(capsys.readouterr().out) == {"id": "A"}


def test_printable_leaves_letters_alone() -> None:
    assert printable("Zoë’s Mac 🍏") == "Zoë’s Mac 🍏"
    assert printable("a\r\x9b") == "a\\x0d\\x9b"
