"""A migration that is killed anywhere leaves the house as it was, and nothing that a server would take for one."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from conformance.storage_values import MovedClock
from conformance.transfer_dumps import Dump, Filler, dump_postgres, dump_sqlite, postgres_types
from installation import copy_installation, journal_as_before, make_installation
from ostiary.cli.main import run
from ostiary.settings import load_settings
from ostiary.storage.errors import DatabaseMissing
from ostiary.storage.opening import open_storage
from postgres_server import PostgresServer

BEFORE_COMMIT = (
    "source-locked",
    "target-locked",
    "written-enrollment",
    "compared-enrollment",
    "written-command",
    "compared-token",
    "committing",
)
AFTER_COMMIT = ("committed", "settings-changed")
TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_installation(tmp_path_factory.mktemp("installation"))


@pytest.fixture
def data(template: Path, tmp_path: Path, postgres_url: str) -> Path:
    """An installation on SQLite, with rows in every table."""
    data = copy_installation(template, tmp_path / "data")
    types = asyncio.run(postgres_types(postgres_url))
    Filler(types, random.Random(3), ("a\x00",), (b"b",)).fill(data / "ostiary.sqlite")
    return data


@pytest.fixture
def bare_url(postgres_server: PostgresServer) -> Iterator[str]:
    url = asyncio.run(postgres_server.make_database("template0"))
    yield url
    asyncio.run(postgres_server.drop_database(url))


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[[Path, str, str], int]]:
    """Migrates and is killed at a step; how it ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "e2e.crash_transfer"],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )

    def order(data: Path, to: str, step: str) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([str(data), to, step]) + "\n")
        return int(process.stdout.readline())

    yield order
    process.communicate()
    assert process.returncode == 0


def migrated(data: Path, to: str) -> int:
    with journal_as_before():
        return run(["migrate", "--data", str(data), "--to", to])


def dump(url: str) -> Dump:
    if url.startswith("postgresql"):
        return asyncio.run(dump_postgres(url))
    return dump_sqlite(Path(url.removeprefix("sqlite:///")))


async def tables_of(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(
            await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        )
    finally:
        await connection.close()


def test_killed_on_its_way_to_postgresql_it_leaves_nothing_there(
    data: Path, bare_url: str, killed: Callable[[Path, str, str], int]
) -> None:
    before, settings = dump_sqlite(data / "ostiary.sqlite"), (data / "ostiary.toml").read_text()
    for step in BEFORE_COMMIT:
        assert killed(data, bare_url, step) == -signal.SIGKILL, step
        assert asyncio.run(tables_of(bare_url)) == 0, step
        assert dump_sqlite(data / "ostiary.sqlite") == before, step
        assert (data / "ostiary.toml").read_text() == settings, step
    assert migrated(data, bare_url) == 0
    assert load_settings(data).database_url == bare_url
    assert dump(bare_url) == before


def test_killed_on_its_way_to_sqlite_it_leaves_no_file_of_that_name(
    data: Path, postgres_url: str, killed: Callable[[Path, str, str], int]
) -> None:
    assert migrated(data, postgres_url) == 0
    before, settings = dump(postgres_url), (data / "ostiary.toml").read_text()
    there = data / "new.db"
    for step in BEFORE_COMMIT:
        assert killed(data, str(there), step) == -signal.SIGKILL, step
        with pytest.raises(DatabaseMissing):
            open_storage(f"sqlite:///{there}", MovedClock(), create=False)
        assert (data / "ostiary.toml").read_text() == settings, step
    assert dump(postgres_url) == before
    assert migrated(data, str(there)) == 0
    assert load_settings(data).database_url == f"sqlite:///{there}"
    assert dump_sqlite(there) == before
    assert not list(data.glob("*.migrating"))


@pytest.mark.parametrize("to_postgres", [True, False])
def test_killed_after_its_commit_it_is_whole_and_the_same_command_ends_it(
    data: Path,
    bare_url: str,
    postgres_url: str,
    killed: Callable[[Path, str, str], int],
    to_postgres: bool,
) -> None:
    if not to_postgres:
        assert migrated(data, postgres_url) == 0
    source = load_settings(data).database_url
    target = bare_url if to_postgres else f"sqlite:///{data / 'new.db'}"
    before = dump(source)
    assert killed(data, target, "committed") == -signal.SIGKILL
    assert dump(target) == before
    assert load_settings(data).database_url == source
    assert killed(data, target, "settings-changed") == -signal.SIGKILL
    assert load_settings(data).database_url == target
    assert dump(target) == dump(source) == before


def test_killed_at_any_moment_it_is_all_or_nothing(
    data: Path, bare_url: str, killed: Callable[[Path, str, str], int], long_form: bool
) -> None:
    """Wherever it is: the target holds all of it, or is as empty as before; and the settings name one of the two."""
    before, settings = dump_sqlite(data / "ostiary.sqlite"), data / "ostiary.toml"
    chance, first, there = random.Random(1), settings.read_text(), data / "new.db"
    for number in range(100 if long_form else 12):
        to = bare_url if number % 2 else f"sqlite:///{there}"
        code = killed(data, to, f"{chance.uniform(0.01, 0.5)}")
        assert code in (0, -signal.SIGALRM)
        is_there = asyncio.run(tables_of(bare_url)) > 0 if number % 2 else there.exists()
        if is_there:
            assert dump(to) == before
        named = load_settings(data).database_url
        assert named == (to if code == 0 else named)
        assert is_there or named != to
        assert dump_sqlite(data / "ostiary.sqlite") == before
        there.unlink(missing_ok=True)
        (data / "ostiary.sqlite.moved").unlink(missing_ok=True)
        asyncio.run(empty(bare_url))
        settings.write_text(first)


async def empty(url: str) -> None:
    """Whatever a killed process still had under way is over once this has its locks."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
