"""The Go peer, NanoMDM, driven by the same load: one that runs already, or one that is started here from its program.

It is no part of this project, and not fetched by it: whoever wants to compare brings it along.
"""

import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench import pooler, postgres
from bench.contestants import Contestant
from bench.house import ServerDidNotStart, basic_authorization, stop
from bench.processes import Family

NAME: Final = "NanoMDM"
STORAGES: Final = ("pgsql", "pooled", "inmem", "filekv")
"""PostgreSQL; PostgreSQL behind a pooler; nothing but memory; files."""
_TITLES: Final = dict(
    zip(STORAGES, ("PostgreSQL", "PostgreSQL behind PgBouncer", "memory", "files"), strict=True)
)
_USER: Final = "nanomdm"
_API_KEY: Final = "bench"
_DATABASE: Final = "peer"
_STARTS_WITHIN_SECONDS: Final = 20.0


class UnusablePeer(Exception):
    """What was said about the peer does not fit together; what to do follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerProgram:
    """Where its program is, and what stands beside it."""

    binary: Path
    schema: Path | None
    """Its `schema.sql` for PostgreSQL."""
    pooler: Path | None
    """The program of PgBouncer."""


def given(url: str, api_key: str, pid: int | None, database_pid: int | None) -> Contestant:
    """One that runs already and trusts the bench's CA; its cost is known where its processes are named.

    Raises:
        UnusablePeer: it is not on this machine.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost"):
        raise UnusablePeer(
            "--peer-url must be http://127.0.0.1:PORT: the load stays on this machine"
        )
    return Contestant(
        name=NAME,
        port=parts.port or 80,
        authorization=basic_authorization(_USER, api_key),
        server=None if pid is None else Family(pid),
        database=() if database_pid is None else (Family(database_pid),),
    )


@asynccontextmanager
async def started(
    program: PeerProgram, storage: str, folder: Path, authority_pem: bytes
) -> AsyncIterator[Contestant]:
    """It, on a storage of its own, until the block ends.

    Raises:
        UnusablePeer: something is missing for this storage.
        ServerDidNotStart: it ended, or was not ready in time.
    """
    _furnish(folder, authority_pem)
    with ExitStack() as stack:
        dsn, database = str(folder / "files"), tuple[Family, ...]()
        if storage in ("pgsql", "pooled"):
            server = stack.enter_context(postgres.running(folder / "db"))
            await _load_schema(program, server)
            dsn, database = server.dsn(_DATABASE), (server.process,)
            if storage == "pooled":
                before = stack.enter_context(_pooled(program, server, folder / "pooler"))
                dsn, database = before.dsn(_DATABASE), (*database, before.process)
        kind = "pgsql" if storage == "pooled" else storage
        serving = _serving(program.binary, folder, kind, dsn)
        process, port = stack.enter_context(serving)
        yield Contestant(
            name=f"{NAME}, {_TITLES[storage]}",
            port=port,
            authorization=basic_authorization(_USER, _API_KEY),
            server=process,
            database=database,
        )


def _furnish(folder: Path, authority_pem: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_bytes(authority_pem)


async def _load_schema(program: PeerProgram, server: postgres.PostgresServer) -> None:
    if program.schema is None:
        raise UnusablePeer("its storage on PostgreSQL needs --peer-schema PATH, its schema.sql")
    url = await server.make_database(_DATABASE)
    await postgres.run_script(url, program.schema.read_text(encoding="utf-8"))


def _pooled(
    program: PeerProgram, server: postgres.PostgresServer, folder: Path
) -> AbstractContextManager[pooler.Pooler]:
    if program.pooler is None:
        raise UnusablePeer(
            "the storage `pooled` needs --peer-pooler PATH, the program of PgBouncer"
        )
    return pooler.running(program.pooler, server.socket_folder, folder)


@contextmanager
def _serving(binary: Path, folder: Path, storage: str, dsn: str) -> Iterator[tuple[Family, int]]:
    port = _free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NANOMDM_")
    }
    flags = ["-ca", "ca.pem", "-api", _API_KEY, "-listen", f"127.0.0.1:{port}"]
    log_file = folder / "log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [binary.resolve(), *flags, "-storage", storage, "-storage-dsn", dsn],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(port, process, log_file)
            yield Family(process.pid), port
        finally:
            stop(process)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_at = time.monotonic() + _STARTS_WITHIN_SECONDS
    while process.poll() is None and time.monotonic() < ends_at:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    words = log.read_text(errors="replace")[-2000:]
    raise ServerDidNotStart(f"{process.args!s} ended, or took too long; its last words: {words}")


def _free_port() -> int:
    """One that nobody has just now: the peer cannot be told to choose one."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port
