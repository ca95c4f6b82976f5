"""The command line: one file for each noun; it prints and exits.

Nobody calls in here but the shell. Works through web/control.py, by the socket of a running server or in-process.
"""

import sys

try:
    from ostiary.cli.main import main
except (
    KeyboardInterrupt
):  # loading takes a moment, and whoever presses Ctrl-C then wants no traceback
    sys.exit(130)

__all__ = ["main"]
