"""Commands as somebody wrote them: refused where they would set what nobody keeps, or do what nobody asked for.

A secret that we do not know cannot be shown, nor the one before it be trusted; and what we read another way than
it was meant would be carried out all the same.
"""

from collections.abc import Mapping
from typing import Final

from ostiary.errors import Malformed, Refused
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.nature import spelling_of

ERASE_DEVICE: Final = "EraseDevice"
RETURN: Final = "ReturnToService"
_CLEARED_BY_EMPTY: Final = frozenset({"SetRecoveryLock", "SetFirmwarePassword"})
_DATA_OF_RETURN: Final = ("WiFiProfileData", "MDMProfileData", "BootstrapToken")


class MisspelledRequestType(Malformed):
    """Apple writes this RequestType with other capitals, and devices read them exactly."""

    hint = "Write it as `meant` says."


class PasswordNotKnownHere(Refused):
    """The command sets an administrator's password by its hash: the password could never be shown to anybody."""

    hint = (
        "`ostiary token set ID admin-password` sets one and keeps it. For a Mac in Setup Assistant leave passwordHash "
        "out, or ask with `ostiary enqueue ID account-configuration`: a password is drawn, and kept."
    )


class AccountsUnreadable(Malformed):
    """AutoSetupAdminAccounts is not a list of dictionaries, or a passwordHash in it is not data."""


class NotAPersonalKey(Refused):
    """Only personal recovery keys are escrowed here; a rotation of another KeyType would be kept by nobody."""

    hint = (
        "KeyType is personal. An institutional key is yours: change it at the Mac, or by a profile."
    )


class NewPasswordMissing(Malformed):
    """The command says neither which password to set nor that it is to be taken away."""

    hint = (
        "`ostiary token rotate ID KIND` draws one, `ostiary token set ID KIND` takes yours, `ostiary token clear ID KIND` "
        "takes it away; in a property list an empty NewPassword takes it away."
    )


class ReturnToServiceUnreadable(Malformed):
    """ReturnToService is a dictionary whose Enabled is true or false, and whose profiles and token are data."""

    hint = "A device that read it otherwise than we do would be erased and not come back."


def require_sound(command: Command) -> None:
    """Refuse a command that would be read in two ways, or whose secret nobody would hold afterwards.

    Raises:
        MisspelledRequestType
        PasswordNotKnownHere, AccountsUnreadable: (4.8)
        NotAPersonalKey: (4.3)
        NewPasswordMissing: (4.4, 4.5: NewPassword is required, and empty clears)
        ReturnToServiceUnreadable: (4.7)
    """
    name = str(command.get("RequestType", ""))
    if (meant := spelling_of(name)) not in (None, name):
        raise MisspelledRequestType(written=name, meant=meant)
    if name == "SetAutoAdminPassword":
        raise PasswordNotKnownHere
    if name == "AccountConfiguration":
        _require_no_hash(command.get("AutoSetupAdminAccounts", []))
    if name == "RotateFileVaultKey" and command.get("KeyType", "personal") != "personal":
        raise NotAPersonalKey(field="KeyType")
    if name in _CLEARED_BY_EMPTY and "NewPassword" not in command:
        raise NewPasswordMissing(field="NewPassword")
    if name == ERASE_DEVICE and RETURN in command:
        _require_return(command[RETURN])


def _require_no_hash(accounts: PlistValue) -> None:
    """An empty passwordHash asks for a password that is drawn here."""
    if not isinstance(accounts, list):
        raise AccountsUnreadable(field="AutoSetupAdminAccounts")
    for account in accounts:
        if not isinstance(account, Mapping) or not isinstance(
            account.get("passwordHash", b""), bytes
        ):
            raise AccountsUnreadable(field="AutoSetupAdminAccounts")
        if account.get("passwordHash"):
            raise PasswordNotKnownHere


def _require_return(wish: PlistValue) -> None:
    if not isinstance(wish, Mapping) or not isinstance(wish.get("Enabled"), bool):
        raise ReturnToServiceUnreadable(field=f"{RETURN}/Enabled")
    for key in _DATA_OF_RETURN:
        if not isinstance(wish.get(key, b""), bytes):
            raise ReturnToServiceUnreadable(field=f"{RETURN}/{key}")
