"""The control socket as a file: made private from its first moment, found again, removed at the end."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ostiary.errors import Unavailable

_LONGEST_ADDRESS: Final = 100
"""Bytes that a socket's address may have on every system (sun_path)."""


class ControlSocketUnusable(Unavailable):
    """The control socket cannot be made."""

    hint = "The data directory must lie on a file system of this machine and be writable for the server's user."


class DirectoryIsServed(Unavailable):
    """Another server already serves this data directory, and answers its commands."""

    hint = (
        "Stop it first. More processes of one server are `--processes N`; another node has a copy of the directory"
        " for itself; `--only worker` may share it."
    )


class ControlSocket:
    """A listening control socket and the right to it, for as long as any process that was forked with it lives."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`, mode 0600; what a dead server left there is replaced.

        Raises:
            DirectoryIsServed: a living one has it; a database that several nodes share has no lock of its own.
            ControlSocketUnusable
        """
        self._path = path
        self._right = _claim(path.with_suffix(".lock"), path.parent)
        try:
            self.socket = bind_control_socket(path)
        except BaseException:
            os.close(self._right)
            raise

    def close(self) -> None:
        """Remove the file, and let others serve the directory."""
        self.socket.close()
        remove_control_socket(self._path)
        os.close(self._right)


def _claim(lock: Path, directory: Path) -> int:
    try:
        right = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        raise ControlSocketUnusable(path=lock) from None
    try:
        fcntl.flock(right, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(right)
        raise DirectoryIsServed(directory=directory) from None
    return right


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """An address of a socket at `path` that is short enough, valid until the `with` ends."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def bind_control_socket(path: Path) -> socket.socket:
    """A listening socket with mode 0600. What is there is replaced: whoever calls holds the right to it.

    Raises:
        ControlSocketUnusable
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Between bind and chmod anybody could connect, so the mode is right from the start.
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        with short_address(path) as address:
            sock.bind(address)
        sock.listen()
    except OSError:
        sock.close()
        raise ControlSocketUnusable(path=path) from None
    finally:
        os.umask(mask)
    return sock


def remove_control_socket(path: Path) -> None:
    """Remove it; what is gone already is fine."""
    with suppress(OSError):
        path.unlink()


def is_served(path: Path) -> bool:
    """Whether somebody listens there; a socket that nobody listens at is stale."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            with short_address(path) as address:
                sock.connect(address)
        except OSError:
            return False
    return True
