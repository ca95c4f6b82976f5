"""The renewal of identities on PostgreSQL: looks over connections for reports, short writes over those that decide."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ostiary.domain.command import CommandState
from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, EnrollmentKey
from ostiary.domain.renewal import CommandSight, Renewal, RenewalPhase, Sight, in_order
from ostiary.domain.renewal_wave import Tally
from ostiary.domain.token import Fingerprint
from ostiary.ports.renewals import EndingPlace
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.rows import (
    BINDING_COLUMNS,
    ENROLLMENT_WIDTH,
    Row,
    Values,
    binding_from,
    enrollment_from,
    listed,
    with_columns,
)
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.text import unescape
from ostiary.storage.postgres.write_news import save_alert

_LONG_AGO: Final = EndingPlace(
    not_after=datetime(1970, 1, 1, tzinfo=UTC), fingerprint=Fingerprint("")
)
_COLUMNS: Final = (
    "enrollment_key", "tenant", "phase", "fingerprint", "look_at", "attempts", "asked_at",
    "command_uuid", "is_canary", "finished_at", "outcome", "version",
)  # fmt: skip
_LISTED: Final = ", ".join(_COLUMNS)
LIST_ENDING: Final = f"""
    SELECT {listed("b", BINDING_COLUMNS)} FROM binding b
     WHERE coalesce(b.superseded_at, 'infinity'::timestamptz) = 'infinity'::timestamptz
       AND (b.not_after, b.fingerprint) > ($1, $2) AND b.not_after <= $3
     ORDER BY b.not_after, b.fingerprint LIMIT $4
"""  # noqa: S608 - made of constants; served by binding_in_force
LIST_UNSCHEDULED: Final = f"""
    SELECT {listed("b", BINDING_COLUMNS)} FROM binding b
     WHERE coalesce(b.superseded_at, 'infinity'::timestamptz) = 'infinity'::timestamptz
       AND (b.not_after, b.fingerprint) > ($1, $2) AND b.not_after <= $3
       AND NOT EXISTS (SELECT FROM identity_renewal r WHERE r.enrollment_key = b.enrollment_key)
     ORDER BY b.not_after, b.fingerprint LIMIT $4
"""  # noqa: S608 - made of constants; served by binding_in_force and the primary key
LOOK: Final = with_columns(f"""
    SELECT $enrollment, {listed("r", _COLUMNS)},
           coalesce(c.state, d.state), coalesce(c.hand_outs, d.hand_outs), d.closed_at, d.result
      FROM enrollment e
      LEFT JOIN identity_renewal r ON r.enrollment_key = e.key
      LEFT JOIN command c ON c.enrollment_key = e.key AND c.uuid = r.command_uuid
      LEFT JOIN command_closed d ON d.enrollment_key = e.key AND d.uuid = r.command_uuid
     WHERE e.key = ANY($1::text[])
""")  # noqa: S608 - made of constants; served by the primary keys and by command_by_uuid
IN_FORCE: Final = f"""
    SELECT {listed("b", BINDING_COLUMNS)} FROM binding b
     WHERE b.enrollment_key = ANY($1::text[]) AND b.superseded_at IS NULL
"""  # noqa: S608 - made of constants; served by binding_by_enrollment
LIST_LOOKS: Final = """
    SELECT enrollment_key FROM identity_renewal
     WHERE phase NOT IN ('scheduled', 'failed') AND look_at <= $1 ORDER BY look_at LIMIT $2
"""  # served by identity_renewal_look
LIST_DUE: Final = """
    SELECT enrollment_key FROM identity_renewal
     WHERE phase IN ('scheduled', 'failed') AND look_at <= $1 ORDER BY look_at LIMIT $2
"""  # served by identity_renewal_due
LIST_CANARIES: Final = f"""
    SELECT {_LISTED} FROM identity_renewal WHERE is_canary ORDER BY enrollment_key LIMIT $1
"""  # noqa: S608 - made of constants; along identity_renewal_canary, which holds nothing else
COUNT_ASKED: Final = """
    SELECT count(*) FROM identity_renewal WHERE asked_at > $1 AND asked_at <= $2
"""  # served by identity_renewal_by_asking
COUNT_FINISHED: Final = """
    SELECT count(*) FROM identity_renewal
     WHERE finished_at > $1 AND finished_at <= $2 AND phase = $3
"""  # served by identity_renewal_by_end
SCHEDULE: Final = f"""
    INSERT INTO identity_renewal ({_LISTED})
    SELECT e.key, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
      FROM enrollment e WHERE e.key = $1
    ON CONFLICT (enrollment_key) DO NOTHING
"""  # noqa: S608 - made of constants; served by the primary key
REMEMBER: Final = """
    UPDATE identity_renewal
       SET tenant = $2, phase = $3, fingerprint = $4, look_at = $5, attempts = $6, asked_at = $7,
           command_uuid = $8, is_canary = $9, finished_at = $10, outcome = $11, version = $12
     WHERE enrollment_key = $1 AND version = $13
"""  # served by the primary key
FORGET: Final = "DELETE FROM identity_renewal WHERE enrollment_key = $1 AND version = $2"


class PostgresRenewals:
    """What the renewal of identities asks, over two pools: one that decides, one that only reads."""

    def __init__(self, pool: Pool, reporters: Pool) -> None:
        self._pool = pool
        self._reporters = reporters

    async def list_ending(
        self, after: EndingPlace | None, until: datetime, *, limit: int
    ) -> tuple[Binding, ...]:
        return await self._ending(LIST_ENDING, after, until, limit)

    async def list_unscheduled(
        self, after: EndingPlace | None, until: datetime, *, limit: int
    ) -> tuple[Binding, ...]:
        return await self._ending(LIST_UNSCHEDULED, after, until, limit)

    async def look(self, keys: Sequence[EnrollmentKey]) -> tuple[Sight, ...]:
        wanted = list(dict.fromkeys(keys))

        async def work(session: Session) -> tuple[list[Row], list[Row]]:
            return await session.rows(LOOK, wanted), await session.rows(IN_FORCE, wanted)

        found, in_force = await self._reporters.run(work)
        bindings: dict[EnrollmentKey, list[Binding]] = {}
        for binding in map(binding_from, in_force):
            bindings.setdefault(binding.enrollment_key, []).append(binding)
        sights = {row[0]: _sight(row, bindings.get(row[0], ())) for row in found}
        return tuple(sights[key] for key in wanted if key in sights)

    async def list_looks(self, now: datetime, *, limit: int) -> tuple[EnrollmentKey, ...]:
        return tuple(key for (key,) in await self._reporters.rows(LIST_LOOKS, now, limit))

    async def list_due(self, now: datetime, *, limit: int) -> tuple[EnrollmentKey, ...]:
        return tuple(key for (key,) in await self._reporters.rows(LIST_DUE, now, limit))

    async def list_canaries(self, *, limit: int) -> tuple[Renewal, ...]:
        rows = await self._reporters.rows(LIST_CANARIES, limit)
        return tuple(_renewal_from(row) for row in rows)

    async def tally(self, now: datetime) -> Tally:
        hour, day = now - timedelta(hours=1), now - timedelta(days=1)

        async def work(session: Session) -> Tally:
            async def number(statement: str, *values: object) -> int:
                ((found,),) = await session.rows(statement, *values)
                return int(found)

            return Tally(
                asked_last_hour=await number(COUNT_ASKED, hour, now),
                asked_last_day=await number(COUNT_ASKED, day, now),
                completed_last_day=await number(
                    COUNT_FINISHED, day, now, RenewalPhase.COMPLETED.value
                ),
                failed_last_day=await number(COUNT_FINISHED, day, now, RenewalPhase.FAILED.value),
            )

        return await self._reporters.run(work)

    async def schedule(self, renewals: Sequence[Renewal]) -> None:
        if renewals:
            await self._pool.transact(
                lambda session: session.many(SCHEDULE, [_values(one) for one in renewals])
            )

    async def move(
        self,
        before: Renewal | None,
        after: Renewal | None,
        at: datetime,
        alerts: Sequence[Alert] = (),
    ) -> bool:
        async def work(session: Session) -> bool:
            if not await _move(session, before, after):
                return False
            for alert in alerts:
                await save_alert(session, alert, at)
            return True

        return await self._pool.transact(work)

    async def _ending(
        self, statement: str, after: EndingPlace | None, until: datetime, limit: int
    ) -> tuple[Binding, ...]:
        place = after or _LONG_AGO
        values = (place.not_after, place.fingerprint, until, limit)
        return tuple(binding_from(row) for row in await self._reporters.rows(statement, *values))


async def _move(session: Session, before: Renewal | None, after: Renewal | None) -> bool:
    if before is None:
        return after is None or await session.run(SCHEDULE, *_values(after)) == 1
    if after is None:
        return await session.run(FORGET, before.enrollment_key, before.version) == 1
    remembered = (*_values(after)[:-1], before.version + 1, before.version)
    return await session.run(REMEMBER, *remembered) == 1


def _sight(row: Row, bindings: Sequence[Binding]) -> Sight:
    known, command = row[ENROLLMENT_WIDTH : ENROLLMENT_WIDTH + len(_COLUMNS)], row[-4:]
    state, hand_outs, closed_at, result = command
    return Sight(
        enrollment=enrollment_from(row[:ENROLLMENT_WIDTH]),
        bindings=in_order(bindings),
        renewal=None if known[0] is None else _renewal_from(known),
        command=None
        if state is None
        else CommandSight(
            state=CommandState(state),
            hand_outs=hand_outs,
            closed_at=closed_at,
            result=unescape(result or ""),
        ),
    )


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
        look_at=look_at,
        attempts=attempts,
        asked_at=asked_at,
        command_uuid=command_uuid and CommandUuid(unescape(command_uuid)),
        is_canary=is_canary,
        finished_at=finished_at,
        outcome=unescape(outcome),
        version=version,
    )


def _values(one: Renewal) -> Values:
    return (
        one.enrollment_key,
        one.tenant,
        one.phase.value,
        one.fingerprint,
        one.look_at,
        one.attempts,
        one.asked_at,
        one.command_uuid,
        one.is_canary,
        one.finished_at,
        one.outcome,
        one.version,
    )
