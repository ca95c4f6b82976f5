"""The root key on the disk, and how another one takes its place without a moment in which neither fits the database.

The new key lies beside the old one, flushed, before any row of the database is wrapped under it; afterwards the old
one is kept aside, since backups of the database need it. A process that dies in between leaves both, and whoever
starts next uses the one that fits. (docs/decisions/0022-rotating-vault-keys.md)
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ostiary.errors import Conflicting, Unavailable
from ostiary.keys.file import (
    KeyFileDamaged,
    KeyFileMissing,
    create_root_key,
    flush_directory,
    load_root_key,
)
from ostiary.keys.wrapping import RootKeyDoesNotMatch, RootKeyring
from ostiary.ports.storage import EpochRow
from ostiary.secret import Secret


class RootKeyInChange(Conflicting):
    """Somebody else is replacing the root key of this node at this moment."""

    hint = "Wait until that command has ended, then look with `ostiary key check`."


class RootKeyNotReplaced(Unavailable):
    """The files of the root key cannot be written."""

    hint = (
        "Let the server's user write the keys directory, and give the command again. Nothing is lost: a start uses the"
        " key that fits the database."
    )


class RootKeyFile:
    """`root.key`; during a change also `root.key.new`, and afterwards `root.key.<day>` for each that was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.new = path.with_name(f"{path.name}.new")

    def demand(self) -> None:
        """Raise KeyFileMissing, KeyFileExposed or KeyFileDamaged unless there is a key to try."""
        if not self.new.exists():
            load_root_key(self.path)

    def load(self, rows: Sequence[EpochRow]) -> Secret:
        """The key that `rows` are wrapped under; any key fits no rows.

        Raises:
            RootKeyDoesNotMatch: there are keys, and none of them fits.
            KeyFileMissing, KeyFileExposed, KeyFileDamaged: there is none to try.
        """
        # Between two looks the new one may have taken the old one's name.
        for path in (self.path, self.new):
            with suppress(KeyFileMissing, KeyFileDamaged):
                if fits(key := load_root_key(path), rows):
                    return key
        key = load_root_key(self.path)
        if fits(key, rows):
            return key
        raise RootKeyDoesNotMatch(path=self.path)

    def finish_interrupted(self, rows: Sequence[EpochRow], now: datetime) -> None:
        """End a change that was stored, if whoever made it died before its files had their names."""
        if self.new.exists():  # else nothing is locked: the directory may not even be ours to write
            with suppress(RootKeyInChange), self.locked():
                self._finish_interrupted(rows, now)

    def _finish_interrupted(self, rows: Sequence[EpochRow], now: datetime) -> None:
        if not rows or not self.new.exists():
            return
        with suppress(KeyFileMissing, KeyFileDamaged):
            if fits(load_root_key(self.path), rows):
                return
        with suppress(KeyFileDamaged):
            if fits(load_root_key(self.new), rows):
                self.take_place(now)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the files meanwhile; the lock ends with the process.

        Raises:
            RootKeyInChange: somebody else does.
            RootKeyNotReplaced: also of what is done inside.
        """
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
            finally:
                os.close(descriptor)
        except BlockingIOError:
            raise RootKeyInChange from None
        except OSError as error:
            raise RootKeyNotReplaced(path=self.path, reason=error.strerror) from error

    def make_new(self, rows: Sequence[EpochRow], now: datetime) -> Secret:
        """A new key, on the disk beside the old one; within `locked`.

        One that an earlier attempt left there is used: it is as random, and nothing was ever wrapped under it.
        """
        self._finish_interrupted(rows, now)
        try:
            return load_root_key(self.new)
        except KeyFileMissing:
            pass
        except KeyFileDamaged:  # cut off while it was written
            self.new.unlink()
        return create_root_key(self.new)

    def take_place(self, now: datetime) -> Path:
        """Keep the old key aside, and let the new one be `root.key`; where the old one lies. Within `locked`."""
        aside = self._keep_aside(now)
        self.new.replace(self.path)
        flush_directory(self.path.parent)
        return aside

    def _keep_aside(self, now: datetime) -> Path:
        names = [f"{self.path.name}.{now:%Y-%m-%d}"]
        names += [f"{names[0]}.{number}" for number in range(2, 1000)]
        for aside in (self.path.with_name(name) for name in names):
            try:
                os.link(self.path, aside)
            except FileExistsError:
                if not self.path.samefile(aside):  # another change of the same day
                    continue
            except FileNotFoundError:  # the old key is lost, which is no reason to lose the new one
                return aside
            flush_directory(aside.parent)
            return aside
        raise KeyFileDamaged("the root key was replaced a thousand times today", path=self.path)


def fits(root: Secret, rows: Sequence[EpochRow]) -> bool:
    """Whether all rows were wrapped under this key; true of no rows."""
    keyring = RootKeyring(root)
    return all(keyring.fits(row) for row in rows)
