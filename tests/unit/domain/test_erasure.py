"""What is believed of a device after an erase, by what it said since. (escrowed-secrets.md 4.7, consequences 1 and 2)"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from escrow_world import DEVICE, NOON
from ostiary.domain.erasure import EraseCommand, Erasure, erasure_of

QUEUED_AT = NOON + timedelta(hours=1)
SENT_AT = NOON + timedelta(hours=2)
ANSWERED_AT = SENT_AT + timedelta(minutes=1)
QUEUED = EraseCommand(queued_at=QUEUED_AT, sent_at=None, closed_at=None, hand_outs=0)
SENT = replace(QUEUED, sent_at=SENT_AT, hand_outs=1)
ANSWERED = replace(SENT, sent_at=None, closed_at=ANSWERED_AT)


@pytest.mark.parametrize(
    ("erase", "last_seen_at", "word"),
    [
        (None, SENT_AT, None),
        (QUEUED, SENT_AT, Erasure.QUEUED),
        (replace(QUEUED, closed_at=ANSWERED_AT), ANSWERED_AT, None),
        (SENT, SENT_AT, Erasure.MAYBE),
        (SENT, SENT_AT + timedelta(minutes=1), Erasure.MAYBE),
        (SENT, SENT_AT + timedelta(minutes=10), Erasure.NOT_ERASED),
        (ANSWERED, ANSWERED_AT, Erasure.MAYBE),
        (ANSWERED, ANSWERED_AT + timedelta(minutes=2), Erasure.MAYBE),
        (ANSWERED, ANSWERED_AT + timedelta(minutes=3), Erasure.NOT_ERASED),
        (ANSWERED, None, Erasure.MAYBE),
    ],
)
def test_only_what_a_device_says_later_tells(
    erase: EraseCommand | None, last_seen_at: Any, word: Erasure | None
) -> None:
    """An answer proves neither, silence proves nothing; a cancelled one that never left did nothing."""
    assert erasure_of(replace(DEVICE, last_seen_at=last_seen_at), erase) is word


def test_who_enrolled_after_it_is_in_another_life() -> None:
    device = replace(
        DEVICE, enrolled_at=SENT_AT + timedelta(days=1), last_seen_at=SENT_AT + timedelta(days=2)
    )
    assert erasure_of(device, ANSWERED) is Erasure.ENROLLED_ANEW
