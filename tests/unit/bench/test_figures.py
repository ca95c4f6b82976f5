"""The figures say what was measured, and hold it against the right bar."""

import pytest

from bench.contestants import Contestant, Kind
from bench.figures import Figures, medians, percentile
from bench.processes import Family
from bench.report import render_peers, render_verdict
from bench.tables import render_figures
from bench.wire import Timings


def measured(
    connections: int = 16,
    *,
    server_seconds: float | None,
    database_seconds: float | None = None,
    contestant: str = "SQLite",
    slowest: float = 0.002,
) -> Figures:
    timings = Timings()
    for seconds in [0.001] * 98 + [slowest] * 2:
        timings.add("Idle", seconds)
    return Figures.of(
        "Idle",
        connections,
        timings,
        contestant=contestant,
        server_seconds=server_seconds,
        database_seconds=database_seconds,
        load_seconds=0.001,
        wall_seconds=0.05,
        bar_ms=0.25,
    )


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (95, 10), (99, 10), (10, 1)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    percent: float, value: float
) -> None:
    assert percentile(range(1, 11), percent) == value


def test_processor_time_is_shared_among_the_requests() -> None:
    figures = measured(server_seconds=0.02)
    assert figures.requests == 100
    assert figures.cpu_ms == pytest.approx(0.2)
    assert figures.per_second == pytest.approx(2000)
    assert figures.p50_ms == pytest.approx(1)
    assert figures.p99_ms == pytest.approx(2)


def test_server_and_database_count_together() -> None:
    """design.md 8: on PostgreSQL the bar is for both."""
    figures = measured(server_seconds=0.02, database_seconds=0.01)
    assert figures.cpu_ms == pytest.approx(0.3)
    assert figures.holds is False


def test_a_bar_is_held_against_sixteen_connections_only() -> None:
    """design.md 8 names 16 connections; with one, each request pays for its own commit."""
    assert measured(16, server_seconds=0.02).holds is True
    assert measured(16, server_seconds=0.03).holds is False
    assert measured(1, server_seconds=0.03).holds is None


def test_slow_answers_miss_the_bar_however_cheap_they_are() -> None:
    """design.md 8: p99 at most 20 ms."""
    assert measured(server_seconds=0.02, slowest=0.021).missed == ("p99",)


def test_what_nobody_could_see_is_not_judged() -> None:
    assert measured(server_seconds=None).holds is None


def test_of_several_laps_the_median_counts() -> None:
    laps = [measured(server_seconds=seconds) for seconds in (0.05, 0.01, 0.02)]
    (found,) = medians(laps)
    assert found.cpu_ms == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "elsewhere", "kind", "bar_ms"),
    [
        ("SQLite", False, "idle", 0.25),
        ("SQLite", False, "write", 0.35),
        ("PostgreSQL", False, "idle", 0.40),
        ("PostgreSQL", False, "write", 0.55),
        ("PostgreSQL", False, "enroll", None),
        ("PostgreSQL", True, "write", None),
        ("NanoMDM, PostgreSQL", False, "idle", None),
    ],
)
def test_each_engine_has_its_own_bars(
    name: str, elsewhere: bool, kind: Kind, bar_ms: float | None
) -> None:
    """design.md 8; none is held against the peer, or against half of the cost."""
    contestant = Contestant(
        name=name, port=0, authorization={}, server=Family(1), has_database_elsewhere=elsewhere
    )
    assert contestant.bar_ms(kind) == bar_ms


def test_the_table_shows_each_figure_beside_what_http_alone_costs() -> None:
    figures = measured(server_seconds=0.02, database_seconds=0.01)
    *_, row = render_figures([figures], {16: 0.02}).splitlines()
    assert cells(row) == [
        "Idle", "16", "2,000", "0.200", "0.100", "0.300", "15.0", "1.00", "1.00", "2.00", "0.250", "**missed: CPU**",
    ]  # fmt: skip


def test_without_a_database_beside_it_the_server_is_all_there_is() -> None:
    head, *_, row = render_figures([measured(server_seconds=0.02)], {16: 0.02}).splitlines()
    assert "database ms" not in cells(head)
    assert cells(row)[3] == "0.200"


def test_the_best_of_the_peer_with_a_database_is_a_multiple_of_ours() -> None:
    report = render_peers(
        [
            measured(contestant="PostgreSQL", server_seconds=0.02, database_seconds=0.01),
            measured(contestant="NanoMDM, PostgreSQL", server_seconds=0.05, database_seconds=0.15),
            measured(contestant="NanoMDM, pooled", server_seconds=0.05, database_seconds=0.07),
            measured(contestant="NanoMDM, memory", server_seconds=0.01),
        ]
    )
    row = next(line for line in report.splitlines() if line.startswith("| Idle"))
    assert cells(row) == ["Idle", "0.300", "2.000", "1.200", "0.100", "4.0"]


def test_without_a_peer_nothing_is_compared() -> None:
    assert render_peers([measured(server_seconds=0.02)]) == ""


def test_a_bar_that_is_missed_by_little_is_not_said_to_be_met() -> None:
    """`0.25 of 0.25 ms` beside "missed" reads as a contradiction."""
    figures = measured(server_seconds=0.0253)
    assert "(0.253 of 0.250 ms)" in render_verdict([figures], [])
    assert {"0.253", "0.250"} <= set(cells(render_figures([figures], {}).splitlines()[-1]))
