"""Run every check that changes nothing, say how each went, and what mends it: what `make check` prints.

python -m tools.check            all of them
python -m tools.check types      only those whose name begins so
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One command that says yes or no, and what helps against a no."""

    name: str
    command: tuple[str, ...]
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one check went."""

    check: Check
    passed: bool
    said: str
    seconds: float


def tool(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(BIN / name), *arguments)


def ours(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"tools.{module}")


# The slowest first, so that the others find their time beside it.
CHECKS = (
    Check(name="types", command=tool("mypy"), remedy="mend the types it names"),
    Check(
        name="floors",
        command=tool("lint-imports"),
        remedy="see the floor plan in README.md: imports lead down",
    ),
    Check(name="format", command=tool("ruff", "format", "--check", "."), remedy="make format"),
    Check(
        name="lint",
        command=tool("ruff", "check", "."),
        remedy="make format mends what can be mended by itself",
    ),
    Check(
        name="spelling",
        command=tool("codespell"),
        remedy="mend the words, or list a name in [tool.codespell]",
    ),
    Check(
        name="project",
        command=tool("validate-pyproject", "pyproject.toml"),
        remedy="mend pyproject.toml",
    ),
    Check(name="links", command=ours("docs_check"), remedy="mend the page, or what it speaks of"),
    Check(name="requirements", command=ours("requirements_check"), remedy="make lock"),
    Check(name="scripts", command=("bash", "-n", ".ci/run"), remedy="mend .ci/run"),
)


def run(check: Check) -> Outcome:
    started_at = time.monotonic()
    try:
        done = subprocess.run(
            check.command,
            cwd=ROOT,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        passed, said = done.returncode == 0, done.stdout
    except OSError as error:
        passed, said = False, f"could not be started: {error}\n"
    return Outcome(check=check, passed=passed, said=said, seconds=time.monotonic() - started_at)


def render(outcome: Outcome) -> str:
    """One line for a check that passed; for another also its words, indented, and the remedy."""
    check = outcome.check
    line = f"{'ok  ' if outcome.passed else 'FAIL'}  {check.name:<13}{outcome.seconds:5.1f} s"
    if outcome.passed:
        return line
    words = "".join(f"      {said}\n" for said in outcome.said.splitlines())
    return f"{line}\n{words}      to do: {check.remedy}"


def main(arguments: list[str]) -> int:
    chosen = [check for check in CHECKS if not arguments or check.name.startswith(tuple(arguments))]
    if not chosen:
        print(
            f"error: no such check; there are: {', '.join(check.name for check in CHECKS)}",
            file=sys.stderr,
        )
        return 64
    failed = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for outcome in pool.map(run, chosen):
            print(render(outcome), flush=True)
            if not outcome.passed:
                failed.append(outcome.check.name)
    if failed:
        print(f"{len(failed)} of {len(chosen)} checks failed: {', '.join(failed)}")
        return 1
    print(f"all {len(chosen)} checks passed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
