"""What holds for every test: how long the heavy ones run, that a skip is no success, and which cases were covered."""

import asyncio
import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# Before anything of the project's is imported: values that nobody may change refuse to be changed. (values.py)
os.environ["OSTIARY_FREEZE_VALUES"] = "1"

from tools.cases import case_ids, documented_cases, unknown_ids

# The short form plays the same examples each time, so that a guest's first run never fails by chance; the long form
# looks for new ones. No time limits: two cores shared with other work say nothing about our code.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("short", UNHURRIED, max_examples=60, derandomize=True)
settings.register_profile("long", UNHURRIED, max_examples=2_000)

if TYPE_CHECKING:
    from postgres_server import PostgresServer

COVERED = "documented case"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="run the long forms: more examples, more kills, more lives",
    )
    parser.addoption(
        "--no-skips",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="a skipped test is a failed one (always so where CI=true)",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("long" if config.getoption("--long") else "short")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["PostgresServer"]:
    """A PostgreSQL of our own, with a template database that has our schema; started when a test first asks for it."""
    from postgres_server import PostgresServer  # noqa: PLC0415 - most runs of a few tests need none of it

    server = PostgresServer()
    asyncio.run(server.make_template())
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: "PostgresServer") -> Iterator[str]:
    """The URL of an empty database with our schema, of this test alone."""
    postgres_server.restart()  # if a test that killed it failed before it could bring it back
    url = asyncio.run(postgres_server.lend_database())
    yield url
    asyncio.run(postgres_server.take_back(url))


@pytest.fixture(scope="session")
def long_form(pytestconfig: pytest.Config) -> bool:
    """Say whether heavy loops run in their long form (`make test ARGS=--long`)."""
    return bool(pytestconfig.getoption("--long"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if unknown := unknown_ids(items, documented_cases()):
        raise pytest.UsageError("\n".join(unknown))
    for item in items:
        item.user_properties.extend((COVERED, ident) for ident in case_ids(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--no-skips"):
        fail_for_skipping(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and collector.config.getoption("--no-skips"):
        fail_for_skipping(report)
    return report


def fail_for_skipping(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that says why it was one."""
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    report.outcome, report.longrepr = "failed", f"should have run here, and was skipped. {why}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many documented cases this run has covered: those whose tests all passed."""
    passed = covered_by(terminalreporter, "passed")
    broken = covered_by(terminalreporter, "failed") | covered_by(terminalreporter, "error")
    if passed or broken:
        known = documented_cases()
        terminalreporter.write_sep("-", "documented cases")
        terminalreporter.write_line(
            f"{len(passed - broken)} of {len(known)} documented cases covered"
        )
        if broken:
            terminalreporter.write_line(
                f"broken: {', '.join(ident for ident in known if ident in broken)}"
            )


def covered_by(reporter: pytest.TerminalReporter, outcome: str) -> set[str]:
    """The ids of the cases whose tests ended with this outcome."""
    reports = [
        report
        for report in reporter.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport)
    ]
    return {
        str(ident)
        for report in reports
        for name, ident in report.user_properties
        if name == COVERED
    }
