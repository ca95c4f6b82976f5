"""Keys in files: written once with mode 0600, and refused when others on the machine may read them."""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from ostiary.errors import Conflicting, Unavailable
from ostiary.secret import Secret

ROOT_KEY_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_LARGEST_KEY_FILE: Final = 64 * 1024


class KeyFileExists(Conflicting):
    """There is a key file already, and it is never overwritten: what it protects would be lost."""

    hint = "Keep it; or choose another directory for a new installation."


class KeyFileMissing(Unavailable):
    """A key file is not there, or cannot be read by us."""

    hint = (
        "Restore the keys directory that belongs to this database, readable for the server's user."
    )


class KeyFileExposed(Unavailable):
    """Other users of this machine may read a key file."""

    hint = "chmod 600 the file, and consider the key known to whoever could read it."


class KeyFileDamaged(Unavailable):
    """A key file does not hold a key."""

    hint = "Restore the keys directory that belongs to this database."


def create_root_key(path: Path) -> Secret:
    """A new random root key, on disk at `path` before this returns. Raises KeyFileExists."""
    key = secrets.token_bytes(ROOT_KEY_BYTES)
    write_key_file(path, key)
    return Secret(key)


def load_root_key(path: Path) -> Secret:
    """The root key at `path`. Raises KeyFileMissing, KeyFileExposed or KeyFileDamaged."""
    key = read_key_file(path)
    if len(key) != ROOT_KEY_BYTES:
        raise KeyFileDamaged(path=path)
    return key


def write_key_file(path: Path, contents: bytes) -> None:
    """Create `path` with mode 0600 and flush it and its directory. Raises KeyFileExists."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise KeyFileExists(path=path) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())
    flush_directory(path.parent)


def replace_key_file(path: Path, contents: bytes) -> None:
    """Put `contents` at `path` with mode 0600 at once, for keys that may be made anew (TLS)."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    write_key_file(beside, contents)
    beside.replace(path)
    flush_directory(path.parent)


def read_key_file(path: Path) -> Secret:
    """What a key file holds. Raises KeyFileMissing, KeyFileExposed or KeyFileDamaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        raise KeyFileMissing(path=path) from None
    try:
        # The open file is asked, not the path: it cannot be exchanged in between.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileDamaged(path=path)
        if status.st_mode & _OTHERS:
            raise KeyFileExposed(path=path, mode=oct(stat.S_IMODE(status.st_mode)))
        contents = os.read(descriptor, _LARGEST_KEY_FILE + 1)
    finally:
        os.close(descriptor)
    if not contents or len(contents) > _LARGEST_KEY_FILE:
        raise KeyFileDamaged(path=path)
    return Secret(contents)


def flush_directory(directory: Path) -> None:
    """Let the names in it survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
