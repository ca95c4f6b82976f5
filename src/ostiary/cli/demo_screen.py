"""How the demo looks: a table that lives in a terminal, or plain lines where there is none."""

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ostiary.cli.demo_board import Board, BoardRow, Line, TokenLine
from ostiary.cli.output import printable

_COLUMNS: Final = {
    "DEVICE": 11,
    "STATE": 8,
    "STEP": 15,
    "LAST COMMAND": 23,
    "TOKEN": 11,
    "LIFE": 10,
    "PROVEN BY": 26,
}
"""Headings of the whole table, and the width that each column needs: fixed, so that nothing jumps."""
WIDE: Final = sum(_COLUMNS.values()) + len(_COLUMNS) - 1
_LINES: Final = (4, 12)
"""How many lines of what happened stand below the table: at least, at most."""

_SHORT_KINDS: Final = {
    "enrollment-challenge": "challenge",
    "filevault-key": "filevault",
    "recovery-lock": "recovery",
}
"""The column has no room for the whole word."""
_STATE_STYLE: Final = {
    "ok": "green",
    "enrolled": "green",
    "unproven": "yellow",
    "pending": "yellow",
    "candidate": "yellow",
    "renewing": "yellow",
    "renew soon": "yellow",
    "superseded": "dim",
    "retired": "dim",
    "out": "dim",
    "-": "dim",
}


class Screen:
    """Where the board is shown: a live table on a terminal; elsewhere, and later, a line for each event."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console
        self._told = 0
        self._act = ""
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                console=console, auto_refresh=False, transient=True, vertical_overflow="crop"
            )
            self._live.start()

    def refresh(self) -> None:
        """Show what the board says now."""
        if self._live is not None:
            size = self._console.size
            self._live.update(render(self._board, size.width, size.height), refresh=True)
            return
        if self._board.act != self._act:
            self._act = self._board.act
            self._console.print(Text(f"== {self._act}"), soft_wrap=True)
        for line in self._board.lines[self._told :]:
            self._console.print(_line(line), soft_wrap=True)
        self._told = len(self._board.lines)

    def freeze(self) -> None:
        """Leave the table as it is now; from here on there are only lines."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._told, self._act = len(self._board.lines), self._board.act
        self.refresh()
        if self._board.rows:
            self._console.print(render_end(self._board, self._console.width))


def render(board: Board, width: int, height: int) -> RenderableType:
    """The whole picture for a terminal of this size; tokens become words in one line where it is small."""
    least, most = _LINES
    room = height - _rows_of(board) - 5
    table = _wide_table(board) if width >= WIDE and room >= least else _narrow_table(board)
    return Group(
        Text(f"Ostiary demo  {board.act}", style="bold", no_wrap=True, overflow="ellipsis"),
        Text(),
        table,
        Text(),
        *(_line(line) for line in board.lines[-min(max(room, least), most) :]),
    )


def render_end(board: Board, width: int) -> RenderableType:
    """The last state of the table alone."""
    return _wide_table(board) if width >= WIDE else _narrow_table(board)


def _rows_of(board: Board) -> int:
    """Lines of the whole table below its headings."""
    gaps = len({row.serial for row in board.rows}) - 1
    return sum(max(1, len(row.tokens)) for row in board.rows) + max(0, gaps)


def _wide_table(board: Board) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for heading, width in _COLUMNS.items():
        table.add_column(heading, width=width, no_wrap=True, overflow="ellipsis")
    for row in board.rows:
        if table.row_count and not row.is_user:
            table.add_row()
        tokens: list[TokenLine | None] = [*row.tokens] or [None]
        first, *others = tokens
        table.add_row(*_device_cells(row), *_token_cells(first))
        for token in others:
            table.add_row("", "", "", "", *_token_cells(token))
    return table


def _narrow_table(board: Board) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("DEVICE", "STATE", "STEP"):
        table.add_column(heading, no_wrap=True)
    table.add_column("TOKENS")
    for row in board.rows:
        tokens = Text(", ").join(_token_words(token) for token in row.tokens)
        name, state, step, _ = _device_cells(row)
        table.add_row(name, state, step, tokens)
    return table


def _device_cells(row: BoardRow) -> tuple[RenderableType, ...]:
    name = Text(printable(row.name), style="" if row.is_user else "bold")
    return (
        Padding(name, (0, 0, 0, 2)) if row.is_user else name,
        Text(row.state, style=_STATE_STYLE.get(row.state, "red")),
        Text(row.step),
        Text(printable(row.command)),
    )


def _token_cells(token: TokenLine | None) -> tuple[RenderableType, ...]:
    if token is None:
        return "", "", ""
    known_by = printable(token.known_by)
    return (
        Text(f"{_kind(token)} {token.generation}"),
        Text(token.state, style=_STATE_STYLE.get(token.state, "red")),
        Text(known_by) if token.is_proven else Text(f"({known_by})", style="dim"),
    )


def _token_words(token: TokenLine) -> Text:
    return Text.assemble(
        f"{_kind(token)} {token.generation} ",
        (token.state, _STATE_STYLE.get(token.state, "red")),
    )


def _kind(token: TokenLine) -> str:
    return _SHORT_KINDS.get(token.kind, token.kind)


def _line(line: Line) -> Text:
    return Text.assemble(
        (f"{line.at:%H:%M:%S}  ", "dim"),
        (f"{printable(line.who):<19} ", "bold"),
        printable(line.text),
        no_wrap=True,
        overflow="ellipsis",
    )
