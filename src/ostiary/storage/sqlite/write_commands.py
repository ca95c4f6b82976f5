"""Writes to a channel's queue. Closed commands leave the live table, so that history never slows a poll."""

from datetime import datetime
from typing import Final

from ostiary.domain.command import ClosedCommand, LiveCommand
from ostiary.domain.decision import CancelCommands, CommandMove
from ostiary.domain.enrollment import Enrollment, EnrollmentKey
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.rows import closed_values, command_values, micros, micros_or_none
from ostiary.storage.wording import cancellation_text

ADD_COMMAND: Final = """
    INSERT INTO command (uuid, enrollment_key, request_type, priority, reference, state, queued_at,
                         source, sent_at, hand_outs, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
MOVE_COMMAND: Final = """
    UPDATE command SET state = ?, sent_at = ?, hand_outs = ? WHERE enrollment_key = ? AND uuid = ?
"""  # served by command_by_uuid
LIFT_DEFERRED: Final = """
    UPDATE command SET state = 'queued' WHERE enrollment_key = ? AND state = 'deferred'
"""  # served by command_deferred
DROP_COMMAND: Final = "DELETE FROM command WHERE enrollment_key = ? AND uuid = ?"
ADD_CLOSED: Final = """
    INSERT OR REPLACE INTO command_closed (uuid, enrollment_key, request_type, state, queued_at,
                                           closed_at, source, hand_outs, result)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
CLOSE_AS_CANCELLED: Final = """
    INSERT OR REPLACE INTO command_closed (uuid, enrollment_key, request_type, state, queued_at,
                                           closed_at, source, hand_outs, result)
    SELECT uuid, enrollment_key, request_type, 'cancelled', queued_at, ?1, source, hand_outs, ?2
      FROM command
     WHERE enrollment_key = ?3
        OR (?4 AND enrollment_key IN (SELECT key FROM enrollment WHERE parent_key = ?3))
     ORDER BY sequence
"""
DROP_CANCELLED: Final = """
    DELETE FROM command
     WHERE enrollment_key = ?1
        OR (?2 AND enrollment_key IN (SELECT key FROM enrollment WHERE parent_key = ?1))
"""


def cancel_commands(transaction: Transaction, cancel: CancelCommands, at: datetime) -> None:
    """Close as cancelled whatever of the device's queue, and its users' if asked, is live."""
    transaction.write(
        CLOSE_AS_CANCELLED,
        (micros(at), cancellation_text(cancel.cause), cancel.enrollment_key, cancel.users),
    )
    transaction.write(DROP_CANCELLED, (cancel.enrollment_key, cancel.users))


def close_command(transaction: Transaction, command: ClosedCommand) -> None:
    """Move it out of the queue into history; one that was cancelled in the same change ends as it says here."""
    transaction.write(DROP_COMMAND, (command.enrollment_key, command.uuid))
    transaction.write(ADD_CLOSED, closed_values(command))


def lift_deferred(transaction: Transaction, key: EnrollmentKey) -> None:
    """Queue every deferred command of the channel again, in its place."""
    transaction.write(LIFT_DEFERRED, (key,))


def move_command(transaction: Transaction, move: CommandMove, channel: Enrollment | None) -> None:
    """Step a command of the decision's channel to another live state.

    The channel is needed: one CommandUUID may be queued for many channels at once. (NanoMDM's enqueue)
    """
    values = (
        move.to,
        micros_or_none(move.sent_at),
        move.hand_outs,
        None if channel is None else channel.key,
        move.uuid,
    )
    if transaction.write(MOVE_COMMAND, values) != 1:
        raise ChangeDoesNotFit("no such live command on this channel", uuid=move.uuid)


def add_command(transaction: Transaction, command: LiveCommand) -> None:
    """Append it to its channel's queue."""
    transaction.write(ADD_COMMAND, command_values(command))
