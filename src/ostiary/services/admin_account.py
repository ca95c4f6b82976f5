"""An administrator account for a Mac in Setup Assistant: its password drawn, hashed off the loop, and sealed."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from ostiary.domain.auto_admin import ACCOUNT_CONFIGURATION, SealedAdmin
from ostiary.domain.policy import Policy
from ostiary.domain.token import TenantId, TokenKind
from ostiary.errors import Malformed
from ostiary.ports.draws import Draws
from ostiary.ports.sealer import Sealer
from ostiary.protocol.mdm.account_commands import NewAdmin, account_configuration
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.connect import CommandUuid, encode_command
from ostiary.protocol.mdm.password_hash import salted_sha512_pbkdf2
from ostiary.secret import Secret
from ostiary.services.rendering import command_label
from ostiary.services.sealing import seal_for

ACCOUNTS: Final = "AutoSetupAdminAccounts"
_HASH: Final = "passwordHash"


class NoAdminAccountNamed(Malformed):
    """Nobody has said which administrator account Setup Assistant is to make."""

    hint = "Name it: `ostiary policy set admin_account NAME`."


class AdminAccounts:
    """Makes the command and the password that belongs to it; what is made and not used was never told to anybody."""

    def __init__(self, sealer: Sealer, draws: Draws) -> None:
        self._sealer = sealer
        self._draws = draws

    async def draw(
        self,
        command: Command,
        tenant: TenantId,
        holder: str,
        uuid: CommandUuid,
        now: datetime,
    ) -> SealedAdmin:
        """The same command with a password of its own for its account, sealed under `uuid`."""
        password = self._draws.password()
        salt = self._draws.salt()
        hashed = await asyncio.to_thread(salted_sha512_pbkdf2, password, salt=salt)
        written = encode_command(uuid, _with_hash(command, hashed))
        return SealedAdmin(
            payload=self._sealer.seal(Secret(written), command_label(tenant, uuid)),
            password=seal_for(
                self._sealer, tenant, holder, TokenKind.ADMIN_PASSWORD, password, now
            ),
        )


def account_of(policy: Policy) -> Command:
    """The account that policy wants, its password not drawn yet.

    Raises:
        NoAdminAccountNamed, UnusableAccountName
    """
    if not policy.admin_account:
        raise NoAdminAccountNamed
    admin = NewAdmin(
        short_name=policy.admin_account,
        password_hash=Secret(b""),
        full_name=policy.admin_full_name or None,
        hidden=policy.admin_hidden,
    )
    return account_configuration(admin=admin)


def wants_password(command: Command) -> bool:
    """Whether a command makes an administrator account and leaves its password to us."""
    account = _account(command)
    named = command.get("RequestType") == ACCOUNT_CONFIGURATION
    return named and account is not None and not account.get(_HASH)


def _account(command: Command) -> Command | None:
    accounts = command.get(ACCOUNTS)
    if not isinstance(accounts, list) or not accounts or not isinstance(accounts[0], Mapping):
        return None
    return dict(accounts[0])


def _with_hash(command: Command, hashed: Secret) -> Command:
    return {**command, ACCOUNTS: [{**(_account(command) or {}), _HASH: hashed.reveal()}]}
