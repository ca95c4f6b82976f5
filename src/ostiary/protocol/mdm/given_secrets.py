"""Secrets that stand in a command as somebody wrote it: taken out before it is queued, to be kept and filled in.

A secret in a queued command would be in no generation of the ledger: nobody could reveal it afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ostiary.errors import Malformed
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.account_commands import checked_account_configuration
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.lock_commands import require_pin
from ostiary.protocol.mdm.passwords import require_lock_password
from ostiary.secret import Secret


class GivenSecretUnreadable(Malformed):
    """A secret in the command is not what it should be: text in UTF-8, or data."""

    hint = "Passwords and PINs are strings, tokens are data; leave a PIN out, and one is drawn."


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """A command without its secrets, and the secrets by their place: `NewPassword`, `FileVaultUnlock/Password`."""

    command: Command
    secrets: Mapping[str, Secret]


def _as_it_is(secret: Secret) -> Secret:
    return secret


def _as_text(secret: Secret) -> Secret:
    """What is typed somewhere: it goes out as a string, whatever it was written as."""
    if not _is_text(secret):
        raise GivenSecretUnreadable("a password in the command is not text in UTF-8")
    return secret


def _is_text(secret: Secret) -> bool:
    """Asked, and refused elsewhere: an error that is raised beside Python's own carries what that one holds, the secret."""
    try:
        secret.reveal().decode()
    except UnicodeDecodeError:
        return False
    return True


_CHECKS: Final[Mapping[str, Mapping[str, Callable[[Secret], Secret]]]] = MappingProxyType(
    {
        "ClearPasscode": {"UnlockToken": _as_it_is},
        "DeviceLock": {"PIN": require_pin},
        "EraseDevice": {"PIN": require_pin, "ReturnToService/BootstrapToken": _as_it_is},
        "SetRecoveryLock": {"NewPassword": require_lock_password, "CurrentPassword": _as_text},
        "VerifyRecoveryLock": {"Password": _as_text},
        "SetFirmwarePassword": {"NewPassword": require_lock_password, "CurrentPassword": _as_text},
        "VerifyFirmwarePassword": {"Password": _as_text},
        "RotateFileVaultKey": {"FileVaultUnlock/Password": _as_text},
    }
)
_ACCOUNTS: Final = "accountconfiguration"
_BY_LOWER: Final = {name.lower(): places for name, places in _CHECKS.items()}


def lift(command: Command) -> Lifted:
    """Take the secrets out of a command; what is wrong with them is said now, and not by the device.

    An empty one stays where it is: as NewPassword it clears, and elsewhere it is what somebody wants to try.

    Raises:
        GivenSecretUnreadable, UnusablePin, UnusablePassword: (FW-04)
        AdminAccountMissing: (AA-05)
    """
    name = str(command.get("RequestType", "")).lower()
    places = _BY_LOWER.get(name, {})
    checked = checked_account_configuration(command) if name == _ACCOUNTS else command
    rest: dict[str, PlistValue] = dict(checked)
    secrets: dict[str, Secret] = {}
    for place, check in places.items():
        if (given := _taken(rest, place)) is not None:
            secrets[place] = check(given)
    return Lifted(command=rest, secrets=MappingProxyType(secrets))


def _taken(command: dict[str, PlistValue], place: str) -> Secret | None:
    """The secret at `place`, no longer in `command`; dictionaries on the way are copied, not changed."""
    first, slash, rest = place.partition("/")
    if first not in command:
        return None
    value = command[first]
    if slash:
        if not isinstance(value, Mapping):
            return None
        inner = dict(value)
        found = _taken(inner, rest)
        command[first] = inner
        return found
    if not isinstance(value, str | bytes):
        raise GivenSecretUnreadable(field=place)
    if not value:
        return None
    del command[first]
    # Halves of characters cannot be written; as other bytes they are told by the check of the place.
    return Secret(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)
