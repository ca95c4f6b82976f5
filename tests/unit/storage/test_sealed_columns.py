"""No column can hold sealed values that re-sealing does not know: a rotation that leaves some behind is none."""

import asyncio
import typing
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import apsw
import asyncpg
import pytest

import ostiary
from conformance.storage_values import NOON
from ostiary.domain.token import SealedValue
from ostiary.ports.resealing import SealedIn
from ostiary.services.resealing import _KIND
from ostiary.storage.sealed_places import KEY_WIDTH
from ostiary.storage.sqlite.connection import open_writer
from ostiary.storage.sqlite.schema import migrate, shipped_migrations

NOT_SEALED = {
    "token.digest": "a keyed digest",
    "enrollment.push_digest": "a keyed digest",
    "enrollment.unlock_digest": "a keyed digest",
    "enrollment.bootstrap_digest": "a keyed digest",
    "enrollment.session_token": "a keyed digest",
    "credential.certificate": "public",
    "invitation.code": "a keyed digest",
    "challenge.digest": "a keyed digest",
    "push_certificate.certificate_pem": "public",
    "api_token.digest": "a keyed digest",
    "escrow.digest": "a keyed digest",
    "key_epoch.wrapped": "wrapped under the root key; `ostiary key rotate --root` wraps it anew",
    "key_epoch.check_value": "tells the root key, and nothing else",
    "audit.hash": "a hash over what can be read",
    "migration.digest": "a hash of a file that we ship",
}
"""Columns of bytes that hold nothing sealed, and what they hold."""
CARRIERS = {
    "TokenRecord.value": "token.value",
    "SealedToken.value": "token.value, before it is stored",
    "SealedPush.value": "token.value, of a push token",
    "LiveCommand.payload": "command.payload",
    "Order.payload": "command.payload, before it is queued",
    "SealedAdmin.payload": "command.payload, before it is queued",
    "PushCertificate.sealed_key": "push_certificate.sealed_key",
    "PendingPushKey.sealed_key": "pending_push_key.sealed_key",
    "SealedRow.value": "re-sealing itself",
    "Resealed.before": "re-sealing itself",
    "Resealed.after": "re-sealing itself",
}
"""Values of ours that carry a sealed value, and the column in which it ends."""


def unknown(columns: set[str]) -> set[str]:
    return columns - {where.value for where in SealedIn} - set(NOT_SEALED)


def test_every_column_of_bytes_is_resealed_or_holds_nothing_sealed(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "schema.db")
    migrate(connection, NOON, shipped_migrations())
    columns = _columns_of_sqlite(connection)
    connection.close()
    assert not unknown(columns), "say in ports/resealing.py or here what these hold"
    assert {where.value for where in SealedIn} <= columns


def _columns_of_sqlite(connection: apsw.Connection) -> set[str]:
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]
    return {
        f"{table}.{name}"
        for table in tables
        for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")
        if kind == "BLOB"
    }


def test_so_it_is_on_postgresql(postgres_url: str) -> None:
    async def read() -> set[str]:
        connection = await asyncpg.connect(postgres_url)
        try:
            found = await connection.fetch(
                """SELECT table_name || '.' || column_name FROM information_schema.columns
                    WHERE table_schema = 'public' AND data_type = 'bytea'"""
            )
        finally:
            await connection.close()
        return {name for (name,) in found}

    columns = asyncio.run(read())
    assert not unknown(columns)
    assert {where.value for where in SealedIn} <= columns


def test_every_value_that_carries_something_sealed_ends_in_a_column_that_is_known() -> None:
    """Found by type, wherever it is declared."""
    found = set()
    for module in walk_packages(ostiary.__path__, "ostiary."):
        if module.name.endswith("__main__"):
            continue
        for thing in vars(import_module(module.name)).values():
            if not (isinstance(thing, type) and is_dataclass(thing)):
                continue
            if not thing.__module__.startswith("ostiary."):
                continue
            for field in fields(thing):
                if _says_sealed(field.type):
                    found.add(f"{thing.__name__}.{field.name}")
    assert found == set(CARRIERS), "say here where it is stored, and let re-sealing know that place"


def _says_sealed(declared: object) -> bool:
    return (
        declared is SealedValue
        or (isinstance(declared, str) and "SealedValue" in declared.split("[")[0].split())
        or any(_says_sealed(part) for part in typing.get_args(declared))
    )


@pytest.mark.parametrize("where", SealedIn)
def test_the_engines_know_every_place(where: SealedIn) -> None:
    from ostiary.storage.postgres import sealed_values as postgres  # noqa: PLC0415 - both are called the same
    from ostiary.storage.sqlite import sealed_values as sqlite  # noqa: PLC0415 - both are called the same

    for engine in (sqlite, postgres):
        for statements in (engine._FIND, engine._LOAD, engine._REPLACE):
            assert where.value.partition(".")[0] in statements[where]
    assert KEY_WIDTH[where]
    assert where is SealedIn.TOKENS or where in _KIND
