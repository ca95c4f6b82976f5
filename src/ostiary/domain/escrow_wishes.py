"""What a person may wish of each kind of secret: to rotate, set, clear, verify it; refused in the words of that kind.

Source: escrowed-secrets.md 4.1 to 4.9: which command exists for which secret.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ostiary.domain.token import TokenKind
from ostiary.errors import Refused


class Verb(StrEnum):
    """What can be wished."""

    ROTATE = "rotate"
    SET = "set"
    CLEAR = "clear"
    VERIFY = "verify"


class CannotBeChanged(Refused):
    """No command does that to a secret of this kind."""

    hint = (
        "`token rotate`: recovery-lock, firmware-password, admin-password, filevault-key; it asks for "
        "activation-bypass-device. `token set`: the first three. `token clear`: the first two."
    )


class CannotBeVerified(Refused):
    """No command asks a device whether it holds a secret of this kind."""

    hint = "`token verify`: recovery-lock, firmware-password. `ostiary token escrow ENROLLMENT` tells what is known of the others."


class UnlockedByNothing(Refused):
    """Only a FileVault recovery key is rotated with a user's password; for this kind it would be of no use."""

    hint = "Leave --unlock-with-stdin out."


NAMES: Final[Mapping[TokenKind, str]] = MappingProxyType(
    {
        TokenKind.PUSH: "push token",
        TokenKind.UNLOCK: "unlock token",
        TokenKind.BOOTSTRAP: "bootstrap token",
        TokenKind.FILEVAULT_KEY: "FileVault recovery key",
        TokenKind.FILEVAULT_ESCROW_KEY: "FileVault escrow key",
        TokenKind.FILEVAULT_ENVELOPE: "unread FileVault recovery key",
        TokenKind.RECOVERY_LOCK: "Recovery Lock password",
        TokenKind.FIRMWARE_PASSWORD: "firmware password",
        TokenKind.ADMIN_PASSWORD: "administrator password",
        TokenKind.LOCK_PIN: "lock PIN",
        TokenKind.BYPASS_DEVICE: "Activation Lock bypass code of the device",
        TokenKind.BYPASS_SERVER: "Activation Lock bypass code of this server",
        TokenKind.IDENTITY: "identity certificate",
        TokenKind.ENROLLMENT_CHALLENGE: "enrollment challenge",
        TokenKind.API_TOKEN: "API token",
        TokenKind.PUSH_CERTIFICATE: "push certificate",
    }
)
"""Each kind in the field's words."""

_SET: Final = (TokenKind.RECOVERY_LOCK, TokenKind.FIRMWARE_PASSWORD)
ALLOWED: Final[Mapping[Verb, frozenset[TokenKind]]] = MappingProxyType(
    {
        Verb.ROTATE: frozenset(
            {
                *_SET,
                TokenKind.ADMIN_PASSWORD,
                TokenKind.FILEVAULT_KEY,
                # Devices make their codes by themselves: this asks for the one in force.
                TokenKind.BYPASS_DEVICE,
            }
        ),
        Verb.SET: frozenset({*_SET, TokenKind.ADMIN_PASSWORD}),
        Verb.CLEAR: frozenset(_SET),
        Verb.VERIFY: frozenset(_SET),
    }
)
_DONE: Final[Mapping[Verb, str]] = MappingProxyType(
    {Verb.ROTATE: "rotated", Verb.SET: "set", Verb.CLEAR: "cleared"}
)
_INSTEAD: Final[Mapping[TokenKind, str]] = MappingProxyType(
    {
        TokenKind.PUSH: "devices send it with a TokenUpdate; `ostiary push ID` tries it",
        TokenKind.UNLOCK: "the device sends it when it enrolls, and no command asks for another",
        TokenKind.BOOTSTRAP: "the Mac makes it: type `sudo profiles install -type bootstraptoken` there",
        TokenKind.FILEVAULT_KEY: "the Mac makes it; `ostiary token rotate ID filevault-key` has it make another",
        TokenKind.FILEVAULT_ESCROW_KEY: (
            "each Mac keeps the one that `ostiary filevault install` made for it, so that it opens whatever comes"
        ),
        TokenKind.FILEVAULT_ENVELOPE: (
            "it was encrypted for a key that is not held here; `ostiary token rotate ID filevault-key` has the Mac make one "
            "that can be read"
        ),
        TokenKind.ADMIN_PASSWORD: (
            "Macs can only be given another; `ostiary token rotate ID admin-password` draws one"
        ),
        TokenKind.LOCK_PIN: "each lock has its own; `ostiary enqueue ID device-lock` locks with one",
        TokenKind.BYPASS_DEVICE: (
            "the device makes it by itself; `ostiary token rotate ID activation-bypass-device` asks for the one in force"
        ),
        TokenKind.BYPASS_SERVER: "it belongs to the lock that it was made for, and ends with that",
        TokenKind.IDENTITY: "`ostiary identity renew ID` has the device fetch another",
        TokenKind.ENROLLMENT_CHALLENGE: "`ostiary enroll invite` makes another",
        TokenKind.API_TOKEN: "`ostiary api-token create NAME --replace` makes another",
        TokenKind.PUSH_CERTIFICATE: "`ostiary apns csr` and `ostiary apns import` renew it",
    }
)


def require_allowed(verb: Verb, kind: TokenKind) -> None:
    """Refuse what no command does, saying what does.

    Raises:
        CannotBeChanged, CannotBeVerified
    """
    if kind in ALLOWED[verb]:
        return
    if verb is Verb.VERIFY:
        raise CannotBeVerified(
            f"no device can be asked whether it holds the {NAMES[kind]} that is held here",
            kind=kind.value,
        )
    raise CannotBeChanged(
        f"the {NAMES[kind]} is not {_DONE[verb]} by a command: {_INSTEAD[kind]}", kind=kind.value
    )
