"""The mark beside a database file whose house was moved elsewhere, so that nobody serves it again by mistake."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from ostiary.storage.errors import DatabaseMoved

_END: Final = ".moved"
_NOTE: Final = (
    "Everything in the database beside this file was moved, and what devices brought since is there alone."
    " As long as this file lies here, the old database is not served."
)
_BESIDE: Final = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where a house went, in words without credentials, and when."""

    to: str = ""
    at: str = ""


def mark_of(database: Path) -> Path:
    """Where the mark of a database lies."""
    return database.with_name(f"{database.name}{_END}")


def read_mark(database: Path) -> Mark | None:
    """The mark, if there is one. One that nobody can read is one, too."""
    try:
        said = json.loads(mark_of(database).read_text())
        return Mark(to=str(said["to"]), at=str(said["at"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Mark()


def write_mark(database: Path, to: str, now: datetime) -> None:
    """Mark it; on disk before this returns. Raises OSError."""
    place = mark_of(database)
    beside = place.with_name(f"{place.name}.new")
    said = {"to": to, "at": now.isoformat(timespec="seconds"), "note": _NOTE}
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(said, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(place)
    _flush_directory(place.parent)


def remove_mark(database: Path) -> None:
    """As before the mark. Raises OSError."""
    mark_of(database).unlink(missing_ok=True)
    _flush_directory(database.parent)


def demand_not_moved(database: Path, *, unless_to: str | None = None) -> None:
    """Raises DatabaseMoved; a move to `unless_to` that was cut off at its very end may go on."""
    mark = read_mark(database)
    if mark is None or (unless_to is not None and mark.to == unless_to):
        return
    raise DatabaseMoved(
        f"{database} was moved to {mark.to or 'another database'}{mark.at and ' at ' + mark.at};"
        " what devices brought since is not in it, so it is not served",
        mark=mark_of(database),
    )


def set_aside(database: Path) -> Path:
    """Rename a marked database, so that another one can have its name; it stays marked. Raises OSError."""
    aside = _free_name(database)
    shutil.copy(mark_of(database), mark_of(aside))
    for end in _BESIDE:
        with suppress(FileNotFoundError):
            database.with_name(f"{database.name}{end}").rename(f"{aside}{end}")
    remove_mark(database)
    return aside


def _free_name(database: Path) -> Path:
    aside = database.with_name(f"{database.name}.old")
    number = 1
    while aside.exists():
        number += 1
        aside = database.with_name(f"{database.name}.old-{number}")
    return aside


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
