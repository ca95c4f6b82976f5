"""The backup that docs/operating.md names is whole while a server writes, and can be served in the place of the old one."""

import re
import subprocess
from pathlib import Path

from conformance.transfer_dumps import dump_sqlite
from ostiary.cli.main import run
from served import served

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


def documented_command() -> str:
    """The one line that a person is to copy."""
    (line,) = re.findall(r"^\(umask 077; .*$", PAGE.read_text(), flags=re.MULTILINE)
    return str(line)


def test_a_backup_that_is_taken_while_a_server_runs_is_whole(data: Path) -> None:
    """What was committed a moment ago is in the write-ahead log alone. (docs/operating.md)"""
    token = ["api-token", "create", "prometheus", "--scope", "read"]
    with served(data) as server:
        assert run(token) == 0  # through the control socket
        assert (data / "ostiary.sqlite-wal").stat().st_size > 0
        subprocess.run(documented_command(), shell=True, cwd=data, check=True)
        assert run([*token, "--replace"]) == 0  # the server has not noticed anything
        assert server.stop() == 0
    backup = data / "backup.sqlite"
    assert backup.stat().st_mode & 0o777 == 0o600
    names = {dict(row)["name"] for row in dump_sqlite(backup)["api_token"]}
    assert "prometheus" in names
    for end in ("", "-wal", "-shm"):
        (data / f"ostiary.sqlite{end}").unlink(missing_ok=True)
    backup.rename(data / "ostiary.sqlite")
    with served(data) as server:
        assert run([*token, "--replace"]) == 0
        assert server.stop() == 0


def test_a_backup_may_be_taken_while_nobody_runs(data: Path) -> None:
    before = dump_sqlite(data / "ostiary.sqlite")
    subprocess.run(documented_command(), shell=True, cwd=data, check=True)
    assert dump_sqlite(data / "backup.sqlite") == before
    assert run(["policy", "list"]) == 0
