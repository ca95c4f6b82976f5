"""Run every fuzzing harness for a while, one after the other. `make fuzz` calls this.

python tests/fuzz/run.py --seconds 60 [NAME ...]
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

HERE = Path(__file__).parent
_LOOK_EVERY_SECONDS = 0.5


def main() -> int:
    """The exit code: 0 if no harness found anything, else that of the first one that did."""
    known = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=60, help="how long each harness runs")
    arguments.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    chosen = arguments.parse_args()
    if unknown := set(chosen.names) - set(known):
        arguments.error(
            f"no such harness: {', '.join(sorted(unknown))} (there are {', '.join(known)})"
        )
    console = Console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in chosen.names or known:
            task = progress.add_task(name, total=chosen.seconds)
            code, said = _run(name, chosen.seconds, progress, task)
            progress.update(task, completed=chosen.seconds)
            console.print(f"{name}: {said[-1] if said else 'said nothing'}", markup=False)
            if code:
                console.print("\n".join(said[-40:]), markup=False)
                return code
    return 0


def _run(name: str, seconds: int, progress: Progress, task: TaskID) -> tuple[int, Sequence[str]]:
    """One harness until its time is over: its exit code and what it said, line by line."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "said").open("w+") as said:
        harness = subprocess.Popen(
            [sys.executable, HERE / f"fuzz_{name}.py", f"-max_total_time={seconds}"],
            cwd=folder,  # where libFuzzer leaves the input that broke something; it is printed, too
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        while harness.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                harness.wait(_LOOK_EVERY_SECONDS)
                break
            progress.advance(task, _LOOK_EVERY_SECONDS)
        said.seek(0)
        return harness.returncode, said.read().splitlines()


if __name__ == "__main__":
    sys.exit(main())
