"""What `ostiary enqueue` asks over the control socket: a command for some devices, queued or only tried."""

from typing import Any, Final

from ostiary.domain.policy import Policy
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.admin_account import account_of
from ostiary.services.caller import Caller
from ostiary.services.commands import CommandDesk, Enqueued, Rehearsal, written_command
from ostiary.web import lines
from ostiary.web.asks import Fields, decoded, flag, number, text, texts
from ostiary.web.typed_commands import build_command

_ACCOUNT: Final = "account-configuration"


async def queue(ask: Fields, desk: CommandDesk, policy: Policy, caller: Caller) -> dict[str, Any]:
    """Queue the command, or with `dry_run` say what would become of it; the results by target, in the order asked.

    Raises:
        Malformed, TooManyDestructive, and what else refuses a request as a whole: nothing was queued.
    """
    ids = [EnrollmentId(one) for one in texts(ask, "ids")]
    confirmed = number(ask, "confirm") if ask.get("confirm") is not None else None
    command, uuid = _command(ask, policy)
    if flag(ask, "dry_run"):
        tried = await desk.rehearse(ids, command, caller, uuid=uuid, confirmed=confirmed)
        return _rehearsed(tried)
    enqueued = await desk.enqueue(
        ids,
        command,
        caller,
        pushes=bool(ask.get("push", True)),
        uuid=uuid,
        confirmed=confirmed,
    )
    return _enqueued(enqueued)


def _command(ask: Fields, policy: Policy) -> tuple[Command, CommandUuid | None]:
    if "plist" in ask:
        return written_command(decoded(text(ask, "plist")))
    name = text(ask, "command")
    return (account_of(policy) if name == _ACCOUNT else build_command(name, ask)), None


def _enqueued(enqueued: Enqueued) -> dict[str, Any]:
    return {
        "uuid": enqueued.uuid,
        "request_type": enqueued.request_type,
        "results": [
            {"id": enrollment_id} | lines.refusal(error)
            for enrollment_id, error in enqueued.refused.items()
        ],
    }


def _rehearsed(tried: Rehearsal) -> dict[str, Any]:
    return {
        "request_type": tried.request_type,
        "whole": lines.refusal(tried.refused),
        "results": [
            lines.rehearsed_line(enrollment_id, target, allowed=tried.refused is None)
            for enrollment_id, target in tried.targets.items()
        ],
    }
