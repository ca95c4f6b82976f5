"""The tenant keys of one process: opened under the root key file, taken up as they appear, rotated."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ostiary.domain.token import TenantId
from ostiary.errors import OstiaryError
from ostiary.keys.root_file import RootKeyFile
from ostiary.keys.sealer import DIGEST_EPOCH, FIRST_SEALING_EPOCH, EpochSealer, open_keys
from ostiary.keys.wrapping import KEY_BYTES, EpochKeyDamaged, RootKeyDoesNotMatch, RootKeyring
from ostiary.ports.keyring import KeyLook, TenantUnknown
from ostiary.ports.storage import EpochRow

_LONG_KNOWN: Final = timedelta(hours=1)
"""At a start: an epoch that was made longer ago is known to every process, however their clocks differ."""

Place = tuple[TenantId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRootChange:
    """Implements ports.keyring.RootChange."""

    rows: tuple[EpochRow, ...]
    file: RootKeyFile
    now: datetime

    def finish(self) -> Path:
        """Rename the files; where the old key lies now."""
        return self.file.take_place(self.now)


class FileKeyring:
    """Implements ports.keyring.Keyring over a root key in a file.

    A new epoch opens values as soon as it is read, and seals only once this process has known it for `rest`: by then every
    other process, which looks every few seconds, has read it too, and opens what is sealed under it. The span is
    measured by our own clock from our own look, so it does not matter whether clocks agree.
    """

    def __init__(
        self,
        file: RootKeyFile,
        sealer: EpochSealer,
        rows: Sequence[EpochRow],
        now: datetime,
        *,
        rest: timedelta,
    ) -> None:
        self._file = file
        self._sealer = sealer
        self._rest = rest
        self._seen_at: dict[Place, datetime] = {}
        for row in rows:
            is_old = row.created_at <= now - _LONG_KNOWN
            self._seen_at[row.tenant, row.epoch] = row.created_at if is_old else now
        self._sealer.put_in_force({}, self._in_force(rows, now))

    def adopt(self, rows: Sequence[EpochRow], now: datetime) -> None:
        """Open what is new among all rows, and seal under what is known for long enough."""
        opened = {}
        if not all(self._sealer.knows(row) for row in rows):
            opened = open_keys(RootKeyring(self._file.load(rows)), rows)
        for row in rows:
            seen_at = self._seen_at.setdefault((row.tenant, row.epoch), now)
            self._seen_at[row.tenant, row.epoch] = min(seen_at, now)  # the clock was put back
        current = {
            tenant: max(epoch, self._current(tenant))
            for tenant, epoch in self._in_force(rows, now).items()
        }
        if opened or any(self._current(tenant) != epoch for tenant, epoch in current.items()):
            self._sealer.put_in_force(opened, current)

    def make_epoch(self, rows: Sequence[EpochRow], tenant: TenantId, now: datetime) -> EpochRow:
        """The next epoch of a tenant, wrapped."""
        epochs = [row.epoch for row in rows if row.tenant == tenant]
        if not epochs:
            raise TenantUnknown(tenant=tenant)
        keyring = RootKeyring(self._file.load(rows))
        return keyring.wrap(tenant, max(epochs) + 1, os.urandom(KEY_BYTES), now)

    def examine(self, rows: Sequence[EpochRow]) -> tuple[KeyLook, ...]:
        """What the root key on this node opens; a row at a time, so that one that is damaged hides no other."""
        try:
            keyring = RootKeyring(self._file.load(rows))
        except OstiaryError:
            return tuple(KeyLook(row=row, fits=False, opens=False) for row in rows)
        return tuple(
            KeyLook(row=row, fits=keyring.fits(row), opens=_opens(keyring, row)) for row in rows
        )

    @contextmanager
    def changing_root(self, rows: Sequence[EpochRow], now: datetime) -> Iterator[StoredRootChange]:
        """A new root key on the disk, and every row wrapped under it."""
        with self._file.locked():
            new = self._file.make_new(rows, now)
            old_ring, new_ring = RootKeyring(self._file.load(rows)), RootKeyring(new)
            rewrapped = tuple(
                new_ring.wrap(row.tenant, row.epoch, old_ring.unwrap(row), row.created_at)
                for row in rows
            )
            yield StoredRootChange(rows=rewrapped, file=self._file, now=now)

    def _current(self, tenant: TenantId) -> int:
        return self._sealer.current_epoch(tenant) if tenant in self._sealer.tenants() else 0

    def _in_force(self, rows: Sequence[EpochRow], now: datetime) -> dict[TenantId, int]:
        """Of each tenant the newest epoch that has rested; its oldest while none has."""
        epochs: dict[TenantId, list[int]] = {}
        for row in rows:
            if row.epoch != DIGEST_EPOCH:
                epochs.setdefault(row.tenant, []).append(row.epoch)
        return {
            tenant: max(
                (one for one in known if self._has_rested((tenant, one), now)), default=min(known)
            )
            for tenant, known in epochs.items()
        }

    def _has_rested(self, place: Place, now: datetime) -> bool:
        return place[1] == FIRST_SEALING_EPOCH or now - self._seen_at[place] >= self._rest


def _opens(keyring: RootKeyring, row: EpochRow) -> bool:
    try:
        keyring.unwrap(row)
    except (RootKeyDoesNotMatch, EpochKeyDamaged):
        return False
    return True
