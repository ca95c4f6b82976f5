"""Ids in commands to copy: a shell reads each as one word, and the program none as an option."""

import shlex

import pytest

from conformance.storage_values import device, escrow, fingerprint
from ostiary.domain import alerts
from ostiary.domain.secret_shell import as_arguments
from ostiary.domain.token import Holder, TokenKind
from ostiary.protocol.mdm.identity import EnrollmentId


@pytest.mark.parametrize("name", ["4C0E7700-1", "a b", "$(reboot)", "it's", "-", "--confirm=9"])
def test_a_shell_reads_an_id_as_one_word(name: str) -> None:
    """Devices choose their ids."""
    *ending, word = shlex.split(as_arguments(name))
    assert word == name
    assert ending == (["--"] if name.startswith("-") else [])


def test_one_id_that_looks_like_an_option_puts_all_of_them_behind_two_dashes() -> None:
    assert as_arguments("A", "--dry-run") == "-- A --dry-run"
    assert as_arguments("A", "B-C") == "A B-C"


@pytest.mark.parametrize("name", ["--dry-run", "$(reboot) 1"])
def test_the_commands_that_alerts_tell_name_the_device_and_nothing_else(name: str) -> None:
    """Whoever holds a certificate chooses the id that stands in the alert about it."""
    row = device(1, id=EnrollmentId(name))
    told = (
        alerts.contested(row.id, row.tenant, fingerprint(1)),
        alerts.not_paired(row.tenant, row.id, fingerprint(1)),
        alerts.value_returned(row.tenant, Holder(row.id), TokenKind.UNLOCK),
        alerts.destructive_withheld(row, "EraseDevice", "why"),
        alerts.secret_records_gone(row, None),
        alerts.secret_uncertain(row, escrow(1)),
        alerts.secret_told_too_often(row, TokenKind.BYPASS_DEVICE),
        alerts.envelope_unreadable(row),
        alerts.bootstrap_read(row, "why"),
    )
    for one in told:
        commands = [part for part in one.sentence.split("`")[1::2] if part.startswith("ostiary")]
        assert commands, one.kind
        assert all(as_arguments(name) in command for command in commands), one.sentence
        assert one.sentence.count(name) == one.sentence.count(as_arguments(name))
