"""A PostgreSQL that dies, is full, read-only, slow or overrun: devices see 503, nothing is half done, and it heals."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from e2e.door.conftest import Door, SignedDevice, open_door
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind
from ostiary.formats import plist
from ostiary.storage.postgres.pool import HOT
from postgres_server import PATIENCE_SECONDS, PostgresServer

FAULTS = {
    "disk full": "53100",
    "out of memory": "53200",
    "an I/O error": "58030",
    "a damaged page": "XX001",
    "cancelled": "57014",
    "admin shutdown": "57P01",
    "something internal": "XX000",
}
POOL_SIZE = 4
STATEMENT, COMMIT = "BEFORE", "AT COMMIT"


@asynccontextmanager
async def door_on(url: str, template: Path, tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(template, tmp_path, database=f"{url}&pool_size={POOL_SIZE}") as opened:
        yield opened


@pytest.fixture
async def pg_door(template: Path, tmp_path: Path, postgres_url: str) -> AsyncIterator[Door]:
    """A door before PostgreSQL."""
    async with door_on(postgres_url, template, tmp_path) as opened:
        yield opened


@pytest.fixture
async def impatient_door(
    template: Path, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Door]:
    """A door before PostgreSQL that gives a statement up after a second, and a lock sooner; not after many seconds."""
    monkeypatch.setitem(HOT, "lock_timeout", "50ms")
    monkeypatch.setitem(HOT, "statement_timeout", "1s")
    async with door_on(postgres_url, template, tmp_path) as opened:
        yield opened


@pytest.fixture
async def operator(postgres_url: str) -> AsyncIterator[Any]:
    """A connection of somebody who may do anything to the database."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def holder(postgres_url: str) -> AsyncIterator[Any]:
    """A connection of somebody who holds locks."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def fail_with(operator: Any, state: str, when: str = STATEMENT) -> None:
    """Let every new ledger record meet this error: in its statement, or only when the transaction commits."""
    await operator.execute(f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$
    """)
    if when == COMMIT:
        await operator.execute(
            "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON token DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION fail()"
        )
    else:
        await operator.execute(
            "CREATE TRIGGER fail BEFORE INSERT ON token FOR EACH ROW EXECUTE FUNCTION fail()"
        )


async def mend(operator: Any) -> None:
    await operator.execute("DROP TRIGGER fail ON token; DROP FUNCTION fail")


def assert_told_to_come_again(answer: httpx.Response) -> None:
    """503 with Retry-After: the device repeats it; never anything that would make it leave. (TU-7, 3.7)"""
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


async def escrow(device: SignedDevice, value: bytes) -> httpx.Response:
    return await device.send("SetBootstrapToken", BootstrapToken=value)


async def escrowed(device: SignedDevice) -> bytes:
    answer = await device.send("GetBootstrapToken")
    assert answer.status_code == 200
    return plist.read_dict(answer.content).data("BootstrapToken")


async def generations(door: Door, device: SignedDevice) -> int:
    records = await door.house.storage.reports.token_history(DEFAULT_TENANT, Holder(device.udid))
    return sum(record.kind is TokenKind.BOOTSTRAP for record in records)


async def burst(devices: list[SignedDevice], value: bytes) -> list[httpx.Response]:
    return await asyncio.gather(*(escrow(device, value) for device in devices))


async def assert_it_goes_on(door: Door, devices: list[SignedDevice], value: bytes) -> None:
    """Everybody repeats, is answered, and has what was repeated once."""
    for answer in await burst(devices, value):
        assert answer.status_code == 200
    for device in devices:
        assert await escrowed(device) == value
    assert await door.device().enroll()


@pytest.mark.case("CI-04")
@pytest.mark.parametrize("when", [STATEMENT, COMMIT])
@pytest.mark.parametrize("state", FAULTS.values(), ids=FAULTS)
async def test_a_failing_database_is_answered_503_and_served_again_once_it_is_mended(
    pg_door: Door, operator: Any, state: str, when: str
) -> None:
    """TU-7, CI-04: refused as a whole, whether the statement fails or the commit does."""
    devices = [await pg_door.device().enroll() for _ in range(3)]
    await burst(devices, b"before")
    await fail_with(operator, state, when)
    for _ in range(2):
        for answer in await burst(devices, b"after"):
            assert_told_to_come_again(answer)
    assert_told_to_come_again(await devices[0].token_update(Token=b"\x02" * 32))
    assert_told_to_come_again(await pg_door.device().authenticate())
    for device in devices:
        assert await escrowed(device) == b"before"
        assert await generations(pg_door, device) == 1
    await mend(operator)
    await assert_it_goes_on(pg_door, devices, b"after")
    assert [await generations(pg_door, device) for device in devices] == [2, 2, 2]


async def test_a_database_that_became_read_only_is_answered_503_until_it_is_not(
    pg_door: Door, operator: Any
) -> None:
    """As after a fail-over, to a standby that nobody has promoted yet; who only reads is served. (25006)"""
    devices = [await pg_door.device().enroll() for _ in range(3)]
    await burst(devices, b"before")
    name = await operator.fetchval("SELECT current_database()")
    await operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await hang_up_on_everybody(operator)
    try:
        for _ in range(3):
            for answer in await burst(devices, b"after"):
                assert_told_to_come_again(answer)
        assert await escrowed(devices[0]) == b"before"
    finally:
        await operator.execute("SET default_transaction_read_only = off")
        await operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    # A connection that has only read so far still believes it, and is replaced by its first refusal.
    repeated = [(await escrow(devices[0], b"after")).status_code for _ in range(POOL_SIZE + 1)]
    assert repeated[-1] == 200
    assert set(repeated) <= {200, 503}
    await assert_it_goes_on(pg_door, devices, b"after")


async def hang_up_on_everybody(operator: Any, *, but: int = 0) -> None:
    await operator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), {but})"
    )


async def test_connections_that_are_cut_in_mid_statement_are_answered_503_and_replaced(
    pg_door: Door, operator: Any, holder: Any
) -> None:
    """An administrator hangs up while decisions wait for a row. (57P01)"""
    devices = [await pg_door.device().enroll() for _ in range(3)]
    async with holder.transaction(), asyncio.TaskGroup() as group:
        await holder.execute("SELECT 1 FROM enrollment FOR UPDATE")
        speaking = [group.create_task(escrow(device, b"value")) for device in devices]
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await operator.fetchval(waiting) < len(devices):  # noqa: ASYNC110 - no bell rings
                await asyncio.sleep(0.002)
        await hang_up_on_everybody(operator, but=holder.get_server_pid())
        for answer in await asyncio.gather(*speaking):
            assert_told_to_come_again(answer)
    assert [await generations(pg_door, device) for device in devices] == [0, 0, 0]
    await assert_it_goes_on(pg_door, devices, b"value")


async def test_a_row_that_somebody_holds_costs_503_and_nothing_else(
    impatient_door: Door, operator: Any
) -> None:
    devices = [await impatient_door.device().enroll() for _ in range(6)]
    async with operator.transaction():
        await operator.execute("SELECT 1 FROM enrollment FOR UPDATE")
        for answer in await burst(devices, b"value"):
            assert_told_to_come_again(answer)
    await assert_it_goes_on(impatient_door, devices, b"value")


async def test_a_database_that_takes_longer_than_we_wait_is_answered_503(
    impatient_door: Door, operator: Any
) -> None:
    """The statement is taken back by the database itself. (statement_timeout, 57014)"""
    devices = [await impatient_door.device().enroll() for _ in range(3)]
    await operator.execute("""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(60); RETURN new; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON token FOR EACH ROW EXECUTE FUNCTION fail()
    """)
    for answer in await burst(devices, b"value"):
        assert_told_to_come_again(answer)
    await mend(operator)
    assert [await generations(impatient_door, device) for device in devices] == [0, 0, 0]
    await assert_it_goes_on(impatient_door, devices, b"value")


@pytest.mark.parametrize("death", ["kill", "shut_down"])
async def test_a_restart_in_a_burst_loses_nothing_that_was_acknowledged(
    pg_door: Door, postgres_server: PostgresServer, death: str
) -> None:
    """Some are answered 200, which holds, and some 503, who come again; nobody anything else."""
    devices = [await pg_door.device().enroll() for _ in range(16)]
    acknowledged: list[SignedDevice] = []
    answers: list[int] = []

    async def speak(device: SignedDevice) -> None:
        answer = await escrow(device, b"value")
        answers.append(answer.status_code)
        if answer.status_code == 200:
            acknowledged.append(device)
            if len(acknowledged) == 4:
                getattr(postgres_server, death)()

    await asyncio.gather(*(speak(device) for device in devices))
    assert (await pg_door.client.get("/readyz")).status_code == 503
    assert_told_to_come_again(await devices[0].report())
    await asyncio.to_thread(postgres_server.restart)
    assert set(answers) <= {200, 503}
    for device in acknowledged:
        assert await escrowed(device) == b"value"
        assert await generations(pg_door, device) == 1
    assert (await pg_door.client.get("/readyz")).status_code == 200
    await assert_it_goes_on(pg_door, devices, b"value")
    assert [await generations(pg_door, device) for device in devices] == [1] * len(devices)


@pytest.fixture
def crowded_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that takes few connections."""
    server = PostgresServer(max_connections="8", superuser_reserved_connections="0")
    asyncio.run(server.make_template())
    yield server
    server.stop()


async def test_a_database_without_a_free_connection_is_answered_503_until_there_is_one(
    crowded_server: PostgresServer, template: Path, tmp_path: Path
) -> None:
    """53300: somebody else has used them all up."""
    url = await crowded_server.make_database()
    async with door_on(url, template, tmp_path) as door:
        devices = [await door.device().enroll() for _ in range(3)]
        taken = [await asyncpg.connect(url)]
        await hang_up_on_everybody(taken[0])
        while True:
            try:
                taken.append(await asyncpg.connect(url))
            except asyncpg.TooManyConnectionsError:
                break
        for _ in range(2):
            for answer in await burst(devices, b"value"):
                assert_told_to_come_again(answer)
        for connection in taken:
            connection.terminate()
        await wait_for_room(url)
        await assert_it_goes_on(door, devices, b"value")


async def wait_for_room(url: str) -> None:
    """The server notices a moment later that they hung up."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                connection = await asyncpg.connect(url)
            except asyncpg.TooManyConnectionsError:
                await asyncio.sleep(0.005)
                continue
            # Ours may be back already: the one that listens tries again by itself.
            clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'ostiary'"
            others = await connection.fetchval(clients)
            await connection.close()
            if others == 1:
                return
