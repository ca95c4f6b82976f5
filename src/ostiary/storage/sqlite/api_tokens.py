"""API tokens on SQLite: a name, its scopes, and a digest to compare with."""

from typing import Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import KeyedDigest
from ostiary.ports.storage import ApiToken
from ostiary.storage.ledger import api_token_record
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.rows import micros, micros_or_none, moment, moment_or_none
from ostiary.storage.sqlite.write_news import add_audit
from ostiary.storage.sqlite.write_tokens import add_records, supersede_older

SAVE_PROGRAM: Final = """
    INSERT INTO api_token (tenant, name, digest, scopes, created_at, expires_at)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant, name) DO UPDATE
       SET digest = excluded.digest, scopes = excluded.scopes, created_at = excluded.created_at,
           expires_at = excluded.expires_at
"""
PROGRAM_BY_DIGEST: Final = """
    SELECT tenant, name, digest, scopes, created_at, expires_at FROM api_token WHERE digest = ?
"""  # served by api_token_by_digest


class SqliteApiTokens:
    """The API tokens on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add_api_token(self, token: ApiToken, audit: AuditEntry) -> None:
        """Store it; one of the same name is replaced, and its generation superseded."""

        def work(transaction: Transaction) -> None:
            transaction.write(
                SAVE_PROGRAM,
                (
                    token.tenant,
                    token.name,
                    token.digest,
                    "\n".join(sorted(token.scopes)),
                    micros(token.created_at),
                    micros_or_none(token.expires_at),
                ),
            )
            record = api_token_record(token, audit.actor)
            supersede_older(transaction, record)
            add_records(transaction, record)
            add_audit(transaction, audit, token.created_at)

        await self._engine.run(work)

    async def find_api_token(self, digest: KeyedDigest) -> ApiToken | None:
        def work(transaction: Transaction) -> ApiToken | None:
            row = transaction.read(PROGRAM_BY_DIGEST, (digest,)).fetchone()
            if row is None:
                return None
            tenant, name, stored, scopes, created_at, expires_at = row
            return ApiToken(
                name=name,
                tenant=tenant,
                digest=stored,
                scopes=frozenset(scopes.split("\n") if scopes else ()),
                created_at=moment(created_at),
                expires_at=moment_or_none(expires_at),
            )

        return await self._engine.run(work)
