"""API tokens: shown once, kept as digests, bound by scope and time."""

import hmac
from datetime import UTC, datetime, timedelta

import pytest

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import KeyedDigest, SealedValue, TenantId
from ostiary.ports.sealer import SealLabel
from ostiary.ports.storage import ApiToken
from ostiary.secret import Secret
from ostiary.services.api_tokens import (
    ApiTokenExpired,
    ApiTokenService,
    ApiTokenUnknown,
    ScopeUnknown,
    has_checksum,
    make_token,
)
from ostiary.services.caller import Scope, ScopeMissing


class Shelf:
    """ApiTokens in memory."""

    def __init__(self) -> None:
        self.tokens: dict[KeyedDigest, ApiToken] = {}
        self.audit: list[AuditEntry] = []

    async def add_api_token(self, token: ApiToken, audit: AuditEntry) -> None:
        self.tokens[token.digest] = token
        self.audit.append(audit)

    async def find_api_token(self, digest: KeyedDigest) -> ApiToken | None:
        return self.tokens.get(digest)


class Digester:
    """A Sealer of which only digests are asked."""

    def seal(self, value: Secret, label: SealLabel) -> SealedValue:
        raise NotImplementedError

    def unseal(self, sealed: SealedValue, label: SealLabel) -> Secret:
        raise NotImplementedError

    def digest(self, tenant: TenantId, value: Secret) -> KeyedDigest:
        return KeyedDigest(hmac.digest(tenant.encode(), value.reveal(), "sha256"))


class HandClock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


class Desk:
    def __init__(self) -> None:
        self.shelf, self.clock = Shelf(), HandClock()
        self.service = ApiTokenService(self.shelf, Digester(), self.clock)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_token_is_known_again_and_kept_only_as_a_digest(desk: Desk) -> None:
    """design.md 5: API tokens are named, scoped, expiring, stored as digests."""
    token = await desk.service.create("ci", ["push"], actor="anna")
    caller = await desk.service.identify(token)
    assert (caller.name, caller.scopes) == ("ci", {"push"})
    assert token.reveal() not in repr(desk.shelf.tokens).encode()
    assert [(entry.actor, entry.subject) for entry in desk.shelf.audit] == [("anna", "ci")]


async def test_a_scope_that_a_token_lacks_is_refused(desk: Desk) -> None:
    """users.md 3.2: scoped tokens."""
    caller = await desk.service.identify(await desk.service.create("ci", ["push"], actor="anna"))
    caller.require(Scope.PUSH)
    with pytest.raises(ScopeMissing):
        caller.require(Scope.COMMANDS)
    admin = await desk.service.identify(await desk.service.create("a", ["admin"], actor="anna"))
    admin.require(Scope.COMMANDS_DESTRUCTIVE)


async def test_an_expired_token_is_refused(desk: Desk) -> None:
    """design.md 5."""
    token = await desk.service.create("ci", ["push"], actor="anna", valid_for=timedelta(days=1))
    desk.clock.moment += timedelta(days=1)
    with pytest.raises(ApiTokenExpired):
        await desk.service.identify(token)


async def test_another_token_is_unknown(desk: Desk) -> None:
    """A well-formed guess, a typing error, and nonsense are told the same."""
    token = (await desk.service.create("ci", ["push"], actor="anna")).reveal()
    for wrong in (make_token().reveal(), token[:-1] + b"!", token[1:], b"", "ostiary_é".encode()):
        with pytest.raises(ApiTokenUnknown):
            await desk.service.identify(Secret(wrong))


async def test_a_scope_that_does_not_exist_is_refused(desk: Desk) -> None:
    """A typing error must not make a token that can do nothing."""
    with pytest.raises(ScopeUnknown):
        await desk.service.create("ci", ["pushes"], actor="anna")


def test_tokens_differ_and_carry_prefix_and_checksum() -> None:
    """users.md 3.2: a recognizable prefix and checksum so that secret scanners find them."""
    one, other = make_token(), make_token()
    assert one != other
    assert one.reveal().startswith(b"ostiary_")
    assert has_checksum(one)
    swapped = bytearray(one.reveal())
    swapped[10] = swapped[10] ^ 1
    assert not has_checksum(Secret(bytes(swapped)))
