"""The one way to open a database: by its URL."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostiary.ports.clock import Clock
from ostiary.ports.escrow import Escrows
from ostiary.ports.fleet_secrets import FleetSecrets
from ostiary.ports.renewals import Renewals
from ostiary.ports.reports import Reports
from ostiary.ports.resealing import SealedValues
from ostiary.ports.retention import Retention
from ostiary.ports.storage import (
    ApiTokens,
    Challenges,
    Enrollments,
    KeyEpochs,
    Policies,
    PushCertificates,
    Wakes,
)
from ostiary.ports.trace import Trace, no_trace
from ostiary.storage.errors import UnusableDatabaseUrl
from ostiary.storage.postgres.address import SCHEMES
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres
from ostiary.storage.sqlite.storage import SqliteStorage, open_sqlite

_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """An open database, by what it is asked for."""

    enrollments: Enrollments
    challenges: Challenges
    escrows: Escrows
    wakes: Wakes
    push_certificates: PushCertificates
    api_tokens: ApiTokens
    epochs: KeyEpochs
    policies: Policies
    reports: Reports
    fleet_secrets: FleetSecrets
    retention: Retention
    renewals: Renewals
    sealed_values: SealedValues
    is_shared: bool
    """Whether other processes may have the same database open."""
    close: Callable[[], Awaitable[None]]
    """Write what is still to be written, and let others open the database."""
    check: Callable[[], Awaitable[None]]
    """Raise `StorageFailed` unless the database can be read and its writer lives."""


def open_storage(
    database_url: str, clock: Clock, trace: Trace = no_trace, *, create: bool = True
) -> Storage:
    """Open what the URL names: `sqlite:///relative/path`, `sqlite:////absolute/path` or `postgresql://host/name`.

    A PostgreSQL connects when it is first asked for anything; what is wrong with it is said then. A database
    that is not there is made, unless `create` is false.

    Raises:
        UnusableDatabaseUrl: no engine of ours answers to this URL.
        DatabaseMissing: there is no such file, and none is to be made; PostgreSQL says it when it is first asked.
        Unavailable: another process has it, it is a newer version's, or it cannot be opened.
    """
    opened = _open(database_url, clock, trace, create=create)
    return Storage(
        enrollments=opened.enrollments,
        challenges=opened.challenges,
        escrows=opened.escrows,
        wakes=opened.wakes,
        push_certificates=opened.push_certificates,
        api_tokens=opened.api_tokens,
        epochs=opened.epochs,
        policies=opened.policies,
        reports=opened.reports,
        fleet_secrets=opened.fleet_secrets,
        retention=opened.retention,
        renewals=opened.renewals,
        sealed_values=opened.sealed_values,
        is_shared=isinstance(opened, PostgresStorage),
        close=opened.close,
        check=opened.check,
    )


def _open(
    database_url: str, clock: Clock, trace: Trace, *, create: bool
) -> SqliteStorage | PostgresStorage:
    if database_url.partition(":")[0] in SCHEMES:
        return open_postgres(database_url, clock=clock, trace=trace, create=create)
    path = database_url.removeprefix(_SQLITE)
    if path in (database_url, ""):
        # The URL may hold a password, so it is not repeated.
        raise UnusableDatabaseUrl
    return open_sqlite(Path(path), clock=clock, trace=trace, create=create)
