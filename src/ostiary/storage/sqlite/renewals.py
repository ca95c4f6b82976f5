"""The renewal of identities on SQLite: looks over connections that only read, short writes in the writer."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.command import CommandState
from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, EnrollmentKey
from ostiary.domain.renewal import CommandSight, Renewal, RenewalPhase, Sight, in_order
from ostiary.domain.renewal_wave import Tally
from ostiary.ports.renewals import EndingPlace
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.readers import Read, Readers
from ostiary.storage.sqlite.rows import (
    Row,
    binding_from,
    enrollment_from,
    micros,
    micros_or_none,
    moment,
    moment_or_none,
    with_columns,
)
from ostiary.storage.sqlite.write_news import save_alert

_RENEWAL: Final = """
    enrollment_key, tenant, phase, fingerprint, look_at, attempts, asked_at, command_uuid,
    is_canary, finished_at, outcome, version
"""
LIST_ENDING: Final = with_columns("""
    SELECT $binding FROM binding b
     WHERE b.superseded_at IS NULL AND (b.not_after, b.fingerprint) > (?, ?) AND b.not_after <= ?
     ORDER BY b.not_after, b.fingerprint LIMIT ?
""")  # served by binding_in_force
LIST_UNSCHEDULED: Final = with_columns("""
    SELECT $binding FROM binding b
     WHERE b.superseded_at IS NULL AND (b.not_after, b.fingerprint) > (?, ?) AND b.not_after <= ?
       AND NOT EXISTS (SELECT 1 FROM identity_renewal r WHERE r.enrollment_key = b.enrollment_key)
     ORDER BY b.not_after, b.fingerprint LIMIT ?
""")  # served by binding_in_force and the primary key
LOOKED_AT: Final = with_columns("""
    SELECT $enrollment FROM enrollment e WHERE e.key = ?
""")  # served by the primary key
IN_FORCE: Final = with_columns("""
    SELECT $binding FROM binding b WHERE b.enrollment_key = ? AND b.superseded_at IS NULL
""")  # served by binding_by_enrollment
KNOWN: Final = f"""
    SELECT {_RENEWAL} FROM identity_renewal WHERE enrollment_key = ?
"""  # noqa: S608 - made of constants; served by the primary key
LIVE_COMMAND: Final = """
    SELECT state, hand_outs, NULL, '' FROM command WHERE enrollment_key = ? AND uuid = ?
"""  # served by command_by_uuid
ENDED_COMMAND: Final = """
    SELECT state, hand_outs, closed_at, result FROM command_closed
     WHERE enrollment_key = ? AND uuid = ?
"""  # served by command_closed_by_uuid
LIST_LOOKS: Final = """
    SELECT enrollment_key FROM identity_renewal
     WHERE phase NOT IN ('scheduled', 'failed') AND look_at <= ? ORDER BY look_at LIMIT ?
"""  # served by identity_renewal_look
LIST_DUE: Final = """
    SELECT enrollment_key FROM identity_renewal
     WHERE phase IN ('scheduled', 'failed') AND look_at <= ? ORDER BY look_at LIMIT ?
"""  # served by identity_renewal_due
LIST_CANARIES: Final = f"""
    SELECT {_RENEWAL} FROM identity_renewal WHERE is_canary = 1 ORDER BY enrollment_key LIMIT ?
"""  # noqa: S608 - made of constants; along identity_renewal_canary, which holds nothing else
COUNT_ASKED: Final = """
    SELECT count(*) FROM identity_renewal WHERE asked_at > ? AND asked_at <= ?
"""  # served by identity_renewal_by_asking
COUNT_FINISHED: Final = """
    SELECT count(*) FROM identity_renewal
     WHERE finished_at > ? AND finished_at <= ? AND phase = ?
"""  # served by identity_renewal_by_end
SCHEDULE: Final = f"""
    INSERT INTO identity_renewal ({_RENEWAL})
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12
     WHERE EXISTS (SELECT 1 FROM enrollment WHERE key = ?1)
    ON CONFLICT (enrollment_key) DO NOTHING
"""  # noqa: S608 - made of constants
REMEMBER: Final = """
    UPDATE identity_renewal
       SET tenant = ?2, phase = ?3, fingerprint = ?4, look_at = ?5, attempts = ?6, asked_at = ?7,
           command_uuid = ?8, is_canary = ?9, finished_at = ?10, outcome = ?11, version = ?12
     WHERE enrollment_key = ?1 AND version = ?13
"""  # served by the primary key
FORGET: Final = "DELETE FROM identity_renewal WHERE enrollment_key = ? AND version = ?"


class SqliteRenewals:
    """What the renewal of identities asks, on one engine."""

    def __init__(self, engine: Engine, readers: Readers) -> None:
        self._engine = engine
        self._readers = readers

    async def list_ending(
        self, after: EndingPlace | None, until: datetime, *, limit: int
    ) -> tuple[Binding, ...]:
        return await self._ending(LIST_ENDING, after, until, limit)

    async def list_unscheduled(
        self, after: EndingPlace | None, until: datetime, *, limit: int
    ) -> tuple[Binding, ...]:
        return await self._ending(LIST_UNSCHEDULED, after, until, limit)

    async def look(self, keys: Sequence[EnrollmentKey]) -> tuple[Sight, ...]:
        wanted = tuple(dict.fromkeys(keys))

        def work(read: Read) -> tuple[Sight, ...]:
            found = (_look(read, key) for key in wanted)
            return tuple(one for one in found if one is not None)

        return await self._readers.run(work)

    async def list_looks(self, now: datetime, *, limit: int) -> tuple[EnrollmentKey, ...]:
        return await self._keys(LIST_LOOKS, now, limit)

    async def list_due(self, now: datetime, *, limit: int) -> tuple[EnrollmentKey, ...]:
        return await self._keys(LIST_DUE, now, limit)

    async def list_canaries(self, *, limit: int) -> tuple[Renewal, ...]:
        rows = await self._readers.run(lambda read: read(LIST_CANARIES, (limit,)).fetchall())
        return tuple(_renewal_from(row) for row in rows)

    async def tally(self, now: datetime) -> Tally:
        hour, day = (micros(now - span) for span in (timedelta(hours=1), timedelta(days=1)))
        at = micros(now)

        def work(read: Read) -> Tally:
            def number(statement: str, *values: object) -> int:
                return int(read(statement, values).fetchone()[0])

            return Tally(
                asked_last_hour=number(COUNT_ASKED, hour, at),
                asked_last_day=number(COUNT_ASKED, day, at),
                completed_last_day=number(COUNT_FINISHED, day, at, RenewalPhase.COMPLETED.value),
                failed_last_day=number(COUNT_FINISHED, day, at, RenewalPhase.FAILED.value),
            )

        return await self._readers.run(work)

    async def schedule(self, renewals: Sequence[Renewal]) -> None:
        def work(transaction: Transaction) -> None:
            transaction.write_each(SCHEDULE, [_values(one) for one in renewals])

        if renewals:
            await self._engine.run(work)

    async def move(
        self,
        before: Renewal | None,
        after: Renewal | None,
        at: datetime,
        alerts: Sequence[Alert] = (),
    ) -> bool:
        def work(transaction: Transaction) -> bool:
            if not _move(transaction, before, after):
                return False
            for alert in alerts:
                save_alert(transaction, alert, at)
            return True

        return await self._engine.run(work)

    async def _ending(
        self, statement: str, after: EndingPlace | None, until: datetime, limit: int
    ) -> tuple[Binding, ...]:
        place = (0, "") if after is None else (micros(after.not_after), after.fingerprint)
        values = (*place, micros(until), limit)
        rows = await self._readers.run(lambda read: read(statement, values).fetchall())
        return tuple(binding_from(row) for row in rows)

    async def _keys(self, statement: str, now: datetime, limit: int) -> tuple[EnrollmentKey, ...]:
        values = (micros(now), limit)
        rows = await self._readers.run(lambda read: read(statement, values).fetchall())
        return tuple(EnrollmentKey(key) for (key,) in rows)


def _move(transaction: Transaction, before: Renewal | None, after: Renewal | None) -> bool:
    if before is None:
        return after is None or transaction.write(SCHEDULE, _values(after)) == 1
    if after is None:
        values = (before.enrollment_key, before.version)
        return transaction.write(FORGET, values) == 1
    remembered = (*_values(after)[:-1], before.version + 1, before.version)
    return transaction.write(REMEMBER, remembered) == 1


def _look(read: Read, key: EnrollmentKey) -> Sight | None:
    if (row := read(LOOKED_AT, (key,)).fetchone()) is None:
        return None
    known = read(KNOWN, (key,)).fetchone()
    renewal = None if known is None else _renewal_from(known)
    bindings = (binding_from(one) for one in read(IN_FORCE, (key,)).fetchall())
    return Sight(
        enrollment=enrollment_from(row),
        bindings=in_order(bindings),
        renewal=renewal,
        command=_command(read, renewal),
    )


def _command(read: Read, renewal: Renewal | None) -> CommandSight | None:
    if renewal is None or renewal.command_uuid is None:
        return None
    values = (renewal.enrollment_key, renewal.command_uuid)
    for statement in (LIVE_COMMAND, ENDED_COMMAND):
        if (row := read(statement, values).fetchone()) is not None:
            state, hand_outs, closed_at, result = row
            return CommandSight(
                state=CommandState(state),
                hand_outs=hand_outs,
                closed_at=moment_or_none(closed_at),
                result=result,
            )
    return None


def _renewal_from(row: Row) -> Renewal:
    (
        key, tenant, phase, fingerprint, look_at, attempts, asked_at, command_uuid, is_canary,
        finished_at, outcome, version,
    ) = row  # fmt: skip
    return Renewal(
        enrollment_key=key,
        tenant=tenant,
        phase=RenewalPhase(phase),
        fingerprint=fingerprint,
        look_at=moment(look_at),
        attempts=attempts,
        asked_at=moment_or_none(asked_at),
        command_uuid=command_uuid,
        is_canary=bool(is_canary),
        finished_at=moment_or_none(finished_at),
        outcome=outcome,
        version=version,
    )


def _values(one: Renewal) -> Row:
    return (
        one.enrollment_key,
        one.tenant,
        one.phase.value,
        one.fingerprint,
        micros(one.look_at),
        one.attempts,
        micros_or_none(one.asked_at),
        one.command_uuid,
        int(one.is_canary),
        micros_or_none(one.finished_at),
        one.outcome,
        one.version,
    )
