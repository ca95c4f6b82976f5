"""PgBouncer before a PostgreSQL, for those who open a connection for every request."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.house import ServerDidNotStart, stop
from bench.postgres import unprivileged
from bench.processes import Family

_PORT: Final = 6432
_STARTS_WITHIN_SECONDS: Final = 10.0
_SETTINGS: Final = """\
[databases]
* = host={socket_folder} user=postgres

[pgbouncer]
unix_socket_dir = {folder}
listen_port = {port}
auth_type = any
pool_mode = session
default_pool_size = 16
max_client_conn = 1000
server_reset_query =
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooler:
    """One that runs."""

    process: Family
    socket_folder: Path

    def dsn(self, database: str) -> str:
        """As libpq takes it."""
        return f"host={self.socket_folder} port={_PORT} user=postgres dbname={database} sslmode=disable"


@contextmanager
def running(program: Path, socket_folder: Path, folder: Path) -> Iterator[Pooler]:
    """It, before the server with that socket, until the block ends. Raises `ServerDidNotStart`."""
    folder.mkdir()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        _SETTINGS.format(socket_folder=socket_folder, folder=folder, port=_PORT), encoding="utf-8"
    )
    log_file = folder / "log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [program.resolve(), "-q", settings],
            cwd=folder,
            stdout=log,
            stderr=log,
            **unprivileged(folder),
        )
        try:
            _wait_for(folder / f".s.PGSQL.{_PORT}", process, log_file)
            yield Pooler(process=Family(process.pid), socket_folder=folder)
        finally:
            stop(process)


def _wait_for(opened: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_at = time.monotonic() + _STARTS_WITHIN_SECONDS
    while process.poll() is None and time.monotonic() < ends_at:
        if opened.exists():
            return
        time.sleep(0.02)
    words = log.read_text(errors="replace")[-2000:]
    raise ServerDidNotStart(f"{process.args!s} ended, or took too long; its last words: {words}")
