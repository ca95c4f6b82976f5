"""Writes to a channel's queue. Closed commands leave the live table, so that history never slows a poll."""

from datetime import datetime
from typing import Final

from ostiary.domain.command import ClosedCommand, LiveCommand
from ostiary.domain.decision import CancelCommands, CommandMove
from ostiary.domain.enrollment import Enrollment, EnrollmentKey
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.rows import closed_values, command_values
from ostiary.storage.postgres.session import Session
from ostiary.storage.wording import cancellation_text

# No foreign key stands behind these tables: what is inserted proves by itself that its row exists.
ADD_COMMAND: Final = """
    INSERT INTO command (uuid, enrollment_key, request_type, priority, reference, state, queued_at,
                         source, sent_at, hand_outs, payload)
    SELECT $1, e.key, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM enrollment e WHERE e.key = $2
"""  # served by the primary key
MOVE_COMMAND: Final = """
    UPDATE command SET state = $1, sent_at = $2, hand_outs = $3
     WHERE enrollment_key = $4 AND uuid = $5
"""  # served by the primary key
LIFT_DEFERRED: Final = """
    UPDATE command SET state = 'queued' WHERE enrollment_key = $1 AND state = 'deferred'
"""  # served by command_deferred
DROP_COMMAND: Final = "DELETE FROM command WHERE enrollment_key = $1 AND uuid = $2"
REPLACE_CLOSED: Final = """
    ON CONFLICT (enrollment_key, uuid) DO UPDATE
       SET number = DEFAULT, request_type = excluded.request_type, state = excluded.state,
           queued_at = excluded.queued_at, closed_at = excluded.closed_at,
           source = excluded.source, hand_outs = excluded.hand_outs, result = excluded.result
"""
ADD_CLOSED: Final = f"""
    INSERT INTO command_closed (uuid, enrollment_key, request_type, state, queued_at, closed_at,
                                source, hand_outs, result)
    SELECT $1, e.key, $3, $4, $5, $6, $7, $8, $9 FROM enrollment e WHERE e.key = $2
    {REPLACE_CLOSED}
"""  # noqa: S608 - made of constants; served by the primary keys
CLOSE_AS_CANCELLED: Final = f"""
    WITH gone AS (
        DELETE FROM command
         WHERE enrollment_key = ANY(ARRAY(
                   SELECT $3::text
                    UNION ALL
                   SELECT key FROM enrollment WHERE $4::boolean AND parent_key = $3::text))
        RETURNING *
    )
    INSERT INTO command_closed (uuid, enrollment_key, request_type, state, queued_at, closed_at,
                                source, hand_outs, result)
    SELECT uuid, enrollment_key, request_type, 'cancelled', queued_at, $1, source, hand_outs, $2
      FROM gone ORDER BY sequence
    {REPLACE_CLOSED}
"""  # noqa: S608 - made of constants; served by enrollment_user and the primary keys


async def cancel_commands(session: Session, cancel: CancelCommands, at: datetime) -> None:
    """Close as cancelled whatever of the device's queue, and its users' if asked, is live."""
    text = cancellation_text(cancel.cause)
    await session.run(CLOSE_AS_CANCELLED, at, text, cancel.enrollment_key, cancel.users)


async def close_command(session: Session, command: ClosedCommand) -> None:
    """Move it out of the queue into history; one that was cancelled in the same change ends as it says here."""
    await session.run(DROP_COMMAND, command.enrollment_key, command.uuid)
    if await session.run(ADD_CLOSED, *closed_values(command)) != 1:
        raise ChangeDoesNotFit("no such row", enrollment_key=command.enrollment_key)


async def lift_deferred(session: Session, key: EnrollmentKey) -> None:
    """Queue every deferred command of the channel again, in its place."""
    await session.run(LIFT_DEFERRED, key)


async def move_command(session: Session, move: CommandMove, channel: Enrollment | None) -> None:
    """Step a command of the decision's channel to another live state.

    The channel is needed: one CommandUUID may be queued for many channels at once. (NanoMDM's enqueue)
    """
    key = None if channel is None else channel.key
    values = (move.to, move.sent_at, move.hand_outs, key, move.uuid)
    if await session.run(MOVE_COMMAND, *values) != 1:
        raise ChangeDoesNotFit("no such live command on this channel", uuid=move.uuid)


async def add_command(session: Session, command: LiveCommand) -> None:
    """Append it to its channel's queue."""
    if await session.run(ADD_COMMAND, *command_values(command)) != 1:
        raise ChangeDoesNotFit("no such row", enrollment_key=command.enrollment_key)
