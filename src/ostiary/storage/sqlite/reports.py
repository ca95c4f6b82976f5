"""Lists and counts on SQLite. Last-seen may lag by what the writer still keeps in memory."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, Enrollment, EnrollmentKey
from ostiary.domain.facts import FactSheet
from ostiary.domain.token import Holder, TenantId, TokenKind, TokenRecord
from ostiary.ports.reports import AlertLine, CommandLine, Counts
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.sqlite.escrow_rows import FACT_COLUMNS, sheet_from
from ostiary.storage.sqlite.readers import Read, Readers
from ostiary.storage.sqlite.rows import (
    Row,
    binding_from,
    enrollment_from,
    micros,
    moment,
    moment_or_none,
    token_from,
    with_columns,
)

LIST_ENROLLMENTS: Final = with_columns("""
    SELECT $enrollment FROM enrollment e
     WHERE e.tenant = ?1 AND (e.id, e.key) > (?2, ?3) AND (?4 IS NULL OR e.state = ?4)
     ORDER BY e.id, e.key LIMIT ?5
""")  # served by enrollment_by_id
FIND_ENROLLMENTS: Final = with_columns("""
    SELECT $enrollment
      FROM enrollment e LEFT JOIN enrollment p ON p.key = e.parent_key
     WHERE e.key IN (SELECT key FROM enrollment WHERE tenant = ?1 AND id = ?2
                     UNION ALL
                     SELECT u.key FROM enrollment d JOIN enrollment u ON u.parent_key = d.key
                      WHERE d.tenant = ?1 AND d.id = ?2)
     ORDER BY CASE coalesce(p.standing, e.standing)
                  WHEN 'current' THEN 0 WHEN 'contested' THEN 1 ELSE 2 END,
              coalesce(p.created_at, e.created_at) DESC, coalesce(p.key, e.key),
              e.parent_key IS NOT NULL, e.id
""")  # served by enrollment_by_id and enrollment_user
FIND_BY_SERIAL: Final = with_columns("""
    SELECT $enrollment
      FROM json_each(?2) s CROSS JOIN enrollment e
     WHERE e.tenant = ?1 AND e.serial_number = s.value AND e.serial_number IS NOT NULL
       AND length(e.serial_number) <= 255 AND e.standing = 'current' AND e.parent_key IS NULL
""")  # served by enrollment_serial
LIST_PUSH_DEAD: Final = with_columns("""
    SELECT $enrollment FROM enrollment e
     WHERE e.tenant = ?1 AND e.push_dead_since IS NOT NULL AND e.key > ?2
       AND e.state IN ('enrolled', 'renewing')
     ORDER BY e.key LIMIT ?3
""")  # served by enrollment_push_dead
LIST_BINDINGS: Final = with_columns("""
    SELECT $binding
      FROM enrollment e JOIN binding b ON b.enrollment_key = e.key
     WHERE e.tenant = ? AND e.id = ?
     ORDER BY b.superseded_at IS NOT NULL, b.bound_at DESC, b.fingerprint
""")  # served by enrollment_by_id and binding_by_enrollment
LIST_LIVE: Final = """
    SELECT c.uuid, e.id, c.request_type, c.state, c.queued_at, c.sent_at, NULL, c.hand_outs,
           c.source, NULL
      FROM command c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE e.tenant = ?1 AND e.id = ?2
     ORDER BY c.state <> 'sent', c.priority, c.sequence LIMIT ?3
"""  # served by enrollment_by_id and command_by_turn
LIST_ALL_LIVE: Final = """
    SELECT c.uuid, e.id, c.request_type, c.state, c.queued_at, c.sent_at, NULL, c.hand_outs,
           c.source, NULL
      FROM command c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE e.tenant = ?1
     ORDER BY c.state <> 'sent', c.priority, c.sequence LIMIT ?2
"""  # walks through all that is queued
LIST_CLOSED: Final = """
    SELECT c.uuid, e.id, c.request_type, c.state, c.queued_at, NULL, c.closed_at, c.hand_outs,
           c.source, c.result
      FROM command_closed c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE c.number IN (SELECT n.number
                          FROM enrollment o JOIN command_closed n ON n.enrollment_key = o.key
                         WHERE o.tenant = ?1 AND o.id = ?2
                         ORDER BY n.number DESC LIMIT ?3)
     ORDER BY c.number DESC
"""  # served by enrollment_by_id and command_closed_by_uuid; sorts the numbers of one device's commands, not the rows
LIST_ALL_CLOSED: Final = """
    SELECT c.uuid, e.id, c.request_type, c.state, c.queued_at, NULL, c.closed_at, c.hand_outs,
           c.source, c.result
      FROM command_closed c CROSS JOIN enrollment e ON e.key = c.enrollment_key
     WHERE e.tenant = ?1
     ORDER BY c.number DESC LIMIT ?2
"""  # CROSS JOIN keeps the order of tables: newest first by the primary key, until the limit
LIST_TOKENS: Final = with_columns("""
    SELECT $public_token FROM token t
     WHERE +t.tenant = ?1 AND t.id > ?2
       AND (NOT ?3 OR t.state NOT IN ('superseded', 'retired', 'revoked'))
     ORDER BY t.id LIMIT ?4
""")  # served by the primary key; without the + SQLite would sort the tenant's whole ledger for each page
LIST_TOKENS_OF_KIND: Final = with_columns("""
    SELECT $public_token FROM token t
     WHERE +t.tenant = ?1 AND t.id > ?2 AND t.kind = ?5
       AND (NOT ?3 OR t.state NOT IN ('superseded', 'retired', 'revoked'))
     ORDER BY t.id LIMIT ?4
""")  # served by the primary key: a kind that devices bring is never far
LIST_TOKENS_OF_RARE_KIND: Final = with_columns("""
    SELECT $public_token FROM token t
     WHERE t.tenant = ?1 AND t.id > ?2 AND t.kind = ?5
       AND t.kind <> 'push' AND t.kind <> 'unlock' AND t.kind <> 'bootstrap'
       AND t.kind <> 'identity'
       AND (NOT ?3 OR t.state NOT IN ('superseded', 'retired', 'revoked'))
     ORDER BY t.id LIMIT ?4
""")  # served by token_rare_kind
TOKEN_HISTORY: Final = with_columns("""
    SELECT $public_token FROM token t WHERE t.tenant = ?1 AND t.holder = ?2
     UNION ALL
    SELECT $public_token FROM token t
     WHERE t.tenant = ?1 AND t.holder > ?2 || ':' AND t.holder < ?2 || ';'
     ORDER BY holder, kind, generation
""")  # served by token_generation; with OR it would walk the tenant's whole ledger. A user channel's id is the device's, a colon, the user
NEWEST_TOKENS: Final = with_columns("""
    SELECT $public_token
      FROM json_each(?3) h CROSS JOIN token t
     WHERE t.tenant = ?1 AND t.holder = h.value AND t.kind = ?2
       AND t.generation = (SELECT max(n.generation) FROM token n
                            WHERE n.tenant = ?1 AND n.holder = h.value AND n.kind = ?2)
""")  # served by token_generation
COUNT_AUDITED: Final = """
    SELECT count(*) FROM audit
     WHERE tenant = ?1 AND at >= ?2 AND lower(verb) IN (SELECT value FROM json_each(?3))
"""  # served by audit_by_time alone
LIST_FACTS: Final = f"""
    SELECT {", ".join(FACT_COLUMNS)} FROM fact
     WHERE enrollment_key IN (SELECT value FROM json_each(?))
"""  # noqa: S608 - made of constants; served by the primary key
LIST_ALERTS: Final = """
    SELECT tenant, subject, kind, sentence, count, first_at, last_at FROM alert
     WHERE +tenant = ? ORDER BY last_at DESC, subject, kind LIMIT ?
"""  # served by alert_by_last; without the + SQLite would sort all of the tenant's
COUNT_ENROLLMENTS: Final = "SELECT type, state, number FROM enrollment_count WHERE number > 0"
COUNT_TOKENS: Final = "SELECT kind, state, number FROM token_count WHERE number > 0"
COUNT_LIVE: Final = "SELECT count(*) FROM command"
COUNT_WAKES: Final = "SELECT count(*) FROM wake"
COUNT_DEAD: Final = "SELECT count(*) FROM enrollment WHERE push_dead_since IS NOT NULL"
COUNT_ALERTS: Final = "SELECT count(*) FROM alert"

_COMMON: Final = frozenset(
    {TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP, TokenKind.IDENTITY}
)
"""The kinds that the index token_rare_kind leaves out."""


class SqliteReports:
    """Lists and counts over read-only connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def list_enrollments(
        self, tenant: TenantId, *, state: str | None, limit: int, after: str | None
    ) -> tuple[Enrollment, ...]:
        # The key has no slash; an id may.
        last_id, _, last_key = (after or "").rpartition("/")
        rows = await self._rows(LIST_ENROLLMENTS, tenant, last_id, last_key, state, limit)
        return tuple(enrollment_from(row) for row in rows)

    async def find_enrollments(
        self, tenant: TenantId, enrollment_id: EnrollmentId
    ) -> tuple[Enrollment, ...]:
        rows = await self._rows(FIND_ENROLLMENTS, tenant, enrollment_id)
        return tuple(enrollment_from(row) for row in rows)

    async def find_by_serial(
        self, tenant: TenantId, serials: Collection[str]
    ) -> tuple[Enrollment, ...]:
        rows = await self._rows(FIND_BY_SERIAL, tenant, json.dumps(sorted(set(serials))))
        return tuple(enrollment_from(row) for row in rows)

    async def list_push_dead(
        self, tenant: TenantId, *, limit: int, after: str | None
    ) -> tuple[Enrollment, ...]:
        rows = await self._rows(LIST_PUSH_DEAD, tenant, after or "", limit)
        return tuple(enrollment_from(row) for row in rows)

    async def list_bindings(
        self, tenant: TenantId, enrollment_id: EnrollmentId
    ) -> tuple[Binding, ...]:
        rows = await self._rows(LIST_BINDINGS, tenant, enrollment_id)
        return tuple(binding_from(row) for row in rows)

    async def list_commands(
        self, tenant: TenantId, enrollment_id: EnrollmentId | None, *, live_only: bool, limit: int
    ) -> tuple[CommandLine, ...]:
        def work(read: Read) -> list[Row]:
            if enrollment_id is None:
                rows = read(LIST_ALL_LIVE, (tenant, limit)).fetchall()
            else:
                rows = read(LIST_LIVE, (tenant, enrollment_id, limit)).fetchall()
            left = 0 if live_only else limit - len(rows)
            if left and enrollment_id is None:
                rows += read(LIST_ALL_CLOSED, (tenant, left)).fetchall()
            elif left:
                rows += read(LIST_CLOSED, (tenant, enrollment_id, left)).fetchall()
            return rows

        return tuple(_command_line(row) for row in await self._readers.run(work))

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
            rows = await self._rows(LIST_TOKENS, *values)
        else:
            statement = LIST_TOKENS_OF_KIND if kind in _COMMON else LIST_TOKENS_OF_RARE_KIND
            rows = await self._rows(statement, *values, kind.value)
        return tuple(token_from(row) for row in rows)

    async def token_history(self, tenant: TenantId, holder: Holder) -> tuple[TokenRecord, ...]:
        rows = await self._rows(TOKEN_HISTORY, tenant, holder)
        return tuple(token_from(row) for row in rows)

    async def newest_tokens(
        self, tenant: TenantId, kind: TokenKind, holders: Sequence[Holder]
    ) -> tuple[TokenRecord, ...]:
        rows = await self._rows(NEWEST_TOKENS, tenant, kind.value, json.dumps(holders))
        return tuple(token_from(row) for row in rows)

    async def list_facts(self, keys: Sequence[EnrollmentKey]) -> tuple[FactSheet, ...]:
        rows = await self._rows(LIST_FACTS, json.dumps(keys))
        return tuple(sheet_from(row) for row in rows)

    async def list_alerts(self, tenant: TenantId, *, limit: int) -> tuple[AlertLine, ...]:
        """Latest first."""
        return tuple(_alert_line(row) for row in await self._rows(LIST_ALERTS, tenant, limit))

    async def count_audited(
        self, tenant: TenantId, verbs: Sequence[str], *, since: datetime
    ) -> int:
        ((number,),) = await self._rows(
            COUNT_AUDITED, tenant, micros(since), json.dumps(list(verbs))
        )
        return int(number)

    async def count(self) -> Counts:
        def work(read: Read) -> Counts:
            def figure(statement: str) -> int:
                return int(read(statement, ()).fetchone()[0])

            return Counts(
                enrollments={
                    (type_, state): number for type_, state, number in read(COUNT_ENROLLMENTS, ())
                },
                live_commands=figure(COUNT_LIVE),
                wakes=figure(COUNT_WAKES),
                push_dead=figure(COUNT_DEAD),
                alerts=figure(COUNT_ALERTS),
                tokens={(kind, state): number for kind, state, number in read(COUNT_TOKENS, ())},
            )

        return await self._readers.run(work)

    async def _rows(self, statement: str, *values: Any) -> list[Row]:
        return await self._readers.run(lambda read: read(statement, values).fetchall())


def _command_line(row: Row) -> CommandLine:
    (
        uuid, enrollment_id, request_type, state, queued_at, sent_at, closed_at, hand_outs,
        source, result,
    ) = row  # fmt: skip
    return CommandLine(
        uuid=uuid,
        enrollment_id=enrollment_id,
        request_type=request_type,
        state=state,
        queued_at=moment(queued_at),
        sent_at=moment_or_none(sent_at),
        closed_at=moment_or_none(closed_at),
        hand_outs=hand_outs,
        source=source,
        result=result,
    )


def _alert_line(row: Row) -> AlertLine:
    tenant, subject, kind, sentence, count, first_at, last_at = row
    return AlertLine(
        alert=Alert(tenant=tenant, subject=subject, kind=kind, sentence=sentence),
        count=count,
        first_at=moment(first_at),
        last_at=moment(last_at),
    )
