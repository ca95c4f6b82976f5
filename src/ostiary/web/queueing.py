"""What `ostiary enqueue` asks over the control socket: a command for some devices, queued or only tried."""

from collections.abc import Mapping
from typing import Any, Final

from ostiary.domain.policy import Policy
from ostiary.errors import OstiaryError
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.admin_account import account_of
from ostiary.services.caller import Caller
from ostiary.services.commands import CommandDesk, Enqueued, Rehearsal, written_command
from ostiary.services.finding import nobody
from ostiary.web import lines
from ostiary.web.asks import Fields, decoded, flag, number, text, texts
from ostiary.web.typed_commands import build_command

_ACCOUNT: Final = "account-configuration"


Meant = Mapping[str, EnrollmentId | OstiaryError]
"""Whom each name that was given means, or why that cannot be said."""
Unmeant = Mapping[EnrollmentId, tuple[str, OstiaryError]]
"""What stands for a name that means nobody, with that name, and why."""


async def queue(
    ask: Fields, meant: Meant, desk: CommandDesk, policy: Policy, caller: Caller
) -> dict[str, Any]:
    """Queue the command, or with `dry_run` say what would become of it; the results by target, in the order asked.

    Raises:
        Malformed, TooManyDestructive, and what else refuses a request as a whole: nothing was queued.
    """
    ids = [_target(meant[one], one) for one in texts(ask, "ids")]
    unmeant = {
        nobody(name): (name, one) for name, one in meant.items() if isinstance(one, OstiaryError)
    }
    confirmed = number(ask, "confirm") if ask.get("confirm") is not None else None
    command, uuid = _command(ask, policy)
    if flag(ask, "dry_run"):
        tried = await desk.rehearse(ids, command, caller, uuid=uuid, confirmed=confirmed)
        return _rehearsed(tried, unmeant)
    enqueued = await desk.enqueue(
        ids,
        command,
        caller,
        pushes=bool(ask.get("push", True)),
        uuid=uuid,
        confirmed=confirmed,
    )
    return _enqueued(enqueued, unmeant)


def _target(meant: EnrollmentId | OstiaryError, name: str) -> EnrollmentId:
    return nobody(name) if isinstance(meant, OstiaryError) else meant


def _command(ask: Fields, policy: Policy) -> tuple[Command, CommandUuid | None]:
    if "plist" in ask:
        return written_command(decoded(text(ask, "plist")))
    name = text(ask, "command")
    return (account_of(policy) if name == _ACCOUNT else build_command(name, ask)), None


def _enqueued(enqueued: Enqueued, unmeant: Unmeant) -> dict[str, Any]:
    return {
        "uuid": enqueued.uuid,
        "request_type": enqueued.request_type,
        "results": [
            {
                "id": name,
                "carries_pending_pin": enrollment_id in enqueued.pending_pins,
            }
            | lines.refusal(why)
            for enrollment_id, error in enqueued.refused.items()
            for name, why in (unmeant.get(enrollment_id, (enrollment_id, error)),)
        ],
    }


def _rehearsed(tried: Rehearsal, unmeant: Unmeant) -> dict[str, Any]:
    return {
        "request_type": tried.request_type,
        "whole": lines.refusal(tried.refused),
        "results": [
            lines.rehearsed_line(enrollment_id, target, allowed=tried.refused is None)
            | _refused(unmeant.get(enrollment_id))
            for enrollment_id, target in tried.targets.items()
        ],
    }


def _refused(unmeant: tuple[str, OstiaryError] | None) -> dict[str, Any]:
    """The name and the reason in place of what is told of a stand-in."""
    return {} if unmeant is None else {"id": unmeant[0]} | lines.refusal(unmeant[1])
