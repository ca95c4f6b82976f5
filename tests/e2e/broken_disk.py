"""A disk that fails under SQLite: the kernel itself refuses system calls of the thread that commits (seccomp).

SQLite is none the wiser, nothing has to be compiled or mounted, and nobody has to be root. A filter stays with its
thread for good, so the disk is mended by giving the engine another thread.
"""

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBERS = {
    "x86_64": {"pwrite64": 18, "fsync": 74, "fdatasync": 75, "ftruncate": 77},
    "aarch64": {"pwrite64": 68, "fsync": 82, "fdatasync": 83, "ftruncate": 46},
}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_FILTER_MODE = 2
_LOAD_NUMBER = struct.pack("HBBI", 0x20, 0, 0, 0)
_LOAD_FIRST_ARGUMENT = struct.pack("HBBI", 0x20, 0, 0, 16)
_ALLOW = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)


@dataclass(frozen=True)
class Fault:
    """Which system calls fail, and how."""

    name: str
    calls: tuple[str, ...]
    error: int

    def strike(self, *, file: int | None = None) -> None:
        """From now on, and for as long as the calling thread lives; with `file`, for that descriptor alone."""
        numbers = _NUMBERS[platform.machine()]
        install_filter([numbers[call] for call in self.calls], self.error, file=file)


FAULTS = (
    Fault("disk full", ("pwrite64",), errno.ENOSPC),
    Fault("quota reached", ("pwrite64", "ftruncate"), errno.EDQUOT),
    Fault("write error", ("pwrite64",), errno.EIO),
    Fault("fsync error", ("fsync", "fdatasync"), errno.EIO),
    Fault("full only when flushed", ("fsync", "fdatasync"), errno.ENOSPC),
    Fault("read-only", ("pwrite64", "ftruncate", "fsync", "fdatasync"), errno.EROFS),
)
FAULT_BY_NAME = {fault.name: fault for fault in FAULTS}


def install_filter(numbers: Iterable[int], error: int, *, file: int | None = None) -> None:
    """Let these system calls of the calling thread fail with this error, without having any effect.

    With `file`, only where that descriptor is the first argument.
    """
    program = b""
    for number in numbers:
        refuse = struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | error)
        if file is not None:
            refuse = _LOAD_FIRST_ARGUMENT + struct.pack("HBBI", 0x15, 0, 1, file) + refuse
        jump = struct.pack("HBBI", 0x15, 0, len(refuse) // 8, number)
        program += _LOAD_NUMBER + jump + refuse
    code = ctypes.create_string_buffer(program + _ALLOW)
    length = (len(program) + len(_ALLOW)) // 8
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", length, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    pointer = ctypes.c_ulong(ctypes.addressof(described))
    done = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = done or libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, pointer, 0, 0)
    if done != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")
