"""`ostiary` with the times of a rotation cut short: what takes minutes takes seconds, in the same order.

Stands before the command: `python quick_rotation.py python -m ostiary serve …`.
"""

import sys
from datetime import timedelta
from functools import partial

from ostiary import app, house
from ostiary.cli.main import main
from ostiary.services import key_rotation
from ostiary.services.resealing import ResealingPace

REFRESH = timedelta(seconds=0.2)
BEFORE = (sys.executable, __file__)


def cut_short() -> None:
    """An epoch rests for as many looks as in real life."""
    key_rotation.REFRESH = REFRESH  # type: ignore[misc]  # final for everybody else
    app.BREATH_SECONDS = 0.0  # type: ignore[misc]  # as above
    house.REST = 15 * REFRESH  # type: ignore[attr-defined]  # more looks, for a machine that is busy
    house.RESEALING_PACE = ResealingPace(  # type: ignore[misc]  # as above
        batch=100, together=30, pause=timedelta(milliseconds=2), settle=timedelta(seconds=1)
    )
    app.run_resealing_loop = partial(  # type: ignore[attr-defined]  # looks more often
        app.run_resealing_loop,  # type: ignore[attr-defined]  # the real one
        every=REFRESH,
    )


if __name__ == "__main__":
    cut_short()
    first = sys.argv.index("ostiary")
    sys.argv = sys.argv[first:]
    main()
