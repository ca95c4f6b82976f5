"""API tokens: made once, shown once, kept as digests; and the question what a program may do."""

import hmac
import secrets
import zlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.errors import Conflicting, Refused
from ostiary.ports.clock import Clock
from ostiary.ports.sealer import Sealer
from ostiary.ports.storage import ApiToken, ApiTokens
from ostiary.secret import Secret
from ostiary.services.caller import Caller, Scope

PREFIX: Final = "ostiary_"
"""So that scanners find a token that was left lying about."""
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_CHARACTERS: Final = 40
_CHECKSUM_CHARACTERS: Final = 6


class ApiTokenUnknown(Refused):
    """The request carries no API token that is in force."""

    hint = "HTTP Basic with any user name, or Bearer; the password is an API token, as in DIR/api-token."


class ApiTokenExpired(Refused):
    """The API token has expired."""

    hint = "Make a new one."


class ApiTokenNameTaken(Conflicting):
    """An API token of this name is in force."""

    hint = "Choose another name; or end that token and make a new one of its name with --replace."


class ScopeUnknown(Refused):
    """There is no such scope."""

    hint = f"Scopes are {', '.join(Scope)}."


class ApiTokenService:
    """Creates API tokens, and says whom a presented one belongs to."""

    def __init__(self, tokens: ApiTokens, sealer: Sealer, clock: Clock) -> None:
        self._tokens = tokens
        self._sealer = sealer
        self._clock = clock

    async def create(
        self,
        name: str,
        scopes: Iterable[str],
        *,
        actor: str,
        valid_for: timedelta | None = None,
        tenant: TenantId = DEFAULT_TENANT,
    ) -> Secret:
        """A new token, which ends an older one of its name; nobody can show it a second time.

        Raises:
            ScopeUnknown: a scope that does not exist.
        """
        wanted = frozenset(scopes)
        if unknown := wanted - frozenset(Scope):
            raise ScopeUnknown(scope=min(unknown))
        now = self._clock.now()
        value = make_token()
        await self._tokens.add_api_token(
            ApiToken(
                name=name,
                tenant=tenant,
                digest=self._sealer.digest(tenant, value),
                scopes=wanted,
                created_at=now,
                expires_at=None if valid_for is None else now + valid_for,
            ),
            AuditEntry(
                tenant=tenant,
                actor=actor,
                verb="api-token.create",
                subject=name,
                reason=f"scopes {' '.join(sorted(wanted))}",
            ),
        )
        return value

    async def identify(self, presented: Secret, tenant: TenantId = DEFAULT_TENANT) -> Caller:
        """Who presents this token.

        Raises:
            ApiTokenUnknown, ApiTokenExpired.
        """
        if not has_checksum(presented):
            raise ApiTokenUnknown
        digest = self._sealer.digest(tenant, presented)
        token = await self._tokens.find_api_token(digest)
        # The look-up found it by a keyed digest, which tells nothing by its time; compared again all the same.
        if token is None or not hmac.compare_digest(token.digest, digest):
            raise ApiTokenUnknown
        if token.expires_at is not None and self._clock.now() >= token.expires_at:
            raise ApiTokenExpired(token=token.name, expired_at=token.expires_at)
        return Caller(name=token.name, tenant=token.tenant, scopes=token.scopes)


def make_token() -> Secret:
    """Prefix, 238 random bits, and a checksum that tells a typing error from a revoked token."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARACTERS))
    return Secret((PREFIX + body + _checksum(body)).encode())


def has_checksum(presented: Secret) -> bool:
    """Whether this looks like a token of ours at all, so that guesses need no look-up."""
    text = presented.reveal().decode("latin-1")
    body, checksum = (
        text[len(PREFIX) : -_CHECKSUM_CHARACTERS],
        text[-_CHECKSUM_CHARACTERS:],
    )
    return (
        text.startswith(PREFIX)
        and len(body) == _RANDOM_CHARACTERS
        and body.isascii()
        and checksum == _checksum(body)
    )


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_CHARACTERS):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
