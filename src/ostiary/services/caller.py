"""Who asks, and what they may do: a person at the command line, or a program with an API token."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ostiary.domain.token import TenantId
from ostiary.errors import Refused


class Scope(StrEnum):
    """What a caller may do."""

    COMMANDS = "commands"
    COMMANDS_DESTRUCTIVE = "commands:destructive"
    COMMANDS_SECRET = "commands:secret"  # noqa: S105 - the name of a scope, not a secret
    PUSH = "push"
    PUSHCERT = "pushcert"
    SECRETS_REVEAL = "secrets:reveal"
    READ = "read"
    ADMIN = "admin"


SCOPE_MEANINGS: Final[Mapping[Scope, str]] = MappingProxyType(
    {
        Scope.COMMANDS: "Queue commands that neither destroy nor carry a secret.",
        Scope.COMMANDS_DESTRUCTIVE: "With `commands`: those that lock, erase or take away as well.",
        Scope.COMMANDS_SECRET: "With `commands`: those that carry or bring a secret as well.",
        Scope.PUSH: "Wake devices.",
        Scope.PUSHCERT: "Read and import push certificates.",
        Scope.SECRETS_REVEAL: "Be shown the value of an escrowed secret, for a reason that is kept.",
        Scope.READ: "Read the figures at /metrics.",
        Scope.ADMIN: "Everything.",
    }
)
"""What each scope allows, for people."""


class ScopeMissing(Refused):
    """The caller may not do this."""

    hint = (
        "Use an API token with this scope. Destructive commands need commands:destructive, "
        "secret-bearing ones commands:secret; to be shown a secret takes secrets:reveal."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who proved who they are, with the scopes that they have."""

    name: str
    tenant: TenantId
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """Whether the caller has this scope; one with `admin` may do everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Raises ScopeMissing."""
        if not self.may(scope):
            raise ScopeMissing(scope=scope.value, caller=self.name)
