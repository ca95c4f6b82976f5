"""A FileVault personal recovery key as it stands in an opened envelope."""

import re
from dataclasses import dataclass
from typing import Final

from ostiary.errors import Malformed
from ostiary.secret import Secret

_ENDS: Final = b"\0\r\n"  # what writers of C strings and of lines leave behind; nobody types them
_USUAL_LOOK: Final = re.compile(rb"[A-Z0-9]{4}(?:-[A-Z0-9]{4}){5}")


class RecoveryKeyEmpty(Malformed):
    """The envelope opens, and there is no recovery key in it."""

    hint = "Keep the key that is held; ask the Mac for SecurityInfo again, or rotate its key."


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryKey:
    """What a person types at the Mac's start screen."""

    value: Secret
    looks_odd: bool
    """It is not six groups of four capitals and digits. It may work all the same: show it, and say so."""


def read_recovery_key(plaintext: bytes) -> RecoveryKey:
    """The recovery key in an envelope's content, whatever it looks like.

    Only NUL, CR and LF at its ends are no part of it.

    Raises:
        RecoveryKeyEmpty: nothing is left.

    Source: escrowed-secrets.md 4.3 (never drop a value for its look; flag it).
    """
    value = plaintext.strip(_ENDS)
    if not value:
        raise RecoveryKeyEmpty
    return RecoveryKey(value=Secret(value), looks_odd=_USUAL_LOOK.fullmatch(value) is None)
