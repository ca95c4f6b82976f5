"""A process to be killed: it moves a house to another database, as `ostiary migrate` does, until a step.

It reads one order a line (data directory, where to, step), forks a child that carries it out, and then says how that
ended. The fork spares the start of an interpreter.
"""

import json
import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from conformance.transfer_progress import Unheard
from ostiary.cli.migrate import carry_out, make_plan
from ostiary.settings import load_settings

MANY_LOOKS = 1_000
"""On a machine with much to do, the server may take its time to see that the last child died."""


def live(data: str, to: str, last_step: str) -> None:
    """Move everything, and die at this step; or after so many seconds, wherever that is."""

    def trace(step: str) -> None:
        if step == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    if last_step[0].isdigit():
        # Nobody handles SIGALRM, so the kernel ends the process wherever it is.
        signal.setitimer(signal.ITIMER_REAL, float(last_step))
    plan = make_plan(load_settings(Path(data)), to, keep_settings=False)
    carry_out(plan, Unheard(), dry=False, trace=trace)


def main() -> None:
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            with patch("ostiary.storage.transfer.postgres.LOOKS", MANY_LOOKS):
                live(*json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
