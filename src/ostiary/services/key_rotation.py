"""Rotating the keys under which values are sealed, and taking up what another process rotated."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import TenantId
from ostiary.ports.clock import Clock
from ostiary.ports.keyring import KeyLook, Keyring
from ostiary.ports.storage import EpochRow, KeyEpochs

REFRESH: Final = timedelta(seconds=5)
"""How often every process looks for new epochs."""
REST: Final = 6 * REFRESH
"""How long a process that shares its database knows a new epoch before it seals under it: the others look five times."""
AUDIT_TENANT_VERB: Final = "key-rotate"
AUDIT_ROOT_VERB: Final = "key-rotate-root"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """A tenant has a new epoch."""

    tenant: TenantId
    epoch: int
    made_at: datetime


class KeyRotation:
    """Makes epochs, replaces the root key, and keeps this process up to date with what others made."""

    def __init__(
        self, epochs: KeyEpochs, keyring: Keyring, clock: Clock, *, rest: timedelta = REST
    ) -> None:
        self._epochs = epochs
        self._keyring = keyring
        self._clock = clock
        self.rest = rest
        """How long a new epoch only opens values, before this process seals under it."""
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Look for new epochs now: a value named one that is not known here."""
        self._wanted.set()

    async def wait(self) -> None:
        """Return when it is time to look again."""
        try:
            async with asyncio.timeout(REFRESH.total_seconds()):
                await self._wanted.wait()
        except TimeoutError:
            return
        finally:
            self._wanted.clear()

    async def refresh(self) -> None:
        """Take up epochs that are new, and seal under those that are known for long enough.

        Raises:
            RootKeyDoesNotMatch, KeyFileMissing, …: what is new does not open; everything else goes on.
        """
        self._keyring.adopt(await self._epochs.load_epochs(), self._clock.now())

    async def rotate(self, tenant: TenantId, actor: str) -> Rotated:
        """Add an epoch, under which every process seals soon. Nothing that is sealed already is touched.

        Raises:
            TenantUnknown: nobody has this name.
            Conflicting: somebody else rotated in the same moment.
            RootKeyDoesNotMatch, …: as the keyring has it.
        """
        rows, now = await self._epochs.load_epochs(), self._clock.now()
        row = self._keyring.make_epoch(rows, tenant, now)
        audit = AuditEntry(
            tenant=tenant,
            actor=actor,
            verb=AUDIT_TENANT_VERB,
            subject=f"epoch {row.epoch}",
            reason="",
        )
        await self._epochs.replace_epochs(rows, [*rows, row], audit)
        log.info("key_rotated", tenant=tenant, epoch=row.epoch)
        await self.refresh()
        return Rotated(tenant=tenant, epoch=row.epoch, made_at=now)

    async def rotate_root(self, tenant: TenantId, actor: str) -> str:
        """Replace the root key; the name of the file in which the old one is kept. The audit is `tenant`'s.

        The new key is on the disk before any row is wrapped under it, so that a start after any instant finds one that
        fits. What is flushed meanwhile keeps this process for some milliseconds, once in years.

        Raises:
            RootKeyInChange, Conflicting: somebody else rotates at this moment.
            RootKeyDoesNotMatch, …: as the keyring has it.
        """
        rows = await self._epochs.load_epochs()
        with self._keyring.changing_root(rows, self._clock.now()) as change:
            audit = AuditEntry(
                tenant=tenant, actor=actor, verb=AUDIT_ROOT_VERB, subject="root key", reason=""
            )
            await self._epochs.replace_epochs(rows, change.rows, audit)
            aside = change.finish()
        log.info("root_key_rotated", kept=aside.name)
        return aside.name

    async def look(self) -> Sequence[KeyLook]:
        """Every key of every tenant, and whether the root key on this node opens it."""
        rows: Sequence[EpochRow] = await self._epochs.load_epochs()
        return self._keyring.examine(rows)
