"""What a run says in the end, and the page that keeps it."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw

from bench import postgres, tables
from bench.baseline import BARE
from bench.contestants import Contestant
from bench.figures import BAR_CONNECTIONS, P99_BAR_MS, Figures
from bench.growth import Growth
from bench.house import Installation
from bench.peer import NAME

README = Path(__file__).with_name("README.md")


def render_machine(rsa_ms: float, bare: Sequence[Figures], database: str) -> str:
    """Where and when it was measured, with what; and how fast the machine is at what everybody does."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    today = datetime.now(UTC).date()  # noqa: TID251 - nobody gives the bench a clock
    return (
        f"{today}, {os.cpu_count()} x {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {database}. One RSA-2048 verification costs "
        f"{rsa_ms:.3f} ms here, bare HTTP {bare[0].server_ms or 0:.3f} ms; "
        f"load average {os.getloadavg()[0]:.1f} at the end."
    )


def render_contestants(figures: Sequence[Figures]) -> str:
    """A table for each of those that were measured, under its name."""
    bare_ms = {one.connections: one.server_ms or 0.0 for one in figures if one.contestant == BARE}
    parts = []
    for name in dict.fromkeys(one.contestant for one in figures):
        own = [one for one in figures if one.contestant == name]
        parts += [f"### {name[0].upper()}{name[1:]}", tables.render_figures(own, bare_ms)]
    load_ms = max(one.load_ms for one in figures)
    parts.append(
        f"The load itself never took more than {load_ms:.3f} ms of processor time per request."
    )
    return "\n\n".join(parts)


def render_verdict(figures: Sequence[Figures], grown: Sequence[Growth]) -> str:
    """Which bars are missed, in a sentence."""
    missed = [
        f"{one.contestant}, {one.scenario} ({_missed(one)})"
        for one in figures
        if one.holds is False
    ]
    missed += [
        f"{one.contestant}, {one.scenario} (grows by {one.growth:.0%})"
        for one in grown
        if one.holds is False
    ]
    return f"Missed: {'; '.join(missed)}." if missed else "Every bar holds."


def _missed(one: Figures) -> str:
    words = {
        "CPU": f"{one.cpu_ms or 0:.3f} of {one.bar_ms or 0:.3f} ms",
        "p99": f"p99 {one.p99_ms:.3f} of {P99_BAR_MS:.3f} ms",
    }
    return ", ".join(words[name] for name in one.missed or ())


def render_peers(figures: Sequence[Figures]) -> str:
    """How ours compare with the peer, in each way it was set up; empty if there was none."""
    at_bar = [
        one for one in figures if one.connections == BAR_CONNECTIONS and one.contestant != BARE
    ]
    peers = [one for one in at_bar if one.contestant.startswith(NAME)]
    if not peers:
        return ""
    return (
        f"Processor time per request in ms, server and database together, at {BAR_CONNECTIONS} connections; "
        "the last column says how often ours on PostgreSQL goes into the best of the peer's with a database:\n\n"
        f"{tables.render_costs(at_bar, peers)}\n\n"
        f"p99 in ms, in the same run:\n\n{tables.render_p99s(at_bar)}"
    )


def render_memory(contestants: Sequence[Contestant], devices: int) -> list[str]:
    """The most that each server held."""
    said = [
        f"{one.name} {one.server.peak_mebibytes():.0f} MiB"
        for one in contestants
        if one.server is not None
    ]
    return (
        [f"Peak memory of one server process, with {devices:,} devices: {', '.join(said)}."]
        if said
        else []
    )


async def name_engines(installations: Sequence[Installation]) -> str:
    """The engines with their versions, and how PostgreSQL is set up."""
    said = []
    for one in installations:
        if one.database_url is None:
            said.append(f"SQLite {apsw.sqlite_lib_version()}")
        else:
            said.append(await postgres.describe(one.database_url))
    return ", ".join(said)


def write_section(mark: str, text: str) -> None:
    """Put it into README.md between `<!-- MARK ... -->` and `<!-- end of MARK -->`."""
    page = README.read_text(encoding="utf-8")
    before, opening, rest = page.partition(f"<!-- {mark}")
    comment, _, rest = rest.partition("-->")
    _, closing, after = rest.partition(f"<!-- end of {mark} -->")
    if not closing:
        raise SectionMissing(mark)
    README.write_text(
        f"{before}{opening}{comment}-->\n\n{text}\n\n{closing}{after}", encoding="utf-8"
    )


class SectionMissing(Exception):
    """bench/README.md has no place for this part of the report."""
