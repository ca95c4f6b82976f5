"""API tokens, wrapped keys and policies: small tables that everything leans on."""

from dataclasses import replace

import pytest

from conformance.storage_twins import visible_state
from conformance.storage_values import NOON, after, audit, digest
from ostiary.domain.token import DEFAULT_TENANT, Holder, TenantId, TokenKind, TokenState
from ostiary.errors import Conflicting
from ostiary.ports.storage import ApiToken, EpochRow
from ostiary.storage.sqlite.storage import SqliteStorage

TOKEN = ApiToken(
    name="ci",
    tenant=DEFAULT_TENANT,
    digest=digest(1),
    scopes=frozenset({"enqueue", "push"}),
    created_at=NOON,
    expires_at=after(days=30),
)
EPOCH = EpochRow(
    tenant=DEFAULT_TENANT, epoch=1, wrapped=b"wrapped", check=b"check", created_at=NOON
)


async def test_an_api_token_is_found_by_its_digest_alone(sqlite: SqliteStorage) -> None:
    await sqlite.api_tokens.add_api_token(TOKEN, audit("api-token"))
    assert await sqlite.api_tokens.find_api_token(digest(1)) == TOKEN
    assert await sqlite.api_tokens.find_api_token(digest(2)) is None
    (kept,) = (await visible_state(sqlite))["records"].values()
    assert (kept.kind, kept.holder, kept.value, kept.digest, kept.expires_at) == (
        TokenKind.API_TOKEN,
        Holder("ci"),
        b"",
        digest(1),
        after(days=30),
    )


async def test_a_token_without_scopes_or_end_is_possible(sqlite: SqliteStorage) -> None:
    bare = replace(TOKEN, scopes=frozenset(), expires_at=None)
    await sqlite.api_tokens.add_api_token(bare, audit("api-token"))
    assert await sqlite.api_tokens.find_api_token(digest(1)) == bare


async def test_a_token_of_the_same_name_takes_the_place_of_the_old_one(
    sqlite: SqliteStorage,
) -> None:
    await sqlite.api_tokens.add_api_token(TOKEN, audit("api-token"))
    renewed = replace(TOKEN, digest=digest(2), created_at=after(days=1))
    await sqlite.api_tokens.add_api_token(renewed, audit("api-token"))
    assert await sqlite.api_tokens.find_api_token(digest(1)) is None
    assert await sqlite.api_tokens.find_api_token(digest(2)) == renewed
    records = (await visible_state(sqlite))["records"].values()
    assert {(one.generation, one.state) for one in records} == {
        (1, TokenState.SUPERSEDED),
        (2, TokenState.OK),
    }


async def test_two_names_do_not_share_a_token(sqlite: SqliteStorage) -> None:
    await sqlite.api_tokens.add_api_token(TOKEN, audit("api-token"))
    before = await visible_state(sqlite)
    with pytest.raises(Conflicting):
        await sqlite.api_tokens.add_api_token(replace(TOKEN, name="cd"), audit("api-token"))
    assert await visible_state(sqlite) == before


async def test_epochs_come_back_in_order_and_are_never_overwritten(
    sqlite: SqliteStorage,
) -> None:
    """A key that is lost takes every token sealed under it along."""
    assert await sqlite.epochs.load_epochs() == ()
    digest_key = replace(EPOCH, epoch=0, wrapped=b"digest key")
    for row in (EPOCH, digest_key):
        await sqlite.epochs.add_epoch(row)
    with pytest.raises(Conflicting):
        await sqlite.epochs.add_epoch(replace(EPOCH, wrapped=b"another"))
    assert await sqlite.epochs.load_epochs() == (digest_key, EPOCH)


async def test_a_policy_is_replaced_by_name_and_audited(sqlite: SqliteStorage) -> None:
    policies = sqlite.policies
    assert await policies.load_policies(DEFAULT_TENANT) == {}
    await policies.save_policy(DEFAULT_TENANT, "users", '"decline"', audit("policy"))
    await policies.save_policy(DEFAULT_TENANT, "users", '"digest"', audit("policy again"))
    await policies.save_policy(TenantId("other"), "users", "1", audit("policy", tenant="other"))
    assert await policies.load_policies(DEFAULT_TENANT) == {"users": '"digest"'}
    verbs = [entry.verb for entry, _ in (await visible_state(sqlite))["audit"]]
    assert verbs == ["policy", "policy again", "policy"]
