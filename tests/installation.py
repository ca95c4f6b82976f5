"""One `ostiary init` for a whole test run; each test gets a copy, since making keys takes a while."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from ostiary.cli.main import run

URL = "https://mdm.example.org"


def make_installation(directory: Path) -> Path:
    """A new installation, with its keys; not to be called within an event loop."""
    data = directory / "data"
    with journal_as_before():
        code = run(["init", "--data", str(data), "--url", URL, "--listen", "127.0.0.1:0"])
    assert code == 0
    return data


def copy_installation(template: Path, to: Path) -> Path:
    """The same installation again in the directory `to`, which must not exist yet."""
    return Path(shutil.copytree(template, to))


@contextmanager
def journal_as_before() -> Iterator[None]:
    """Undo what a command does to the logging of its process, which is usually its own."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.handlers, root.level = handlers, level
