"""Say whether the pages tell the truth about what can be checked: links, make targets, ostiary commands.

Reads README.md, the other pages of the root, and docs/. A part of `make check`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(
    r"\[[^\]]*\]\((?P<to>[^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"(?P<html>[^\"]+)\""
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*$", re.MULTILINE)
CODE = re.compile(r"```[a-z]*\n(?P<block>.*?)```|`(?P<span>[^`\n]+)`", re.DOTALL)
MAKE = re.compile(r"(?:^|[\s;&])make[ \t]+(?P<target>[a-z][a-z-]*)", re.MULTILINE)
COMMAND = re.compile(
    r"(?:^|[\s/;&])ostiary(?P<words>(?:[ \t]+[a-z][a-z-]*(?=\s|$))+)", re.MULTILINE
)
TARGET = re.compile(r"^(?P<name>[a-z][a-z-]*):", re.MULTILINE)
OUTSIDE = ("http://", "https://", "mailto:")


def pages(root: Path) -> list[Path]:
    """The pages that people read: those of the root, and all of docs/."""
    return sorted(root.glob("*.md")) + sorted((root / "docs").rglob("*.md"))


def anchors(text: str) -> set[str]:
    """The names by which a page's headings can be linked to."""
    names: set[str] = set()
    for found in HEADING.finditer(FENCE.sub("", text)):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", found["text"])
        names.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return names


def broken_links(page: Path, root: Path) -> Iterator[str]:
    """A line for each relative link of a page that leads nowhere, to a heading that is not there, or out of the tree."""
    text = page.read_text(encoding="utf-8")
    # Code is no link: `[a](b)` between ticks shows how something is written.
    for found in LINK.finditer(CODE.sub("", text)):
        to = found["to"] or found["html"]
        if to.startswith(OUTSIDE):
            continue
        path, _, anchor = to.partition("#")
        target = (page.parent / path).resolve() if path else page
        where = f"{page.relative_to(root)}: link to {to}"
        if not target.is_relative_to(root):
            yield f"{where} leads out of the repository"
        elif not target.exists():
            yield f"{where} leads nowhere"
        elif (
            anchor
            and target.suffix == ".md"
            and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            yield f"{where}: that page has no such heading"


def code_in(text: str) -> str:
    """What a page shows as code, a piece per line, without the lines that a shell would ignore."""
    pieces = [found["block"] or found["span"] for found in CODE.finditer(text)]
    return re.sub(r"^\s*#.*$", "", "\n".join(pieces), flags=re.MULTILINE)


def unknown_targets(page: Path, root: Path) -> Iterator[str]:
    """A line for each `make target` a page shows that the Makefile does not have."""
    targets = {found["name"] for found in TARGET.finditer((root / "Makefile").read_text())}
    for found in MAKE.finditer(code_in(page.read_text(encoding="utf-8"))):
        if found["target"] not in targets:
            yield f"{page.relative_to(root)}: make {found['target']} is not in the Makefile"


def commands_in(page: Path) -> set[tuple[str, ...]]:
    """The `ostiary` commands a page shows: their words up to the first argument or flag."""
    code = code_in(page.read_text(encoding="utf-8"))
    return {tuple(found["words"].split()) for found in COMMAND.finditer(code)}


def understands(words: tuple[str, ...]) -> bool:
    """Say whether the installed CLI knows a command: its help answers."""
    command = [sys.executable, "-m", "ostiary", *words, "--help"]
    return subprocess.run(command, capture_output=True, check=False, cwd=ROOT).returncode == 0


def unknown_commands(page: Path, root: Path) -> Iterator[str]:
    """A line for each `ostiary …` command a page shows that the CLI does not know.

    Every lower-case word counts as a part of the command, so pages write arguments in capitals: `ostiary device show ID`.
    """
    for words in sorted(commands_in(page)):
        if not understands(words):
            yield f"{page.relative_to(root)}: ostiary {' '.join(words)} is not a command"


def main() -> int:
    found = [
        line
        for page in pages(ROOT)
        for line in (*broken_links(page, ROOT), *unknown_targets(page, ROOT))
    ]
    if understands(()):
        found += unknown_commands(ROOT / "README.md", ROOT)
    else:
        found.append(
            "README.md: its commands cannot be checked, for `python -m ostiary --help` does not answer"
        )
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
