"""The figures say what was measured, and hold it against the right bar."""

import pytest

from bench.figures import Figures, percentile, render_table
from bench.wire import Timings


def measured(connections: int, *, cpu_seconds: float, slowest: float = 0.004) -> Figures:
    timings = Timings()
    for seconds in [0.001] * 98 + [0.002, slowest]:
        timings.add("Idle", seconds)
    return Figures.of(
        "Idle", connections, timings, cpu_seconds=cpu_seconds, wall_seconds=0.05, bar_ms=0.25
    )


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (95, 10), (99, 10), (10, 1)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    percent: float, value: float
) -> None:
    assert percentile(range(1, 11), percent) == value


def test_processor_time_is_shared_among_the_requests() -> None:
    figures = measured(16, cpu_seconds=0.02)
    assert figures.requests == 100
    assert figures.cpu_ms == pytest.approx(0.2)
    assert figures.per_second == pytest.approx(2000)
    assert figures.p50_ms == pytest.approx(1)
    assert figures.p99_ms == pytest.approx(2)


def test_a_bar_is_held_against_sixteen_connections_only() -> None:
    """design.md 8 names 16 connections; with one, each request pays for its own commit."""
    assert measured(16, cpu_seconds=0.02).holds is True
    assert measured(16, cpu_seconds=0.03).holds is False
    assert measured(1, cpu_seconds=0.03).holds is None


def test_the_table_shows_each_figure_beside_what_http_alone_costs() -> None:
    table = render_table([measured(16, cpu_seconds=0.03)], {16: 0.02})
    *_, row = table.splitlines()
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "Idle", "16", "2,000", "0.300", "15.0", "1.00", "1.00", "2.00", "0.25", "**missed**",
    ]  # fmt: skip
