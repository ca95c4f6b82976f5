"""Ctrl-C at any moment ends a command without a traceback."""

import subprocess
import sys
from typing import Final

_LOADING: Final = """
import sys


class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "ostiary.cli.main":
            raise KeyboardInterrupt


sys.meta_path.insert(0, Interrupted())
import ostiary.__main__
"""


def test_an_interrupt_while_the_program_is_loading_ends_it_quietly() -> None:
    """As a shell says of a command that Ctrl-C ended: 130. (users.md 3.1)"""
    ended = subprocess.run(
        [sys.executable, "-c", _LOADING], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
