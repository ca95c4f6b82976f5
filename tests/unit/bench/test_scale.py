"""The parts of `python -m bench.scale` and `python -m bench.soak` that must be right for their figures to be."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bench import soak
from bench.fleet import Device
from bench.scale import report, talk
from bench.scale.crowd import Member, command_in, enrolling, number_of, push_token
from bench.scale.moved import FastClock
from bench.scale.stage import ActFigures
from bench.scale.talk import Tally, Visit
from bench.scale.watch import Sample
from bench.wire import Exchange, WrongAnswer

IPHONE = Member(number=4711, device=Device("UDID", "SERIAL", b"", 0, has_attributes=True))
MAC = replace(IPHONE, number=4712)
POLL = Exchange(request=b"PUT /mdm HTTP/1.1\r\nContent-Length: 0\r\n\r\n", kind="Idle")
FIGURES = ActFigures(
    act="storm",
    devices=10,
    seconds=4.0,
    requests=20,
    pushes=10,
    p50_ms=1.0,
    p99_ms=2.0,
    slowest_ms=3.0,
    server_cpu=0.01,
    database_cpu=0.01,
    peak_mib=90.0,
    database_mib=1.0,
    wal_mib=4.0,
    refused=2,
    longest_refused=1.5,
    notes=("all came",),
)


@asynccontextmanager
async def answering(answers: list[bytes]) -> AsyncIterator[int]:
    """A server that gives these answers, one to each request, and then hangs up; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answers.pop(0))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, talk.HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def answer(status: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "_AGAIN_AFTER_SECONDS", (0.0, 0.0))


async def test_a_device_that_is_refused_comes_again_and_is_counted() -> None:
    """Figures that left out who was refused would praise a server that refuses."""
    tally = Tally()
    async with answering([answer("503 Busy"), answer("200 OK", b"a command")]) as port:
        visit = Visit(port, tally)
        assert await visit.say(POLL) == b"a command"
        visit.end()
    assert (len(tally.seconds), tally.refusals["503"]) == (1, 1)
    assert tally.longest_refused > 0


async def test_a_wrong_answer_ends_the_run() -> None:
    async with answering([answer("400 Bad Request")]) as port:
        visit = Visit(port, Tally())
        with pytest.raises(WrongAnswer, match="400"):
            await visit.say(POLL)
        visit.end()


async def test_each_look_takes_what_was_answered_since_the_last() -> None:
    tally = Tally()
    tally.seconds.extend((3.0, 1.0))
    assert tally.take_recent() == [1.0, 3.0]
    tally.seconds.append(2.0)
    assert tally.take_recent() == [2.0]
    assert tally.percentile_ms(50) == 2000.0


def test_a_push_token_says_whose_it_is() -> None:
    token = push_token(IPHONE)
    assert (len(token), number_of(token)) == (32, 4711)
    assert token != push_token(IPHONE)


def test_phones_bring_an_unlock_token_and_macs_a_bootstrap_token() -> None:
    kinds = {member.is_mac: [draft.kind for draft in enrolling(member)] for member in (IPHONE, MAC)}
    assert kinds == {
        False: ["Authenticate", "TokenUpdate"],
        True: ["Authenticate", "TokenUpdate", "SetBootstrapToken"],
    }
    assert "UnlockToken" in enrolling(IPHONE)[1].message


def test_an_empty_answer_holds_no_command() -> None:
    assert command_in(b"") is None


def test_a_fast_clock_goes_on_from_where_it_was() -> None:
    clock = FastClock()
    began = clock.now()
    clock.skip(3600)
    clock.run_at(1_000_000)
    assert clock.now() >= began + timedelta(hours=1)
    clock.run_at(1)
    assert clock.now() >= began + timedelta(hours=1)


def test_the_figures_find_their_place_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "scale.md"
    mark = "<!-- figures: python -m bench.scale --engine sqlite --write -->"
    page.write_text(f"before\n{mark}\nold\n<!-- end of sqlite -->\nafter\n")
    monkeypatch.setattr(report, "PAGE", page)
    report.write_page("sqlite", report.render("sqlite", [FIGURES], [sample(85.0), sample(128.0)]))
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert "- storm: all came." in lines
    assert any("2, at most 1.5 s" in line for line in lines)
    assert '    y-axis "MiB" 0 --> 150' in lines


def sample(resident: float) -> Sample:
    return Sample(
        seconds=0,
        act="enroll",
        resident_mib=resident,
        peak_mib=resident,
        cpu_seconds=0,
        database_cpu_seconds=0,
        database_mib=1,
        wal_mib=4,
        open_files=30,
        threads=3,
        requests=1,
        pushes=1,
        p50_ms=1,
        p99_ms=2,
        bare_ms=1,
    )


@pytest.mark.parametrize(
    ("resident", "holds"),
    [
        pytest.param(lambda _: 100.0, True, id="memory that stays"),
        pytest.param(lambda second: 100.0 + second % 7, True, id="memory that comes and goes"),
        pytest.param(lambda second: 60.0 if second < 25 else 100.0, True, id="a warm-up"),
        pytest.param(lambda second: 100.0 + second / 10, False, id="a leak"),
    ],
)
def test_a_soak_tells_a_leak_from_a_warm_up(
    resident: Callable[[int], float], *, holds: bool
) -> None:
    samples: Sequence[Sample] = [sample(resident(second)) for second in range(120)]
    windows = soak.split(samples)[soak.WARM_UP :]
    memory = next(bound for bound in soak.BOUNDS if bound.name == "resident memory")
    assert memory.judge(windows).holds is holds
    assert ("**grew**" in soak.render([memory.judge(windows)])) is not holds
