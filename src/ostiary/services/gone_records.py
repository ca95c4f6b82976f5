"""What a device says is booked whatever the ledger has lost: it would repeat it for ever, and hand over nothing new."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from ostiary.domain.decision import Ask, Change, Snapshot
from ostiary.domain.gone_records import records_needed, without_records
from ostiary.domain.token import RecordId
from ostiary.errors import Conflicting
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.connect import CommandUuid

AnswerT = TypeVar("AnswerT")

log = structlog.get_logger()


async def decide_whatever_is_gone(
    enrollments: Enrollments,
    ask: Ask,
    rule: Callable[[Snapshot], Change[AnswerT]],
    *,
    uuid: CommandUuid | None = None,
) -> Change[AnswerT]:
    """Decide; where the change speaks of records that the database has lost, all else of it is stored, with an alert.

    `uuid` is the command that was answered. Raises what the rule and the storage raise.
    """
    wanted: list[Change[AnswerT]] = []

    def noted(seen: Snapshot) -> Change[AnswerT]:
        wanted[:] = [rule(seen)]
        return wanted[0]

    try:
        return await enrollments.decide(ask, noted)
    except Conflicting:
        gone = await _gone(enrollments, wanted)
        if not gone:
            raise
    log.error("secret_records_gone", record_ids=sorted(gone), command_uuid=uuid)

    def rest(seen: Snapshot) -> Change[AnswerT]:
        change = rule(seen)
        return change if seen.device is None else without_records(change, gone, seen.device, uuid)

    return await enrollments.decide(ask, rest)


async def _gone(enrollments: Enrollments, wanted: Sequence[Change[AnswerT]]) -> frozenset[RecordId]:
    """The records of a change that did not fit which are in the ledger no more; none if the rule refused."""
    needed = frozenset[RecordId]().union(*(records_needed(change) for change in wanted))
    lost = [one for one in needed if await enrollments.load_record(one) is None]
    return frozenset(lost)
