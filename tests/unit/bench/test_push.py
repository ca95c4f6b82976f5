"""The measurement of pushes: that it loses none, and what its stand-in says."""

from pathlib import Path

import pytest

from bench.push import BAR_MS, PushFigures, measure_pushes, render
from bench.push_apple import Apple, connection_of

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000000 04 00 00000000")
PING = bytes.fromhex("000008 06 00 00000000") + b"12345678"
HEADERS = bytes.fromhex("000002 01 04 00000003") + b"\x82\x84"
BODY = bytes.fromhex("000002 00 01 00000003") + b"{}"


class Wire:
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_a_push_is_answered_in_whatever_pieces_it_arrives(piece: int) -> None:
    apple, wire = Apple(0), Wire()
    connection = connection_of(apple, wire)
    said = PREFACE + SETTINGS + PING + HEADERS + BODY
    hello, wire.written = wire.written, b""
    assert hello[3] == 4, "its settings come first"
    for at in range(0, len(said), piece):
        connection.data_received(said[at : at + piece])
    acknowledged, pong, answer = wire.written[:9], wire.written[9:26], wire.written[26:]
    assert acknowledged == bytes.fromhex("000000 04 01 00000000")
    assert pong == bytes.fromhex("000008 06 01 00000000") + b"12345678"
    assert answer[3:9] == bytes.fromhex("01 05 00000003")
    assert answer[9] == 0x88, ":status 200"
    assert apple.answered == 1


def test_every_push_of_a_measurement_arrives_and_is_booked(tmp_path: Path) -> None:
    """Else it raises: a run that loses pushes measures nothing."""
    figures = measure_pushes("sqlite", tmp_path, pushes=60, rounds=1)
    assert figures.pushes == 60
    assert figures.cpu_ms > 0
    assert figures.database_cpu_ms == 0
    assert "sqlite" in render([figures])


def test_a_figure_over_the_bar_is_told() -> None:
    """Client, outbox and database together. (design.md 8)"""
    figures = PushFigures(
        engine="postgres", pushes=1, per_second=1, cpu_ms=BAR_MS, database_cpu_ms=0.01
    )
    assert not figures.holds
    assert "**missed**" in render([figures])
