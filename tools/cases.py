"""List the documented cases of docs/protocol that tests cover, each with its tests: what `make cases` prints.

The fact sheets number what a conforming server must do. A test that proves one carries its number,
`@pytest.mark.case("CI-05")`; a number that no sheet knows is an error, so a typing slip cannot count.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHEETS = ROOT / "docs" / "protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Where a fact sheet keeps its cases, and how it numbers them."""

    name: str
    heading: str
    prefix: str | None = None  # for sheets that number plainly: 12 becomes ADE-12


NUMBERED_SHEETS = (
    Sheet(name="check-in-and-commands", heading="## 10. Test cases"),
    Sheet(name="escrowed-secrets", heading="## 4.16 Test cases"),
    Sheet(name="account-driven-enrollment", heading="## 16. Test cases"),
    Sheet(name="automated-device-enrollment", heading="## 12. Test cases", prefix="ADE"),
    Sheet(name="apps-and-books", heading="## 12. Test cases", prefix="AB"),
    Sheet(name="activation-lock", heading="## 11. Test cases", prefix="AK"),
    Sheet(name="expiry-calendar", heading="## 6. Test cases", prefix="EX"),
    Sheet(name="persistent-token", heading="## 11. Test cases", prefix="PT"),
)
TABLE_ROW = re.compile(r"\|\s*(?P<id>[A-Z]{2}-\d+[a-z]?)(?:\s*\([A-Z]\))?\s*\|(?P<text>.*)")
BULLET = re.compile(r"-\s+(?P<id>T\d+[a-z]?)\s+(?P<text>.*)")
NUMBER = re.compile(r"(?P<id>\d+)\.\s+(?P<text>.*)")


class SheetUnreadable(Exception):
    """A fact sheet lacks the section that its cases should be in, or has a number twice."""


def documented_cases(folder: Path = SHEETS) -> dict[str, str]:
    """Every case of the fact sheets: its id, in the sheets' order, with its text."""
    text_by_id: dict[str, str] = {}
    for sheet in NUMBERED_SHEETS:
        for ident, text in cases_of(sheet, folder):
            if ident in text_by_id:
                raise SheetUnreadable(f"{sheet.name}.md: the case {ident} stands there twice")
            text_by_id[ident] = text
    return text_by_id


def cases_of(sheet: Sheet, folder: Path) -> Iterator[tuple[str, str]]:
    """The cases of one sheet, read from its section of test cases up to the next section."""
    lines = (folder / f"{sheet.name}.md").read_text(encoding="utf-8").splitlines()
    try:
        start = next(number for number, line in enumerate(lines) if line.startswith(sheet.heading))
    except StopIteration:
        raise SheetUnreadable(
            f"{sheet.name}.md: no section begins with {sheet.heading!r}"
        ) from None
    for line in lines[start + 1 :]:
        if line.startswith("## "):
            return
        if sheet.prefix is None:
            if found := TABLE_ROW.match(line) or BULLET.match(line):
                yield found["id"], found["text"].strip()
        elif found := NUMBER.match(line):
            yield f"{sheet.prefix}-{found['id']}", found["text"].strip()


def case_ids(item: pytest.Item) -> Iterator[str]:
    """The ids that one test's `case` markers name."""
    for marker in item.iter_markers("case"):
        yield from marker.args


def unknown_ids(items: list[pytest.Item], known: Mapping[str, str]) -> list[str]:
    """A line for each id that a test names and no fact sheet knows."""
    return [
        f"{item.nodeid}: no fact sheet has a case {ident!r}"
        for item in items
        for ident in case_ids(item)
        if ident not in known
    ]


@dataclass(eq=False)  # pytest keeps its plugins in a set
class Collector:
    """A pytest plugin that only listens: which test covers which case, and what could not be collected."""

    tests_by_id: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            test = item.nodeid.split("[")[0]  # a parametrized test is one test
            for ident in case_ids(item):
                if test not in self.tests_by_id[ident]:
                    self.tests_by_id[ident].append(test)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failures.append(f"{report.nodeid}: could not be collected\n{report.longreprtext}")


def render_coverage(
    tests_by_id: Mapping[str, list[str]], known: Mapping[str, str]
) -> Iterator[str]:
    """One line for each covered case, in the sheets' order, and the count as the last one."""
    covered = [ident for ident in known if tests_by_id.get(ident)]
    for ident in covered:
        yield f"{ident}  {', '.join(tests_by_id[ident])}"
    yield f"{len(covered)} of {len(known)} documented cases covered"


def main() -> int:
    known = documented_cases()
    collector = Collector()
    # No terminal plugin: the list goes to programs, and must be all that stands on standard output.
    options = ["--collect-only", "-p", "no:terminal", "-p", "no:cacheprovider", str(ROOT / "tests")]
    code = pytest.main(options, plugins=[collector])
    if collector.failures or code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        print(
            "\n".join(collector.failures) or f"pytest could not collect the tests (exit {code})",
            file=sys.stderr,
        )
        return 1
    for line in render_coverage(collector.tests_by_id, known):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
