"""What the kernel counts of processes on this machine: their processor time and their memory."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PARENT, _USER_OF_ENDED, _SYSTEM_OF_ENDED = 1, 13, 14
"""Fields of /proc/PID/stat, counted behind the name."""
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Family:
    """A process with all that it started."""

    pid: int

    def cpu_seconds(self) -> float:
        """Processor time so far, user and system, all threads, also of children that have ended.

        To the nanosecond for those that live, to a tick (10 ms) for all that have ended together.
        """
        while True:
            before = self._ended_ticks()
            seconds = sum(_cpu_seconds(pid) for pid in (self.pid, *children_of(self.pid)))
            if self._ended_ticks() == before:  # none ended meanwhile, to be counted twice or never
                return seconds + before / _TICKS_PER_SECOND

    def peak_mebibytes(self) -> float:
        """The most memory that any one of them had resident at once (VmHWM)."""
        return max(_peak_kibibytes(pid) for pid in (self.pid, *children_of(self.pid))) / 1024

    def _ended_ticks(self) -> int:
        fields = _stat(self.pid)
        return int(fields[_USER_OF_ENDED]) + int(fields[_SYSTEM_OF_ENDED])


def children_of(pid: int) -> list[int]:
    """The processes that it started and that live; not every kernel keeps a list of them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(_stat(int(folder.name))[_PARENT]) == pid:
                found.append(int(folder.name))
    return found


def parent_of(pid: int) -> int:
    """Raises OSError if there is no such process."""
    return int(_stat(pid)[_PARENT])


def name_of(pid: int) -> str:
    """Raises OSError if there is no such process."""
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()


def _stat(pid: int) -> list[str]:
    # "1234 (any name) S 1 ...": behind the name, which may hold anything.
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    """By the process's own clock, numbered as clock_getcpuclockid(3) does it on Linux; 0 if it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _peak_kibibytes(pid: int) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
