"""Processor time is that of a process and of all that it started, also of what has ended."""

import os
import subprocess
import sys
from pathlib import Path

from bench.processes import Family, children_of, name_of, parent_of

BURN_THEN_END = "import time\nwhile time.process_time() < 0.3: pass"
START_AND_WAIT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN_THEN_END!r}], check=True)
print("ended", flush=True)
living = subprocess.Popen([sys.executable, "-c", {BURN_THEN_END!r} + "\\nprint('burnt', flush=True)\\ninput()"],
                          stdin=subprocess.PIPE)
sys.stdin.read()
living.communicate()
"""


def test_children_count_while_they_live_and_after_they_ended() -> None:
    """PostgreSQL answers each connection by a process of its own, which ends with it."""
    with subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        family = Family(process.pid)
        assert process.stdout.readline() == b"ended\n"
        after_one_ended = family.cpu_seconds()
        assert process.stdout.readline() == b"burnt\n"
        with_one_alive = family.cpu_seconds()
        assert len(children_of(process.pid)) == 1
    assert after_one_ended >= 0.28  # it burnt 0.3; what has ended is counted in ticks of 10 ms
    assert with_one_alive - after_one_ended >= 0.25


def test_it_is_known_who_started_whom() -> None:
    assert parent_of(os.getpid()) == os.getppid()
    assert name_of(os.getpid()) == Path("/proc/self/comm").read_text().strip()


def test_peak_memory_is_that_of_the_largest() -> None:
    assert Family(os.getpid()).peak_mebibytes() > 1
