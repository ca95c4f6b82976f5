"""The list of covered cases counts what tests claim, and takes no claim that no fact sheet knows."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.cases import (
    NUMBERED_SHEETS,
    SHEETS,
    Sheet,
    SheetUnreadable,
    cases_of,
    documented_cases,
    render_coverage,
)

ROOT = Path(__file__).resolve().parents[3]


def test_every_case_of_the_fact_sheets_is_found() -> None:
    """The sheets number 428 cases; whoever adds one changes this number with it."""
    known = documented_cases()
    assert len(known) == 428
    assert known["CI-05"].startswith("ENROLLED with UnlockToken U1")
    assert {"CQ-19", "BT-19", "UT-01", "T01", "ADE-36", "AB-1", "AK-30", "EX-3", "PT-54"} <= set(
        known
    )


def test_every_fact_sheet_has_cases() -> None:
    assert {sheet.name for sheet in NUMBERED_SHEETS} == {path.stem for path in SHEETS.glob("*.md")}
    for sheet in NUMBERED_SHEETS:
        assert list(cases_of(sheet, SHEETS))


@pytest.mark.parametrize(
    ("prefix", "line", "ident"),
    [
        (None, "| CI-04 (C) | storage fails | TokenUpdate | 5xx |", "CI-04"),
        (None, "- T12a given a Mac, then nothing", "T12a"),
        ("ADE", "12. Given one 401 on a data call, then one repetition", "ADE-12"),
    ],
)
def test_each_way_of_numbering_is_read(
    tmp_path: Path, prefix: str | None, line: str, ident: str
) -> None:
    (tmp_path / "sheet.md").write_text(
        f"# A sheet\n\n## 3. Test cases\n\n{line}\n\n## 4. Sources\n\n{line}\n"
    )
    sheet = Sheet(name="sheet", heading="## 3. Test cases", prefix=prefix)
    assert [found for found, _ in cases_of(sheet, tmp_path)] == [ident]


def test_a_sheet_without_its_section_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "sheet.md").write_text("# A sheet\n")
    with pytest.raises(SheetUnreadable, match="no section begins"):
        list(cases_of(Sheet(name="sheet", heading="## 3."), tmp_path))


def test_the_list_has_one_covered_id_per_line_and_the_count_last() -> None:
    known = {"CI-01": "a", "CI-02": "b", "CI-03": "c"}
    tests = {"CI-03": ["tests/x.py::test_c", "tests/y.py::test_d"], "CI-01": ["tests/x.py::test_a"]}
    assert list(render_coverage(tests, known)) == [
        "CI-01  tests/x.py::test_a",
        "CI-03  tests/x.py::test_c, tests/y.py::test_d",
        "2 of 3 documented cases covered",
    ]


def run_a_suite(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one test file under our conftest, in a folder of its own."""
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_one.py").write_text("import pytest\n" + source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(ROOT),
    ]
    command += ["-p", "no:cacheprovider", str(folder), *options]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )


def test_a_claim_that_no_sheet_knows_stops_the_run(tmp_path: Path) -> None:
    ran = run_a_suite(tmp_path, "@pytest.mark.case('CI-999')\ndef test_x() -> None: ...\n")
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no fact sheet has a case 'CI-999'" in ran.stderr


def test_a_case_counts_as_covered_only_when_all_its_tests_pass(tmp_path: Path) -> None:
    source = (
        "@pytest.mark.case('CI-01', 'CI-02')\ndef test_x() -> None: ...\n"
        "@pytest.mark.case('CI-02')\ndef test_y() -> None: assert False\n"
    )
    ran = run_a_suite(tmp_path, source)
    assert "1 of 428 documented cases covered" in ran.stdout
    assert "broken: CI-02" in ran.stdout


@pytest.mark.parametrize(
    "source",
    [
        "def test_x() -> None: pytest.skip('no wind')\n",
        "pytest.skip('no wind', allow_module_level=True)\n",
    ],
    ids=["test", "module"],
)
def test_a_skip_is_a_failure_where_nothing_may_be_skipped(tmp_path: Path, source: str) -> None:
    assert run_a_suite(tmp_path, source).returncode in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    )
    ran = run_a_suite(tmp_path, source, "--no-skips")
    assert ran.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "should have run here, and was skipped" in ran.stdout
    assert "no wind" in ran.stdout


def test_a_test_that_is_expected_to_fail_is_not_taken_for_a_skip(tmp_path: Path) -> None:
    source = "@pytest.mark.xfail(reason='known')\ndef test_x() -> None: assert False\n"
    assert run_a_suite(tmp_path, source, "--no-skips").returncode == pytest.ExitCode.OK
