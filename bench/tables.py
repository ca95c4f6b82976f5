"""How figures are shown: as Markdown tables that are also readable in a terminal."""

from collections.abc import Callable, Sequence

from bench.figures import Figures

_HEAD = (
    "scenario",
    "connections",
    "requests/s",
    "server ms",
    "database ms",
    "CPU ms",
    "x bare HTTP",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "bar ms",
    "",
)
VERDICT = {True: "holds", False: "**missed**", None: ""}


def render_figures(figures: Sequence[Figures], bare_ms_by_connections: dict[int, float]) -> str:
    """The figures of one server, each beside its bar and beside what HTTP alone costs."""
    rows = [_HEAD, *(_row(one, bare_ms_by_connections) for one in figures)]
    if all(one.database_ms is None for one in figures):  # the server is all there is
        at = _HEAD.index("database ms")
        rows = [row[: at - 1] + row[at + 1 :] for row in rows]
    return render(rows)


def render_costs(figures: Sequence[Figures], peers: Sequence[Figures]) -> str:
    """Processor time of everybody side by side, and the peer's best with a database as a multiple of ours."""
    head, rows = _side_by_side(figures, lambda one: _ms(one.cpu_ms))
    ours = {one.scenario: one.cpu_ms for one in figures if one.contestant == "PostgreSQL"}
    best: dict[str, float] = {}
    for one in peers:
        if one.database_ms is not None and one.cpu_ms is not None:
            best[one.scenario] = min(one.cpu_ms, best.get(one.scenario, one.cpu_ms))
    multiples = []
    for row in rows:
        own, other = ours.get(row[0]), best.get(row[0])
        multiples.append("" if own is None or other is None else f"{other / own:.1f}")
    return render(
        [(*head, "times"), *((*row, one) for row, one in zip(rows, multiples, strict=True))]
    )


def render_p99s(figures: Sequence[Figures]) -> str:
    """The slowest answers of everybody side by side."""
    head, rows = _side_by_side(figures, lambda one: f"{one.p99_ms:.1f}")
    return render([head, *rows])


def _side_by_side(
    figures: Sequence[Figures], show: Callable[[Figures], str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    names = list(dict.fromkeys(one.contestant for one in figures))
    cells = {(one.scenario, one.contestant): show(one) for one in figures}
    scenarios = dict.fromkeys(one.scenario for one in figures)
    rows = [(what, *(cells.get((what, name), "") for name in names)) for what in scenarios]
    return ("scenario", *names), rows


def render(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head, the first column is text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _row(one: Figures, bare_ms_by_connections: dict[int, float]) -> tuple[str, ...]:
    bare = bare_ms_by_connections.get(one.connections)
    return (
        one.scenario,
        str(one.connections),
        f"{one.per_second:,.0f}",
        _ms(one.server_ms),
        _ms(one.database_ms),
        _ms(one.cpu_ms),
        f"{one.cpu_ms / bare:.1f}" if bare and one.cpu_ms is not None else "",
        f"{one.p50_ms:.2f}",
        f"{one.p95_ms:.2f}",
        f"{one.p99_ms:.2f}",
        _ms(one.bar_ms),
        VERDICT[one.holds] if not one.missed else f"**missed: {' and '.join(one.missed)}**",
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return f"| {' | '.join(cells)} |"
