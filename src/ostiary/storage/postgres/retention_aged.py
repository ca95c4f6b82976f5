"""What goes by its age alone, on PostgreSQL: the statements that find the oldest, and those that remove them.

Rows that somebody else is at are passed over; they are as old the next time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from ostiary.domain.retention import MAY_OPEN, Aged
from ostiary.storage.postgres.session import Row, Session
from ostiary.storage.postgres.text import unescape

# The lowest numbers closed first. Only the front of the queue is looked at, however long it is.
OLD_COMMANDS: Final = """
    SELECT number FROM (SELECT number, closed_at FROM command_closed ORDER BY number LIMIT $2) c
     WHERE closed_at < $1
"""  # served by command_closed_by_number
COUNT_COMMANDS: Final = "SELECT count(*) FROM command_closed WHERE closed_at < $1"
OLD_CANCELLED: Final = """
    SELECT number FROM (SELECT number, closed_at FROM command_closed
                         WHERE state = 'cancelled' ORDER BY number LIMIT $2) c
     WHERE closed_at < $1
"""  # served by command_closed_cancelled
COUNT_CANCELLED: Final = """
    SELECT count(*) FROM command_closed WHERE state = 'cancelled' AND closed_at < $1
"""
FORGET_COMMANDS: Final = "DELETE FROM command_closed WHERE number = ANY($1::bigint[])"
OLD_CHALLENGES: Final = """
    SELECT id FROM challenge WHERE valid_until < $1 ORDER BY valid_until LIMIT $2
"""  # served by challenge_by_end
FORGET_CHALLENGES: Final = "DELETE FROM challenge WHERE id = ANY($1::text[])"
FORGET_CHALLENGE_RECORDS: Final = """
    DELETE FROM token WHERE id = ANY($1::text[]) AND kind = 'enrollment-challenge'
"""  # served by the primary key
OLD_INVITATIONS: Final = """
    SELECT id FROM invitation i
     WHERE valid_until < $1
       AND NOT EXISTS (SELECT FROM challenge c WHERE c.invitation_id = i.id)
     ORDER BY valid_until LIMIT $2
"""  # served by invitation_by_end and challenge_of_invitation
FORGET_INVITATIONS: Final = "DELETE FROM invitation WHERE id = ANY($1::text[])"
OLD_CREDENTIALS: Final = """
    SELECT fingerprint FROM credential WHERE not_after < $1 ORDER BY not_after LIMIT $2
"""  # served by credential_by_end
FORGET_CREDENTIALS: Final = "DELETE FROM credential WHERE fingerprint = ANY($1::text[])"
OLD_BINDINGS: Final = """
    SELECT fingerprint FROM binding
     WHERE superseded_at IS NOT NULL AND not_after < $1 ORDER BY not_after LIMIT $2
       FOR UPDATE SKIP LOCKED
"""  # served by binding_superseded
FORGET_BINDINGS: Final = "DELETE FROM binding WHERE fingerprint = ANY($1::text[])"
OLD_ALERTS: Final = """
    SELECT tenant, subject, kind FROM alert
     WHERE last_at < $1 ORDER BY last_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""  # served by alert_by_last
FORGET_ALERT: Final = "DELETE FROM alert WHERE tenant = $1 AND subject = $2 AND kind = $3"
CROWDED_ALERTS: Final = """
    SELECT tenant, subject, kind
      FROM (SELECT tenant, subject, kind,
                   row_number() OVER (PARTITION BY tenant, kind ORDER BY last_at DESC, subject) AS place
              FROM alert) a
     WHERE place > $1 LIMIT $2
"""  # all alerts, over a connection for reports
_MAY_OPEN: Final = ",".join(sorted(MAY_OPEN))
# Never while a certificate of it is valid, nor where a secret came that may still open the device.
OLD_RELATIONSHIPS: Final = f"""
    SELECT e.key FROM enrollment e
     WHERE e.standing = 'ended' AND e.parent_key IS NULL
       AND coalesce(e.last_seen_at, e.authenticated_at) < $1
       AND NOT EXISTS (SELECT FROM binding b WHERE b.enrollment_key = e.key AND b.not_after >= $1)
       AND NOT EXISTS (SELECT FROM token t
                        WHERE t.tenant = e.tenant AND t.holder = e.id
                          AND t.kind = ANY('{{{_MAY_OPEN}}}'::text[]) AND t.relationship = e.key)
     ORDER BY e.key LIMIT $2 FOR UPDATE OF e SKIP LOCKED
"""  # noqa: S608 - made of constants; served by enrollment_ended, binding_by_enrollment and token_generation
USERS_OF: Final = """
    SELECT key FROM enrollment WHERE parent_key = ANY($1::text[]) FOR UPDATE
"""  # served by enrollment_user
FORGET_RECORDS: Final = """
    DELETE FROM token
     WHERE id IN (SELECT t.id FROM enrollment e
                    JOIN token t ON t.tenant = e.tenant AND t.holder = e.id
                   WHERE e.key = ANY($1::text[]) AND t.relationship = e.key)
"""  # served by the primary keys and token_generation
FORGET_CLOSED: Final = "DELETE FROM command_closed WHERE enrollment_key = ANY($1::text[])"
FORGET_LIVE: Final = "DELETE FROM command WHERE enrollment_key = ANY($1::text[])"
FORGET_WAKES: Final = "DELETE FROM wake WHERE enrollment_key = ANY($1::text[])"
FORGET_SHEETS: Final = "DELETE FROM fact WHERE enrollment_key = ANY($1::text[])"
FORGET_BOUND: Final = "DELETE FROM binding WHERE enrollment_key = ANY($1::text[])"
FORGET_ROWS: Final = "DELETE FROM enrollment WHERE key = ANY($1::text[])"

_MOST_RELATIONSHIPS: Final = 10
"""At once: each may have users and a history."""
_COUNTED: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Statements:
    find: str
    drop: tuple[str, ...] = ()
    """In this order, each with all that `find` gave."""
    count: str | None = None
    """None: `find` is counted."""


STATEMENTS: Final[Mapping[Aged, _Statements]] = MappingProxyType(
    {
        Aged.ENDED_COMMANDS: _Statements(OLD_COMMANDS, (FORGET_COMMANDS,), COUNT_COMMANDS),
        Aged.CANCELLED_COMMANDS: _Statements(OLD_CANCELLED, (FORGET_COMMANDS,), COUNT_CANCELLED),
        Aged.CHALLENGES: _Statements(OLD_CHALLENGES, (FORGET_CHALLENGE_RECORDS, FORGET_CHALLENGES)),
        Aged.INVITATIONS: _Statements(OLD_INVITATIONS, (FORGET_INVITATIONS,)),
        Aged.CREDENTIALS: _Statements(OLD_CREDENTIALS, (FORGET_CREDENTIALS,)),
        Aged.BINDINGS: _Statements(OLD_BINDINGS, (FORGET_BINDINGS,)),
        Aged.ALERTS: _Statements(OLD_ALERTS),
        Aged.RELATIONSHIPS: _Statements(
            OLD_RELATIONSHIPS,
            (
                FORGET_RECORDS,
                FORGET_CLOSED,
                FORGET_LIVE,
                FORGET_WAKES,
                FORGET_SHEETS,
                FORGET_BOUND,
                FORGET_ROWS,
            ),
        ),
    }
)


async def drop_aged(session: Session, records: Aged, before: datetime, limit: int) -> int:
    """Remove the oldest, at most `limit`; how many."""
    statements = STATEMENTS[records]
    if records is Aged.ALERTS:
        return await _drop_alerts(session, before, limit)
    if records is Aged.RELATIONSHIPS:
        return await _drop_relationships(session, before, min(limit, _MOST_RELATIONSHIPS))
    found = [place for (place,) in await session.rows(statements.find, before, limit)]
    if found:
        for statement in statements.drop:
            await session.run(statement, found)
    return len(found)


async def count_aged(session: Session, records: Aged, before: datetime) -> int:
    """How many there are."""
    statements = STATEMENTS[records]
    if statements.count is not None:
        ((number,),) = await session.rows(statements.count, before)
        return int(number)
    find = statements.find.partition("FOR UPDATE")[0]
    counting = f"SELECT count(*) FROM ({find}) found"  # noqa: S608 - made of constants
    ((number,),) = await session.rows(counting, before, _COUNTED)
    return int(number)


async def _drop_alerts(session: Session, before: datetime, limit: int) -> int:
    return await forget_alerts(session, await session.rows(OLD_ALERTS, before, limit))


async def forget_alerts(session: Session, found: Sequence[Row]) -> int:
    """Remove alerts, as one of the statements above found them."""
    for tenant, subject, kind in found:
        # A statement's values are escaped; what was read is so already.
        await session.run(FORGET_ALERT, tenant, unescape(subject), kind)
    return len(found)


async def _drop_relationships(session: Session, before: datetime, limit: int) -> int:
    """With its users; a certificate's binding refers to it, so it goes last."""
    keys = [key for (key,) in await session.rows(OLD_RELATIONSHIPS, before, limit)]
    if not keys:
        return 0
    users = [key for (key,) in await session.rows(USERS_OF, keys)]
    for statement in STATEMENTS[Aged.RELATIONSHIPS].drop:
        await session.run(statement, [*users, *keys])
    return len(keys)
