"""The control socket as a file: made private from its first moment, found again, removed at the end."""

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
    """A listening socket with mode 0600. A stale one is replaced: whoever calls holds the store's lock.

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
