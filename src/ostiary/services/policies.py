"""One tenant's policy, read from the database and kept at hand."""

import json
from dataclasses import fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.policy import BadDigest, Policy, RestoredBackup, UserLogin
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.errors import Malformed, Missing
from ostiary.ports.storage import Policies

REFRESH: Final = timedelta(seconds=30)

_CHOICES: Final[dict[str, type[StrEnum]]] = {
    "restored_backup": RestoredBackup,
    "user_login": UserLogin,
    "bad_digest": BadDigest,
}


class PolicyUnknown(Missing):
    """There is no policy of this name."""

    hint = "`ostiary policy list` shows the names."


class PolicyValueUnusable(Malformed):
    """The value is none that this policy can have."""


class PolicyBook:
    """The policy in force; `refresh` reads it again, since another node may have changed it."""

    def __init__(self, policies: Policies, tenant: TenantId = DEFAULT_TENANT) -> None:
        self._policies = policies
        self._tenant = tenant
        self._current = Policy()

    def current(self) -> Policy:
        """The policy as last read."""
        return self._current

    async def refresh(self) -> None:
        """Read the policy; a stored name that this version does not know is left alone."""
        stored = await self._policies.load_policies(self._tenant)
        policy = Policy()
        known = {field.name for field in fields(Policy)}
        for name, text in stored.items():
            if name in known:
                policy = replace(policy, **{name: decode_policy_value(name, json.loads(text))})
        self._current = policy

    async def change(self, name: str, value: str, *, actor: str) -> Policy:
        """Set one policy for everybody.

        Raises:
            PolicyUnknown, PolicyValueUnusable
        """
        plain = _plain(name, value)
        decode_policy_value(name, plain)
        audit = AuditEntry(
            tenant=self._tenant, actor=actor, verb="policy-set", subject=name, reason=value
        )
        await self._policies.save_policy(self._tenant, name, json.dumps(plain), audit)
        await self.refresh()
        return self._current


def policy_values(policy: Policy) -> dict[str, str]:
    """Every policy with its value in force, as text for people."""
    return {field.name: _text(getattr(policy, field.name)) for field in fields(Policy)}


def decode_policy_value(name: str, value: object) -> Any:
    """The typed value of a policy from its JSON form. Raises PolicyUnknown, PolicyValueUnusable."""
    if name not in {field.name for field in fields(Policy)}:
        raise PolicyUnknown(policy=name)
    if name in _CHOICES:
        try:
            return _CHOICES[name](str(value))
        except ValueError:
            choices = ", ".join(_CHOICES[name])
            raise PolicyValueUnusable(f"{name} is one of: {choices}") from None
    if name == "contest_silence":
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise PolicyValueUnusable(f"{name} is a number of seconds")
        return timedelta(seconds=value)
    if not isinstance(value, bool):
        raise PolicyValueUnusable(f"{name} is true or false")
    return value


def _plain(name: str, value: str) -> object:
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.isdigit() and name == "contest_silence" else value


def _text(value: object) -> str:
    match value:
        case timedelta():
            return str(int(value.total_seconds()))
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
