"""The command line: one file for each noun; it prints and exits.

Nobody calls in here but the shell. Works through web/control.py, by the socket of a running server or in-process.
"""

from ostiary.cli.main import main

__all__ = ["main"]
