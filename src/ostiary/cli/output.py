"""Lists and facts on standard output: a table for people, json, jsonl and csv for programs."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Form(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


OUTPUT: Final = typer.Option(
    "--output", "-o", help="How to print it.", case_sensitive=False, show_choices=True
)


def print_list(rows: Sequence[Row], columns: Mapping[str, str], form: Form) -> None:
    """Print rows. `columns` maps a row's key to its heading; json and jsonl carry every key."""
    match form:
        case Form.TABLE:
            _print_table(rows, columns)
        case Form.JSON:
            print(_as_json(list(rows), indent=2))
        case Form.JSONL:
            for row in rows:
                print(_as_json(row))
        case Form.CSV:
            print(_as_csv(rows, columns), end="")


def print_facts(facts: Row, form: Form) -> None:
    """Print one thing: a name and a value a line, or as an object."""
    match form:
        case Form.TABLE:
            width = max((len(name) for name in facts), default=0)
            for name, value in facts.items():
                print(f"{name.replace('_', ' '):<{width}}  {printable(_cell(value))}".rstrip())
        case Form.JSON:
            print(_as_json(facts, indent=2))
        case Form.JSONL | Form.CSV:
            print_list([facts], dict.fromkeys(facts, ""), form)


def say(sentence: str) -> None:
    """Tell a person what was done, on standard error, so that standard output stays for results."""
    print(printable(sentence), file=sys.stderr)


def printable(text: str) -> str:
    """Text without what could move a terminal's cursor or reverse its lines: devices' names are hostile."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _print_table(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    if not rows:
        say("Nothing to show.")
        return
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold", no_wrap=not console.is_terminal)
    for row in rows:
        table.add_row(*(Text(printable(_cell(row.get(key)))) for key in columns))
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no width: nothing is cut off or folded
        table.expand = False
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().rstrip("\n").splitlines()))


def _as_json(content: object, indent: int | None = None) -> str:
    """The very values, spelled so that a terminal which shows them does nothing else.

    Beyond ASCII only strings have letters, and there any letter may be written as an escape.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _as_csv(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    text = io.StringIO()
    shown = printable if sys.stdout.isatty() else str
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_harmless(shown(_cell(row.get(key)))) for key in columns)
    return text.getvalue()


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(_cell(item) for item in value)
        case _:
            return str(value)
