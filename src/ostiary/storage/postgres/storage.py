"""One node's view of one database: two pools, a bell, and the families of decisions that share them."""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from ostiary.ports.clock import Clock
from ostiary.ports.trace import Trace, no_trace
from ostiary.storage.postgres.address import PostgresAddress, decode_address
from ostiary.storage.postgres.api_tokens import PostgresApiTokens
from ostiary.storage.postgres.bell import Bell
from ostiary.storage.postgres.challenges import PostgresChallenges
from ostiary.storage.postgres.enrollments import PostgresEnrollments
from ostiary.storage.postgres.escrows import PostgresEscrows
from ostiary.storage.postgres.fleet_secrets import PostgresFleetSecrets
from ostiary.storage.postgres.pool import HOT, REPORTS, Pool
from ostiary.storage.postgres.push_certificates import PostgresPushCertificates
from ostiary.storage.postgres.renewals import PostgresRenewals
from ostiary.storage.postgres.reports import PostgresReports
from ostiary.storage.postgres.retention import PostgresRetention
from ostiary.storage.postgres.schema import (
    Migration,
    demand_schema,
    migrate,
    shipped_migrations,
)
from ostiary.storage.postgres.sealed_values import PostgresSealedValues
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.settings import PostgresKeyEpochs, PostgresPolicies
from ostiary.storage.postgres.wakes import PostgresWakes

READ_ONE: Final = "SELECT 1 FROM enrollment LIMIT 1"
_REPORTERS: Final = 2


class PostgresStorage:
    """What one database offers to one node. Close it, or use it as an asynchronous context."""

    def __init__(
        self,
        address: PostgresAddress,
        *,
        clock: Clock,
        trace: Trace,
        seen_within_seconds: float,
        timeout_seconds: float,
        longest_queue: int,
        wait_seconds: float,
        migrations: Sequence[Migration],
        create: bool,
    ) -> None:
        async def prepare(session: Session) -> None:
            if not create:
                await demand_schema(session)
            await migrate(session, clock.now(), migrations)

        self._pool = Pool(
            address,
            size=address.pool_size,
            settings=HOT,
            timeout_seconds=timeout_seconds,
            longest_queue=longest_queue,
            wait_seconds=wait_seconds,
            prepare=prepare,
        )

        async def wait_for_schema(_: Session) -> None:
            await self.check()

        self._reporters = Pool(
            address,
            size=_REPORTERS,
            settings=REPORTS,
            timeout_seconds=4 * timeout_seconds,
            prepare=wait_for_schema,
        )
        self._bell = Bell(address)
        self.enrollments = PostgresEnrollments(
            self._pool,
            trace=trace,
            wake_written=self._bell.ring,
            seen_within_seconds=seen_within_seconds,
            longest_queue=longest_queue,
            wait_seconds=wait_seconds,
        )
        self.challenges = PostgresChallenges(self._pool)
        self.escrows = PostgresEscrows(self._pool)
        self.wakes = PostgresWakes(self._pool, self._bell)
        self.push_certificates = PostgresPushCertificates(self._pool)
        self.api_tokens = PostgresApiTokens(self._pool)
        self.epochs = PostgresKeyEpochs(self._pool, clock)
        self.policies = PostgresPolicies(self._pool, clock)
        self.reports = PostgresReports(self._reporters)
        self.fleet_secrets = PostgresFleetSecrets(self._reporters)
        self.retention = PostgresRetention(self._pool, self._reporters)
        self.renewals = PostgresRenewals(self._pool, self._reporters)
        self.sealed_values = PostgresSealedValues(self._pool, self._reporters)

    async def check(self) -> None:
        """Raise `StorageFailed` unless the database can be reached and read."""
        await self._pool.rows(READ_ONE)

    async def close(self) -> None:
        """Write what is still to be written, and hang up."""
        try:
            await self.enrollments.close()
        finally:
            await self._bell.close()
            await self._reporters.close()
            await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def open_postgres(
    database_url: str,
    *,
    clock: Clock,
    trace: Trace = no_trace,
    seen_within_seconds: float = 30.0,
    timeout_seconds: float = 15.0,
    longest_queue: int = 2048,
    wait_seconds: float = 10.0,
    migrations: Sequence[Migration] | None = None,
    create: bool = True,
) -> PostgresStorage:
    """The storage at this URL. It connects, and brings the schema up to date, when it is first asked for anything.

    Any number of nodes may have it open. What its first use may raise beside the port's errors:
    SchemaTooNew, SchemaAltered, OtherNodesRun; and DatabaseMissing if it has no schema at all and none is to be made.

    Raises:
        UnusableDatabaseUrl: it is no URL of PostgreSQL's.
    """
    return PostgresStorage(
        decode_address(database_url),
        clock=clock,
        trace=trace,
        seen_within_seconds=seen_within_seconds,
        timeout_seconds=timeout_seconds,
        longest_queue=longest_queue,
        wait_seconds=wait_seconds,
        migrations=shipped_migrations() if migrations is None else migrations,
        create=create,
    )
