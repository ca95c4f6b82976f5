"""The page keeps each part of a report in its own place."""

from pathlib import Path

import pytest

from bench import report

PAGE = """# Costs
<!-- figures: make bench ARGS=--write -->
old
<!-- end of figures -->
between
<!-- growth: make bench ARGS="--growth --write" -->
<!-- end of growth -->
"""


@pytest.fixture(autouse=True)
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "README.md"
    path.write_text(PAGE)
    monkeypatch.setattr(report, "README", path)
    return path


def test_a_part_replaces_what_it_said_before_and_nothing_else(page: Path) -> None:
    report.write_section("figures", "new")
    report.write_section("growth", "none")
    assert page.read_text() == PAGE.replace("old", "\nnew\n").replace(
        '--write" -->\n', '--write" -->\n\nnone\n\n'
    )


def test_a_part_without_a_place_is_not_lost_silently() -> None:
    with pytest.raises(report.SectionMissing):
        report.write_section("peer", "anything")
