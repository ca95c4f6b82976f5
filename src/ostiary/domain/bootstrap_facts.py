"""What a device's own reports say around its bootstrap token: supervision, permission, preflight, accounts."""

from collections.abc import Iterable
from datetime import datetime

from ostiary.domain.facts import FactSheet, SheetName
from ostiary.protocol.mdm.device_information import HardwareFacts
from ostiary.protocol.mdm.security_info import SecurityFacts
from ostiary.protocol.mdm.user_list import UserAccount, read_users
from ostiary.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapFacts:
    """Whatever was never reported is None; all of it is the device's word."""

    is_supervised: bool | None = None
    came_by_ade: bool | None = None
    allowed: str | None = None
    """SecurityInfo's BootstrapTokenAllowedForAuthentication: `allowed`, `disallowed`, `not supported`. (BT-20)"""
    option_set: bool | None = None
    """MDMOptions' BootstrapTokenAllowed, which announces support on macOS 10.15."""
    preflight: str | None = None
    """The last word of DeviceInformation's EACSPreflight; what it means for the token is in the ledger."""
    accounts: tuple[UserAccount, ...] | None = None
    accounts_at: datetime | None = None
    our_accounts: frozenset[str] = frozenset()
    """GUIDs of the administrators that AccountConfiguration made."""

    @property
    def holders(self) -> tuple[UserAccount, ...] | None:
        """Who holds a SecureToken; None if no UserList says so."""
        if self.accounts is None or all(one.has_secure_token is None for one in self.accounts):
            return None
        return tuple(one for one in self.accounts if one.has_secure_token)


def read_bootstrap_facts(sheets: Iterable[FactSheet]) -> BootstrapFacts:
    """The facts that matter to the health of a bootstrap token, out of what a device last reported."""
    by_name = {sheet.name: sheet for sheet in sheets}
    device, security, users = (
        by_name.get(name) for name in (SheetName.DEVICE, SheetName.SECURITY, SheetName.USERS)
    )
    hardware = HardwareFacts.read(device.facts) if device is not None else HardwareFacts()
    said = SecurityFacts.read(security.facts) if security is not None else SecurityFacts()
    return BootstrapFacts(
        is_supervised=hardware.supervised,
        came_by_ade=said.enrolled_by_automation,
        allowed=said.bootstrap_token_allowed,
        option_set=hardware.bootstrap_token_option,
        preflight=hardware.eacs_preflight,
        accounts=read_users(users.facts) if users is not None else None,
        accounts_at=users.reported_at if users is not None else None,
        our_accounts=frozenset(account.guid for account in hardware.admin_accounts or ()),
    )
