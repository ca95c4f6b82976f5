"""The administrator account that an MDM server has Setup Assistant make.

Source: escrowed-secrets.md 4.8.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim.outcomes import CommandFailed, CommandMalformed, Outcome
from ostiary_sim.password_hash import read_password_hash
from ostiary_sim.personality import draw_uuid
from ostiary_sim.users import User

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

Command = Mapping[str, Any]

_FIRST_UID: Final = 501
_NEED_AN_ADMIN: Final = ("SkipPrimarySetupAccountCreation", "SetPrimarySetupAccountAsRegularUser")


class AutoAdmin:
    """What one Mac knows of the account its server had made."""

    def __init__(self) -> None:
        self.user: User | None = None
        """The account; also among the device's users."""
        self.managed_user: str | None = None
        """Short name of the local account that becomes managed; None: whoever enrolls."""
        self.skips_primary_account = False
        self._queries = 0

    def is_password(self, password: str) -> bool:
        """Say whether the account would take this password; false if there is no account."""
        return self.user is not None and self.user.accepts(password)

    def listed(self, hidden_for: int) -> list[dict[str, object]] | None:
        """The answer to the query AutoSetupAdminAccounts; None: the key is left out.

        Args:
            hidden_for: so many queries after the account was made still find nothing.
        """
        if self.user is None:
            return []
        self._queries += 1
        if self._queries <= hidden_for:
            return None
        return [{"GUID": self.user.guid, "shortName": self.user.short_name}]


async def account_configuration(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    """Make the account, while Setup Assistant waits."""
    _check_automated(device)
    if not device.awaiting:
        raise CommandFailed("The device is not awaiting configuration.")
    accounts = command.get("AutoSetupAdminAccounts", [])
    if not isinstance(accounts, list) or not all(isinstance(each, dict) for each in accounts):
        raise CommandMalformed("AutoSetupAdminAccounts is not an array of dictionaries")
    for key in _NEED_AN_ADMIN:
        if command.get(key) is True and not accounts:
            raise CommandFailed(f"{key} needs AutoSetupAdminAccounts.")
    if accounts:
        _make(device, accounts[0])  # the first only
    device.auto_admin.skips_primary_account = command.get(_NEED_AN_ADMIN[0]) is True
    managed = command.get("ManagedLocalUserShortName")
    device.auto_admin.managed_user = managed if isinstance(managed, str) else None
    return Outcome()


def _make(device: "Device", wanted: Mapping[str, Any]) -> None:
    short_name = wanted.get("shortName")
    if not isinstance(short_name, str) or not short_name:
        raise CommandMalformed("shortName is missing")
    given = wanted.get("passwordHash")
    user = User(
        short_name=short_name,
        long_name=str(wanted.get("fullName", short_name)),
        guid=draw_uuid(device.rng),
        uid=_FIRST_UID + len(device.users),
        password_hash=None if given is None else read_password_hash(given),
        hidden=wanted.get("hidden") is True,
    )
    device.auto_admin.user = device.users[short_name] = user
    device.say("admin_account_made", detail=short_name)


async def set_auto_admin_password(
    device: "Device", _channel: "Channel", command: Command
) -> Outcome:
    """Give the account another password, if the server knows its GUID."""
    _check_automated(device)
    guid = command.get("GUID")
    if not isinstance(guid, str):
        raise CommandMalformed("GUID is missing")
    new = read_password_hash(command.get("passwordHash"))
    admin = device.auto_admin.user
    if admin is None or admin.guid != guid:
        raise CommandFailed("No account made by the server has this GUID.")
    admin.password_hash, admin.password = new, ""
    return Outcome()


def _check_automated(device: "Device") -> None:
    if not device.personality.automated:
        raise CommandFailed("Only Macs of Automated Device Enrollment have such an account.")
