"""Lists and counts on PostgreSQL, over connections of their own. Last-seen may lag by what each node still keeps in memory."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, Enrollment, EnrollmentKey
from ostiary.domain.facts import FactSheet
from ostiary.domain.token import Holder, TenantId, TokenKind, TokenRecord
from ostiary.ports.reports import AlertLine, CommandLine, Counts
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.postgres.escrow_rows import FACT_COLUMNS, sheet_from
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.rows import (
    Row,
    binding_from,
    enrollment_from,
    token_from,
    with_columns,
)
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.text import escape, unescape, unescape_or_none

LIST_ENROLLMENTS: Final = with_columns("""
    SELECT $enrollment FROM enrollment e
     WHERE e.tenant = $1 AND (e.id, e.key) > ($2, $3) AND ($4::text IS NULL OR e.state = $4::text)
     ORDER BY e.id, e.key LIMIT $5
""")  # served by enrollment_by_id
FIND_ENROLLMENTS: Final = with_columns("""
    SELECT $enrollment
      FROM enrollment e LEFT JOIN enrollment p ON p.key = e.parent_key
     WHERE e.key IN (SELECT key FROM enrollment WHERE tenant = $1 AND id = $2
                     UNION ALL
                     SELECT u.key FROM enrollment d JOIN enrollment u ON u.parent_key = d.key
                      WHERE d.tenant = $1 AND d.id = $2)
     ORDER BY CASE coalesce(p.standing, e.standing)
                  WHEN 'current' THEN 0 WHEN 'contested' THEN 1 ELSE 2 END,
              coalesce(p.created_at, e.created_at) DESC, coalesce(p.key, e.key),
              e.parent_key IS NOT NULL, e.id
""")  # served by enrollment_by_id and enrollment_user
FIND_BY_SERIAL: Final = with_columns("""
    SELECT $enrollment FROM enrollment e
     WHERE e.tenant = $1 AND e.serial_number = ANY($2::text[]) AND e.serial_number IS NOT NULL
       AND length(e.serial_number) <= 255 AND e.standing = 'current' AND e.parent_key IS NULL
""")  # served by enrollment_serial
LIST_PUSH_DEAD: Final = with_columns("""
    SELECT $enrollment FROM enrollment e
     WHERE e.tenant = $1 AND e.push_dead_since IS NOT NULL AND e.key > $2
       AND e.state IN ('enrolled', 'renewing')
     ORDER BY e.key LIMIT $3
""")  # served by enrollment_push_dead
LIST_BINDINGS: Final = with_columns("""
    SELECT $binding
      FROM enrollment e JOIN binding b ON b.enrollment_key = e.key
     WHERE e.tenant = $1 AND e.id = $2
     ORDER BY b.superseded_at IS NOT NULL, b.bound_at DESC, b.fingerprint
""")  # served by enrollment_by_id and binding_by_enrollment
LIST_LIVE: Final = """
    SELECT c.uuid, e.id, c.request_type, c.state, c.queued_at, c.sent_at, NULL::timestamptz,
           c.hand_outs, c.source, NULL::text
      FROM command c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE e.tenant = $1 AND ($2::text IS NULL OR e.id = $2::text)
     ORDER BY c.state <> 'sent', c.priority, c.sequence LIMIT $3
"""
LIST_CLOSED: Final = """
    SELECT c.uuid, e.id, c.request_type, c.state, c.queued_at, NULL::timestamptz, c.closed_at, c.hand_outs,
           c.source, c.result
      FROM command_closed c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE e.tenant = $1 AND e.id = $2
     ORDER BY c.number DESC LIMIT $3
"""  # served by enrollment_by_id and the primary key
LIST_ALL_CLOSED: Final = """
    SELECT c.uuid, e.id, c.request_type, c.state, c.queued_at, NULL::timestamptz, c.closed_at, c.hand_outs,
           c.source, c.result
      FROM command_closed c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE e.tenant = $1
     ORDER BY c.number DESC LIMIT $2
"""  # served by command_closed_by_number, newest first until the limit
LIST_TOKENS: Final = with_columns("""
    SELECT $public_token FROM token t
     WHERE t.tenant = $1 AND t.id > $2
       AND (NOT $3::boolean OR t.state NOT IN ('superseded', 'retired', 'revoked'))
     ORDER BY t.id LIMIT $4
""")  # served by the primary key
LIST_TOKENS_OF_KIND: Final = with_columns("""
    SELECT $public_token FROM token t
     WHERE t.tenant = $1 AND t.id > $2 AND t.kind = $5
       AND (NOT $3::boolean OR t.state NOT IN ('superseded', 'retired', 'revoked'))
     ORDER BY t.id LIMIT $4
""")  # served by the primary key: a kind that devices bring is never far
LIST_TOKENS_OF_RARE_KIND: Final = with_columns("""
    SELECT $public_token FROM token t
     WHERE t.tenant = $1 AND t.id > $2 AND t.kind = $5
       AND t.kind <> 'push' AND t.kind <> 'unlock' AND t.kind <> 'bootstrap'
       AND t.kind <> 'identity'
       AND (NOT $3::boolean OR t.state NOT IN ('superseded', 'retired', 'revoked'))
     ORDER BY t.id LIMIT $4
""")  # served by token_rare_kind
TOKEN_HISTORY: Final = with_columns("""
    SELECT $public_token FROM token t
     WHERE t.tenant = $1
       AND (t.holder = $2::text
            OR (t.holder > $2::text || ':' AND t.holder < $2::text || ';'))
     ORDER BY t.holder, t.kind, t.generation
""")  # served by token_generation; a user channel's id is the device's, a colon, the user
NEWEST_TOKENS: Final = with_columns("""
    SELECT t.*
      FROM unnest($3::text[]) h (holder)
     CROSS JOIN LATERAL (SELECT $public_token FROM token t
                          WHERE t.tenant = $1 AND t.holder = h.holder AND t.kind = $2
                          ORDER BY t.generation DESC LIMIT 1) t
""")  # served by token_generation
COUNT_AUDITED: Final = """
    SELECT count(*) FROM audit WHERE tenant = $1 AND at >= $2 AND lower(verb) = ANY($3)
"""  # served by audit_by_time alone
LIST_FACTS: Final = f"""
    SELECT {", ".join(FACT_COLUMNS)} FROM fact WHERE enrollment_key = ANY($1::text[])
"""  # noqa: S608 - made of constants; served by the primary key
LIST_ALERTS: Final = """
    SELECT tenant, subject, kind, sentence, count, first_at, last_at FROM alert
     WHERE tenant = $1 ORDER BY last_at DESC, subject, kind LIMIT $2
"""
COUNT_ENROLLMENTS: Final = """
    SELECT type, state, sum(number) FROM enrollment_count
     GROUP BY type, state HAVING sum(number) > 0
"""  # kept as deltas: as many rows as kinds, and what a worker has not folded yet
COUNT_TOKENS: Final = """
    SELECT kind, state, sum(number) FROM token_count GROUP BY kind, state HAVING sum(number) > 0
"""  # kept as deltas
COUNT_LIVE: Final = "SELECT count(*) FROM command"
COUNT_WAKES: Final = "SELECT count(*) FROM wake"
COUNT_DEAD: Final = "SELECT count(*) FROM enrollment WHERE push_dead_since IS NOT NULL"
COUNT_ALERTS: Final = "SELECT count(*) FROM alert"

_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""The parts of a report belong to one moment."""
_COMMON: Final = frozenset(
    {TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP, TokenKind.IDENTITY}
)
"""The kinds that the index token_rare_kind leaves out."""


class PostgresReports:
    """Lists and counts over a pool that only reads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list_enrollments(
        self, tenant: TenantId, *, state: str | None, limit: int, after: str | None
    ) -> tuple[Enrollment, ...]:
        # The key has no slash; an id may.
        last_id, _, last_key = (after or "").rpartition("/")
        rows = await self._pool.rows(LIST_ENROLLMENTS, tenant, last_id, last_key, state, limit)
        return tuple(enrollment_from(row) for row in rows)

    async def find_enrollments(
        self, tenant: TenantId, enrollment_id: EnrollmentId
    ) -> tuple[Enrollment, ...]:
        rows = await self._pool.rows(FIND_ENROLLMENTS, tenant, enrollment_id)
        return tuple(enrollment_from(row) for row in rows)

    async def find_by_serial(
        self, tenant: TenantId, serials: Collection[str]
    ) -> tuple[Enrollment, ...]:
        escaped = [escape(serial) for serial in sorted(set(serials))]
        rows = await self._pool.rows(FIND_BY_SERIAL, tenant, escaped)
        return tuple(enrollment_from(row) for row in rows)

    async def list_push_dead(
        self, tenant: TenantId, *, limit: int, after: str | None
    ) -> tuple[Enrollment, ...]:
        rows = await self._pool.rows(LIST_PUSH_DEAD, tenant, after or "", limit)
        return tuple(enrollment_from(row) for row in rows)

    async def list_bindings(
        self, tenant: TenantId, enrollment_id: EnrollmentId
    ) -> tuple[Binding, ...]:
        rows = await self._pool.rows(LIST_BINDINGS, tenant, enrollment_id)
        return tuple(binding_from(row) for row in rows)

    async def list_commands(
        self, tenant: TenantId, enrollment_id: EnrollmentId | None, *, live_only: bool, limit: int
    ) -> tuple[CommandLine, ...]:
        async def work(session: Session) -> list[Row]:
            async with session.transaction(_SNAPSHOT):
                rows = await session.rows(LIST_LIVE, tenant, enrollment_id, limit)
                left = 0 if live_only else limit - len(rows)
                if left and enrollment_id is None:
                    rows = [*rows, *await session.rows(LIST_ALL_CLOSED, tenant, left)]
                elif left:
                    rows = [*rows, *await session.rows(LIST_CLOSED, tenant, enrollment_id, left)]
                return rows

        return tuple(_command_line(row) for row in await self._pool.run(work))

    async def list_tokens(
        self,
        tenant: TenantId,
        *,
        kind: TokenKind | None,
        current_only: bool,
        limit: int,
        after: str | None,
    ) -> tuple[TokenRecord, ...]:
        """Current are those that no newer one replaced and nobody withdrew; a dead one may be."""
        values = (tenant, after or "", current_only, limit)
        if kind is None:
            rows = await self._pool.rows(LIST_TOKENS, *values)
        else:
            statement = LIST_TOKENS_OF_KIND if kind in _COMMON else LIST_TOKENS_OF_RARE_KIND
            rows = await self._pool.rows(statement, *values, kind.value)
        return tuple(token_from(row) for row in rows)

    async def token_history(self, tenant: TenantId, holder: Holder) -> tuple[TokenRecord, ...]:
        rows = await self._pool.rows(TOKEN_HISTORY, tenant, holder)
        return tuple(token_from(row) for row in rows)

    async def newest_tokens(
        self, tenant: TenantId, kind: TokenKind, holders: Sequence[Holder]
    ) -> tuple[TokenRecord, ...]:
        # A list's texts are escaped by whoever writes the list.
        escaped = [escape(holder) for holder in holders]
        rows = await self._pool.rows(NEWEST_TOKENS, tenant, kind.value, escaped)
        return tuple(token_from(row) for row in rows)

    async def list_facts(self, keys: Sequence[EnrollmentKey]) -> tuple[FactSheet, ...]:
        rows = await self._pool.rows(LIST_FACTS, list(keys))
        return tuple(sheet_from(row) for row in rows)

    async def list_alerts(self, tenant: TenantId, *, limit: int) -> tuple[AlertLine, ...]:
        """Latest first."""
        return tuple(_alert_line(row) for row in await self._pool.rows(LIST_ALERTS, tenant, limit))

    async def count_audited(
        self, tenant: TenantId, verbs: Sequence[str], *, since: datetime
    ) -> int:
        ((number,),) = await self._pool.rows(COUNT_AUDITED, tenant, since, list(verbs))
        return int(number)

    async def count(self) -> Counts:
        return await self._pool.run(_count)


async def _count(session: Session) -> Counts:
    async def figure(statement: str) -> int:
        ((number,),) = await session.rows(statement)
        return int(number)

    async with session.transaction(_SNAPSHOT):
        enrollments = await session.rows(COUNT_ENROLLMENTS)
        tokens = await session.rows(COUNT_TOKENS)
        return Counts(
            enrollments={(type_, state): int(number) for type_, state, number in enrollments},
            live_commands=await figure(COUNT_LIVE),
            wakes=await figure(COUNT_WAKES),
            push_dead=await figure(COUNT_DEAD),
            alerts=await figure(COUNT_ALERTS),
            tokens={(kind, state): int(number) for kind, state, number in tokens},
        )


def _command_line(row: Row) -> CommandLine:
    (
        uuid, enrollment_id, request_type, state, queued_at, sent_at, closed_at, hand_outs,
        source, result,
    ) = row  # fmt: skip
    return CommandLine(
        uuid=unescape(uuid),
        enrollment_id=EnrollmentId(unescape(enrollment_id)),
        request_type=unescape(request_type),
        state=state,
        queued_at=queued_at,
        sent_at=sent_at,
        closed_at=closed_at,
        hand_outs=hand_outs,
        source=unescape(source),
        result=unescape_or_none(result),
    )


def _alert_line(row: Row) -> AlertLine:
    tenant, subject, kind, sentence, count, first_at, last_at = row
    return AlertLine(
        alert=Alert(
            tenant=tenant, subject=unescape(subject), kind=kind, sentence=unescape(sentence)
        ),
        count=count,
        first_at=first_at,
        last_at=last_at,
    )
