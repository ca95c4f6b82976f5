"""Commands around the local accounts of a Mac. (escrowed-secrets.md 4.8, 4.10)

The password's hash stands in the command, whose queued payload is sealed; the password itself goes to the ledger.
"""

from dataclasses import dataclass
from typing import Final

from ostiary.errors import Malformed
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.commands import Command
from ostiary.secret import Secret

LONGEST_NAME: Final = 255


class AdminAccountMissing(Malformed):
    """Setup Assistant may not skip or demote the person's account where no administrator account is made."""

    hint = "Name the account to be made, or leave the two options out."


class UnusableAccountName(Malformed):
    """An account name is empty, too long, or holds characters that none can have."""

    hint = "`ostiary enqueue ID user-list` asks the device for its accounts."


class UnusableGuid(Malformed):
    """The account's GUID is missing or too long."""

    hint = "It comes with DeviceInformation's AutoSetupAdminAccounts, at times only with a later answer."


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAdmin:
    """The administrator account that Setup Assistant makes; Apple reads one, so there is one."""

    short_name: str
    password_hash: Secret
    """The bytes of `password_hash.salted_sha512_pbkdf2`."""
    full_name: str | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryAccount:
    """What Setup Assistant suggests to the person in front of the Mac."""

    full_name: str | None = None
    user_name: str | None = None
    locked: bool = False
    """The person cannot change them."""
    not_filled_in: bool = False


_NOTHING_SUGGESTED: Final = PrimaryAccount()


def account_configuration(
    *,
    admin: NewAdmin | None = None,
    skip_primary_account: bool = False,
    primary_is_regular_user: bool = False,
    primary: PrimaryAccount = _NOTHING_SUGGESTED,
    managed_user: str | None = None,
) -> Command:
    """Say which accounts Setup Assistant makes; only while the Mac awaits configuration. (4.8)

    Raises:
        AdminAccountMissing: (AA-05)
        UnusableAccountName
    """
    if (skip_primary_account or primary_is_regular_user) and admin is None:
        raise AdminAccountMissing
    command: dict[str, PlistValue] = {"RequestType": "AccountConfiguration"}
    flags = {
        "SkipPrimarySetupAccountCreation": skip_primary_account,
        "SetPrimarySetupAccountAsRegularUser": primary_is_regular_user,
        "LockPrimaryAccountInfo": primary.locked,
        "DontAutoPopulatePrimaryAccountInfo": primary.not_filled_in,
    }
    names = {
        "PrimaryAccountFullName": primary.full_name,
        "PrimaryAccountUserName": primary.user_name,
        "ManagedLocalUserShortName": managed_user,
    }
    command.update({key: True for key, flag in flags.items() if flag})
    command.update({key: _name(name, key) for key, name in names.items() if name is not None})
    if admin is not None:
        command["AutoSetupAdminAccounts"] = [_account(admin)]
    return command


def checked_account_configuration(command: Command) -> Command:
    """The same AccountConfiguration as somebody wrote it, with the one account that Setup Assistant reads.

    Raises:
        AdminAccountMissing: (AA-05)
    """
    accounts = command.get("AutoSetupAdminAccounts")
    given = accounts if isinstance(accounts, list) else []
    needs_one = ("SkipPrimarySetupAccountCreation", "SetPrimarySetupAccountAsRegularUser")
    if not given and any(command.get(key) for key in needs_one):
        raise AdminAccountMissing
    return {**command, "AutoSetupAdminAccounts": given[:1]} if given else command


def set_auto_admin_password(*, guid: str, password_hash: Secret) -> Command:
    """Give the administrator account that we had made another password; any other account's GUID is an Error. (4.8)

    Raises:
        UnusableGuid
    """
    if not guid or len(guid) > LONGEST_NAME or not guid.isprintable():
        raise UnusableGuid(field="GUID")
    return {
        "RequestType": "SetAutoAdminPassword",
        "GUID": guid,
        "passwordHash": password_hash.reveal(),
    }


def unlock_user_account(user_name: str) -> Command:
    """Lift the lock-out of a local account after failed attempts; its password stays. (4.10)

    Raises:
        UnusableAccountName
    """
    return {"RequestType": "UnlockUserAccount", "UserName": _name(user_name, "UserName")}


def _account(admin: NewAdmin) -> dict[str, PlistValue]:
    account: dict[str, PlistValue] = {
        "shortName": _name(admin.short_name, "shortName"),
        "passwordHash": admin.password_hash.reveal(),
    }
    if admin.full_name is not None:
        account["fullName"] = _name(admin.full_name, "fullName")
    if admin.hidden:
        account["hidden"] = True
    return account


def _name(name: str, field: str) -> str:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise UnusableAccountName(field=field, longest=LONGEST_NAME)
    return name
