"""The figures of a run as Markdown, and where they are kept: docs/scale.md, between two marks for each engine."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw

from bench.scale.stage import ActFigures
from bench.scale.watch import Sample

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
_POINTS = 12
_HEAD = (
    "act", "seconds", "requests", "per second", "pushes", "p50 ms", "p99 ms", "slowest ms",
    "server CPU s", "database CPU s", "CPU ms each", "server peak MiB", "database MiB", "WAL MiB", "refused",
)  # fmt: skip


def render(engine: str, figures: Sequence[ActFigures], samples: Sequence[Sample]) -> str:
    """One line for each act, what there is to say about it, and a drawing."""
    rows = [_HEAD, *(_row(one) for one in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    rule = "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths))
    table = [_line(rows[0], widths), f"|{rule}|", *(_line(row, widths) for row in rows[1:])]
    notes = [f"- {one.act}: {note}." for one in figures for note in one.notes]
    drawn = (
        [chart(samples), ""] if any(one.act == "enroll" and one.requests for one in samples) else []
    )
    return "\n".join([_machine(engine, figures[0].devices), "", *table, "", *drawn, *notes])


def chart(samples: Sequence[Sample]) -> str:
    """The server's memory while the fleet grows, as a drawing that Git forges show."""
    growing = [one for one in samples if one.act == "enroll" and one.requests]
    points = [growing[at * (len(growing) - 1) // (_POINTS - 1)] for at in range(_POINTS)]
    requests = ", ".join(f"{one.requests / 1000:.0f}" for one in points)
    memory = ", ".join(f"{one.resident_mib:.0f}" for one in points)
    return (
        "```mermaid\nxychart-beta\n"
        '    title "Memory of the server while the fleet enrolls (MiB)"\n'
        f'    x-axis "thousand requests" [{requests}]\n'
        f'    y-axis "MiB" 0 --> {_ceiling(points)}\n'
        f"    line [{memory}]\n```"
    )


def _ceiling(points: Sequence[Sample]) -> int:
    most = max(one.resident_mib for one in points)
    return -(-int(most) // 50) * 50


def write_page(engine: str, text: str) -> None:
    """Put the figures of this engine where the page keeps them."""
    begin, end = (
        f"<!-- figures: python -m bench.scale --engine {engine} --write -->",
        f"<!-- end of {engine} -->",
    )
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def _row(one: ActFigures) -> tuple[str, ...]:
    return (
        one.act,
        f"{one.seconds:,.0f}",
        f"{one.requests:,}",
        f"{one.per_second:,.0f}",
        f"{one.pushes:,}",
        f"{one.p50_ms:.1f}",
        f"{one.p99_ms:.0f}",
        f"{one.slowest_ms:,.0f}",
        f"{one.server_cpu:,.0f}",
        f"{one.database_cpu:,.0f}" if one.database_cpu else "",
        f"{one.cpu_ms:.2f}" if one.requests else "",
        f"{one.peak_mib:.0f}",
        f"{one.database_mib:,.0f}",
        f"{one.wal_mib:,.0f}",
        f"{one.refused:,}, at most {one.longest_refused:.1f} s" if one.refused else "0",
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return f"| {' | '.join(cells)} |"


def _machine(engine: str, devices: int) -> str:
    today = datetime.now(UTC).date()  # noqa: TID251 - nobody gives the bench a clock
    store = (
        f"SQLite {apsw.sqlite_lib_version()}"
        if engine == "sqlite"
        else "PostgreSQL on the same machine"
    )
    return (
        f"{today}, {devices:,} devices, {os.cpu_count()} cores ({_processor()}), {store}, "
        f"Python {platform.python_version()}; load average {os.getloadavg()[2]:.1f} in the last 15 minutes, "
        "with the devices and Apple's stand-in on the same cores."
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())
