"""What goes by its age alone, on SQLite: the statements that find the oldest, and those that remove them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from ostiary.domain.retention import MAY_OPEN, Aged
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.readers import Read
from ostiary.storage.sqlite.rows import micros

# The lowest numbers closed first. Only the front of the queue is looked at, however long it is.
OLD_COMMANDS: Final = """
    SELECT number FROM (SELECT number, closed_at FROM command_closed ORDER BY number LIMIT ?2)
     WHERE closed_at < ?1
"""  # served by the primary key
COUNT_COMMANDS: Final = "SELECT count(*) FROM command_closed WHERE closed_at < ?1"
OLD_CANCELLED: Final = """
    SELECT number FROM (SELECT number, closed_at FROM command_closed
                         WHERE state = 'cancelled' ORDER BY number LIMIT ?2)
     WHERE closed_at < ?1
"""  # served by command_closed_cancelled
COUNT_CANCELLED: Final = """
    SELECT count(*) FROM command_closed WHERE state = 'cancelled' AND closed_at < ?1
"""
FORGET_COMMAND: Final = "DELETE FROM command_closed WHERE number = ?1"
OLD_CHALLENGES: Final = """
    SELECT id FROM challenge WHERE valid_until < ?1 ORDER BY valid_until LIMIT ?2
"""  # served by challenge_by_end
FORGET_CHALLENGE: Final = "DELETE FROM challenge WHERE id = ?1"
FORGET_CHALLENGE_RECORD: Final = """
    DELETE FROM token WHERE id = ?1 AND kind = 'enrollment-challenge'
"""  # served by the primary key
OLD_INVITATIONS: Final = """
    SELECT id FROM invitation i
     WHERE valid_until < ?1
       AND NOT EXISTS (SELECT 1 FROM challenge c WHERE c.invitation_id = i.id)
     ORDER BY valid_until LIMIT ?2
"""  # served by invitation_by_end and challenge_of_invitation
FORGET_INVITATION: Final = "DELETE FROM invitation WHERE id = ?1"
OLD_CREDENTIALS: Final = """
    SELECT fingerprint FROM credential WHERE not_after < ?1 ORDER BY not_after LIMIT ?2
"""  # served by credential_by_end
FORGET_CREDENTIAL: Final = "DELETE FROM credential WHERE fingerprint = ?1"
OLD_BINDINGS: Final = """
    SELECT fingerprint FROM binding
     WHERE superseded_at IS NOT NULL AND not_after < ?1 ORDER BY not_after LIMIT ?2
"""  # served by binding_superseded
FORGET_BINDING: Final = "DELETE FROM binding WHERE fingerprint = ?1 AND superseded_at IS NOT NULL"
OLD_ALERTS: Final = """
    SELECT tenant, subject, kind FROM alert WHERE last_at < ?1 ORDER BY last_at LIMIT ?2
"""  # served by alert_by_last
FORGET_ALERT: Final = "DELETE FROM alert WHERE tenant = ?1 AND subject = ?2 AND kind = ?3"
CROWDED_ALERTS: Final = """
    SELECT tenant, subject, kind
      FROM (SELECT tenant, subject, kind,
                   row_number() OVER (PARTITION BY tenant, kind ORDER BY last_at DESC, subject) AS place
              FROM alert)
     WHERE place > ? LIMIT ?
"""  # all alerts, in a reader's thread
_MAY_OPEN: Final = ", ".join(f"'{kind}'" for kind in sorted(MAY_OPEN))
# Never while a certificate of it is valid, nor where a secret came that may still open the device.
OLD_RELATIONSHIPS: Final = f"""
    SELECT e.key FROM enrollment e
     WHERE e.standing = 'ended' AND e.parent_key IS NULL
       AND coalesce(e.last_seen_at, e.authenticated_at) < ?1
       AND NOT EXISTS (SELECT 1 FROM binding b WHERE b.enrollment_key = e.key AND b.not_after >= ?1)
       AND NOT EXISTS (SELECT 1 FROM token t
                        WHERE t.tenant = e.tenant AND t.holder = e.id
                          AND t.kind IN ({_MAY_OPEN}) AND t.relationship = e.key)
     ORDER BY e.key LIMIT ?2
"""  # noqa: S608 - made of constants; served by enrollment_ended, binding_by_enrollment and token_generation
FORGET_RECORDS: Final = """
    DELETE FROM token
     WHERE id IN (SELECT t.id FROM enrollment e
                    JOIN token t ON t.tenant = e.tenant AND t.holder = e.id
                   WHERE (e.key = ?1 OR e.parent_key = ?1) AND t.relationship = e.key)
"""  # served by the primary keys, enrollment_user and token_generation
FORGET_CLOSED: Final = """
    DELETE FROM command_closed
     WHERE enrollment_key IN (SELECT key FROM enrollment WHERE key = ?1 OR parent_key = ?1)
"""
FORGET_LIVE: Final = """
    DELETE FROM command
     WHERE enrollment_key IN (SELECT key FROM enrollment WHERE key = ?1 OR parent_key = ?1)
"""
FORGET_WAKES: Final = """
    DELETE FROM wake
     WHERE enrollment_key IN (SELECT key FROM enrollment WHERE key = ?1 OR parent_key = ?1)
"""
FORGET_SHEETS: Final = """
    DELETE FROM fact
     WHERE enrollment_key IN (SELECT key FROM enrollment WHERE key = ?1 OR parent_key = ?1)
"""
FORGET_BOUND: Final = "DELETE FROM binding WHERE enrollment_key = ?1"
FORGET_USERS: Final = "DELETE FROM enrollment WHERE parent_key = ?1"
FORGET_RELATIONSHIP: Final = "DELETE FROM enrollment WHERE key = ?1"

_MOST_RELATIONSHIPS: Final = 10
"""At once: each may have users and a history."""
_EVERYTHING: Final = -1


@dataclass(frozen=True, slots=True)
class _Statements:
    find: str
    drop: tuple[str, ...]
    """In this order, each with what `find` gave."""
    count: str | None = None
    """None: `find` without its limit is counted."""


STATEMENTS: Final[Mapping[Aged, _Statements]] = MappingProxyType(
    {
        Aged.ENDED_COMMANDS: _Statements(OLD_COMMANDS, (FORGET_COMMAND,), COUNT_COMMANDS),
        Aged.CANCELLED_COMMANDS: _Statements(OLD_CANCELLED, (FORGET_COMMAND,), COUNT_CANCELLED),
        Aged.CHALLENGES: _Statements(OLD_CHALLENGES, (FORGET_CHALLENGE_RECORD, FORGET_CHALLENGE)),
        Aged.INVITATIONS: _Statements(OLD_INVITATIONS, (FORGET_INVITATION,)),
        Aged.CREDENTIALS: _Statements(OLD_CREDENTIALS, (FORGET_CREDENTIAL,)),
        Aged.BINDINGS: _Statements(OLD_BINDINGS, (FORGET_BINDING,)),
        Aged.ALERTS: _Statements(OLD_ALERTS, (FORGET_ALERT,)),
        Aged.RELATIONSHIPS: _Statements(
            OLD_RELATIONSHIPS,
            (
                FORGET_RECORDS,
                FORGET_CLOSED,
                FORGET_LIVE,
                FORGET_WAKES,
                FORGET_SHEETS,
                FORGET_BOUND,
                FORGET_USERS,
                FORGET_RELATIONSHIP,
            ),
        ),
    }
)


def drop_aged(transaction: Transaction, records: Aged, before: datetime, limit: int) -> int:
    """Remove the oldest, at most `limit`; how many."""
    statements = STATEMENTS[records]
    most = min(limit, _MOST_RELATIONSHIPS) if records is Aged.RELATIONSHIPS else limit
    found = transaction.read(statements.find, (micros(before), most)).fetchall()
    for place in found:
        for statement in statements.drop:
            transaction.write(statement, tuple(place))
    return len(found)


def count_aged(read: Read, records: Aged, before: datetime) -> int:
    """How many there are."""
    statements, values = STATEMENTS[records], (micros(before),)
    if statements.count is not None:
        return int(read(statements.count, values).fetchone()[0])
    counting = f"SELECT count(*) FROM ({statements.find})"  # noqa: S608 - made of constants
    return int(read(counting, (*values, _EVERYTHING)).fetchone()[0])
