"""The references of a command as text: whatever they are, and what earlier versions wrote."""

import pytest

from ostiary.domain.command import Reference
from ostiary.domain.token import RecordId, TokenKind
from ostiary.storage.references import decode_references, encode_references

UNLOCK = Reference(key="UnlockToken", kind=TokenKind.UNLOCK)
LOCK = Reference(
    key="NewPassword", kind=TokenKind.RECOVERY_LOCK, record_id=RecordId("0" * 31 + "1")
)
MAYBE = Reference(key="ReturnToService/BootstrapToken", kind=TokenKind.BOOTSTRAP, optional=True)
STRANGE = Reference(key="\x00\ud800é/\ufdd0", kind=TokenKind.LOCK_PIN)


@pytest.mark.parametrize(
    "references", [(), (UNLOCK,), (LOCK,), (LOCK, MAYBE), (UNLOCK, LOCK), (STRANGE,)]
)
def test_references_come_back_as_they_were(references: tuple[Reference, ...]) -> None:
    stored = encode_references(references)
    assert decode_references(stored) == references
    assert stored is None or stored.isascii()


def test_a_command_without_references_has_no_text() -> None:
    assert encode_references(()) is None


def test_the_word_of_earlier_versions_is_read_and_still_written() -> None:
    """A node of an earlier version that runs beside us hands out what we queue, and we what it queued."""
    assert decode_references("latest-unlock") == (UNLOCK,)
    assert encode_references((UNLOCK,)) == "latest-unlock"


def test_the_text_is_as_it_was_when_it_was_first_stored() -> None:
    """Databases out there hold it."""
    assert encode_references((LOCK, MAYBE)) == (
        '[["NewPassword","recovery-lock","00000000000000000000000000000001",false],'
        '["ReturnToService/BootstrapToken","bootstrap",null,true]]'
    )
