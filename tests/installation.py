"""One `ostiary init` for a whole test run; each test gets a copy, since making keys takes a while."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from ostiary.cli.main import run

URL = "https://mdm.example.org"


@cache
def _template() -> TemporaryDirectory[str]:
    directory = TemporaryDirectory(prefix="ostiary-installation-")
    code = run(["init", "--data", f"{directory.name}/data", "--url", URL, "--listen", "127.0.0.1:0"])
    assert code == 0
    return directory


def copy_installation(to: Path) -> Path:
    """A fresh installation in the directory `to`, which must not exist yet."""
    return Path(shutil.copytree(f"{_template().name}/data", to))
