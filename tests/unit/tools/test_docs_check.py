"""The pages' check finds what leads nowhere, and lets be what is right."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.docs_check import anchors, broken_links, commands_in, pages, unknown_targets

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the README of a small repository that has one more page and a Makefile."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("# A page\n\n## What `it` says: twice\n")
    (tmp_path / "Makefile").write_text("help: ## say\n\t@echo\n\nset-up: help\n")

    def write_readme(text: str) -> Path:
        page = tmp_path / "README.md"
        page.write_text(text)
        return page

    return write_readme


@pytest.mark.parametrize(
    "text",
    [
        "[a](docs/page.md)",
        "[a](docs/page.md#what-it-says-twice)",
        "# Here\n[a](#here)",
        "[a](https://example.org/nowhere)",
        '<img src="docs/page.md">',
        "`[a](nowhere.md)`",
        "```\n[a](nowhere.md)\n```",
    ],
)
def test_a_link_that_leads_somewhere_is_let_be(write: Write, tmp_path: Path, text: str) -> None:
    assert list(broken_links(write(text), tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](nowhere.md)", "leads nowhere"),
        ("[a](docs/page.md#nowhere)", "no such heading"),
        ("[a](../outside.md)", "leads out of the repository"),
        ('<img src="docs/picture.svg">', "leads nowhere"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(
    write: Write, tmp_path: Path, text: str, said: str
) -> None:
    (found,) = broken_links(write(text), tmp_path)
    assert said in found


def test_a_make_target_in_code_must_exist_and_prose_is_let_be(write: Write, tmp_path: Path) -> None:
    page = write("We make do.\n\n`make` or `make help`\n\n```\nmake\nmake set-up\nmake tea\n```\n")
    assert list(unknown_targets(page, tmp_path)) == ["README.md: make tea is not in the Makefile"]


def test_the_commands_of_a_page_are_its_words_up_to_the_first_argument(write: Write) -> None:
    page = write(
        "ostiary is a word.\n\n`ostiary token list`, `ostiary_sim play`\n\n"
        "```\n.venv/bin/ostiary serve --data DIR\nostiary apns import FILE\ncd ostiary\nmake help\n```\n"
    )
    assert commands_in(page) == {("token", "list"), ("serve",), ("apns", "import")}


def test_headings_in_code_are_no_anchors() -> None:
    assert anchors("# One, two\n\n```\n# three\n```\n") == {"one-two"}


def test_the_pages_are_those_of_the_root_and_of_docs(write: Write, tmp_path: Path) -> None:
    write("")
    assert [page.name for page in pages(tmp_path)] == ["README.md", "page.md"]
