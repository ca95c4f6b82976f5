"""API tokens on PostgreSQL: a name, its scopes, and a digest to compare with."""

from typing import Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import KeyedDigest
from ostiary.ports.storage import ApiToken
from ostiary.storage.ledger import api_token_record
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.text import unescape
from ostiary.storage.postgres.write_news import add_audit
from ostiary.storage.postgres.write_tokens import add_record, supersede_older

SAVE_PROGRAM: Final = """
    INSERT INTO api_token (tenant, name, digest, scopes, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (tenant, name) DO UPDATE
       SET digest = excluded.digest, scopes = excluded.scopes, created_at = excluded.created_at,
           expires_at = excluded.expires_at
"""
PROGRAM_BY_DIGEST: Final = """
    SELECT tenant, name, digest, scopes, created_at, expires_at FROM api_token WHERE digest = $1
"""  # served by api_token_by_digest


class PostgresApiTokens:
    """The API tokens on one engine."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_api_token(self, token: ApiToken, audit: AuditEntry) -> None:
        """Store it; one of the same name is replaced, and its generation superseded."""

        async def work(session: Session) -> None:
            await session.run(
                SAVE_PROGRAM,
                token.tenant,
                token.name,
                token.digest,
                "\n".join(sorted(token.scopes)),
                token.created_at,
                token.expires_at,
            )
            record = api_token_record(token, audit.actor)
            await supersede_older(session, record)
            await add_record(session, record)
            await add_audit(session, audit, token.created_at)

        await self._pool.transact(work)

    async def find_api_token(self, digest: KeyedDigest) -> ApiToken | None:
        row = await self._pool.row(PROGRAM_BY_DIGEST, digest)
        if row is None:
            return None
        tenant, name, stored, scopes, created_at, expires_at = row
        return ApiToken(
            name=unescape(name),
            tenant=tenant,
            digest=stored,
            scopes=frozenset(scopes.split("\n") if scopes else ()),
            created_at=created_at,
            expires_at=expires_at,
        )
