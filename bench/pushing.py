"""The pushes' own measurement, bench/push.py, run in a process of its own as part of a whole run."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_ENGINES: Final = {"sqlite": ("sqlite",), "postgres": ("postgres",), "both": ("sqlite", "postgres")}


class PushesNotMeasured(Exception):
    """bench/push.py ended without a table; its last words follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushes:
    """What it found."""

    table: str
    holds: bool


def measure(engine: str, *, quick: bool, folder: Path) -> Pushes:
    """Pushes a second and what each costs. Raises `PushesNotMeasured`."""
    command = [sys.executable, "-m", "bench.push", "--strict", "--dir", str(folder)]
    command += ["--engine", *_ENGINES[engine], *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    table = done.stdout.strip()
    if not table.startswith("|"):
        raise PushesNotMeasured(done.stderr[-2000:])
    return Pushes(table=table, holds=done.returncode == 0)
