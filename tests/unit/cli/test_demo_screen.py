"""What the demo draws: the whole table where there is room, fewer words where there is not, and nothing hostile."""

from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from ostiary.cli.demo_board import Board, BoardRow, TokenLine
from ostiary.cli.demo_screen import Screen, render
from ostiary_sim.events import Event

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def full_board() -> Board:
    """The board as it is shortly before the end of a demo."""
    board = Board()
    board.act = "The iPhone's passcode is cleared"
    for name, kinds in (("iPhone", 4), ("iPad", 5), ("Shared iPad", 3), ("Mac", 7)):
        board.add(row(name, kinds))
    for name, whose in (("ada", "Shared iPad"), ("grace", "Shared iPad"), ("ada", "Mac")):
        board.add(row(name, 1, serial=whose))
    for _ in range(20):
        board.hear(event("device", "iPhone", "passcode_cleared"))
    return board


def row(name: str, tokens: int, *, serial: str = "") -> BoardRow:
    return BoardRow(
        name=name,
        who=name,
        serial=serial or name,
        channel=name if serial else "device",
        is_user=bool(serial),
        state="enrolled",
        command="DeviceInformation waits",
        tokens=[
            TokenLine(
                kind="enrollment-challenge",
                generation=each + 1,
                state="superseded",
                known_by="ClearPasscode acknowledged",
                is_proven=True,
            )
            for each in range(tokens)
        ],
    )


def event(channel: str, serial: str, what: str, detail: str = "") -> Event:
    return Event(at=AT, serial=serial, channel=channel, what=what, detail=detail)


def drawn(board: Board, width: int, height: int) -> list[str]:
    """The lines of the picture in a terminal of this size."""
    console = Console(file=StringIO(), width=width, height=height)
    with console.capture() as capture:
        console.print(render(board, width, height))
    return capture.get().splitlines()


def test_a_terminal_of_110_by_34_shows_the_whole_table_uncut() -> None:
    """Every token has its line, every word is whole, and the newest events stand below."""
    lines = drawn(full_board(), 110, 34)
    assert len(lines) <= 34
    assert max(len(line.rstrip()) for line in lines) <= 110
    assert sum("ClearPasscode acknowledged" in line for line in lines) == 22
    assert not any("…" in line for line in lines)
    assert lines[-1].endswith("its passcode is cleared")


def test_a_small_terminal_shows_every_device_and_every_state_in_fewer_words() -> None:
    """80 by 24 is what many people have."""
    text = "\n".join(drawn(full_board(), 80, 24))
    for name in ("iPhone", "iPad", "Shared iPad", "Mac", "ada", "grace"):
        assert name in text
    assert text.count("superseded") == 22


def test_a_large_terminal_shows_more_of_what_happened() -> None:
    """Room below the table is for the story."""
    few, many = drawn(full_board(), 110, 34), drawn(full_board(), 110, 50)
    told = [sum("its passcode is cleared" in line for line in lines) for lines in (few, many)]
    assert told == [4, 12]


def test_users_stand_below_the_others_of_their_device() -> None:
    """Rows follow devices, in whatever order people log in."""
    order = [(row.serial, row.name) for row in full_board().rows if row.is_user]
    assert order == [("Shared iPad", "ada"), ("Shared iPad", "grace"), ("Mac", "ada")]
    serials = [row.serial for row in full_board().rows]
    assert serials == ["iPhone", "iPad", *["Shared iPad"] * 3, *["Mac"] * 2]


def test_what_a_device_says_moves_no_cursor() -> None:
    """A request type may be hostile; on the screen it is text."""
    board = full_board()
    board.hear(event("device", "iPad", "command_answered", "\x1b[2J: Error"))
    board.rows[0].command = "\x1b]0;title\x07 done"
    assert "\x1b" not in "".join(drawn(board, 110, 34))


def test_without_a_terminal_every_event_is_one_line_told_once() -> None:
    """A pipe gets the story, not a table that repaints itself."""
    board, out = full_board(), StringIO()
    screen = Screen(board, Console(file=out, width=110))
    screen.refresh()
    screen.refresh()
    assert out.getvalue().count("its passcode is cleared") == 20
    assert out.getvalue().count("== The iPhone's passcode is cleared") == 1


def test_the_frozen_table_stays_on_the_terminal_and_lines_follow() -> None:
    """What was seen last is still there when the demo has ended."""
    board, out = full_board(), StringIO()
    screen = Screen(board, Console(file=out, width=110, height=34, force_terminal=True))
    screen.refresh()
    screen.freeze()
    before = out.getvalue()
    board.hear(event("device", "Mac", "push_received"))
    screen.refresh()
    assert "Shared iPad" in before
    assert "was woken by a push" in out.getvalue().removeprefix(before)
