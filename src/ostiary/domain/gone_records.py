"""A change that speaks of ledger records which the database has lost: the rest of it is booked, and somebody is told.

A report is told until it is booked, and one that could not be would hold back its channel for ever; a check-in that could not
be would lose the token that it brings. Source: check-in-and-commands.md 3.4 rules 2 and 3; escrowed-secrets.md 4.0.2 rule 4.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

from ostiary.domain import alerts
from ostiary.domain.decision import Change
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow
from ostiary.domain.token import RecordId
from ostiary.protocol.mdm.connect import CommandUuid

AnswerT = TypeVar("AnswerT")


def records_needed(change: Change[object]) -> frozenset[RecordId]:
    """The records that must be in the ledger for this change to fit."""
    moved = {step.record_id for step in change.steps} | {one.record_id for one in change.proofs}
    return frozenset(moved - {record.id for record in change.records})


def without_records(
    change: Change[AnswerT],
    gone: Collection[RecordId],
    device: Enrollment,
    uuid: CommandUuid | None,
) -> Change[AnswerT]:
    """The change without what it says of lost records, and with the alert; `uuid` is the command that was answered."""
    return replace(
        change,
        steps=tuple(step for step in change.steps if step.record_id not in gone),
        proofs=tuple(proof for proof in change.proofs if proof.record_id not in gone),
        escrows=tuple(_not_held(escrow, gone) for escrow in change.escrows),
        alerts=(*change.alerts, alerts.secret_records_gone(device, uuid)),
    )


def _not_held(escrow: Escrow, gone: Collection[RecordId]) -> Escrow:
    """A lost value is not in force for anybody: its digest would keep the same one out when it is told again.

    A candidate stays named: when the device is asked about it, that command ends and settles what it comes to.
    """
    if escrow.current not in gone:
        return escrow
    return replace(escrow, current=None, digest=None)
