"""Whether the clock may be believed by work that a wrong one would turn into harm: forgetting, mass renewal."""

from datetime import datetime, timedelta
from typing import Final

import structlog

from ostiary.ports.clock import Clock
from ostiary.ports.retention import Walks

CLOCK_JUMP: Final = timedelta(days=7)
"""Between two looks: more than anybody's clock drifts, and no harm where a server was off for so long."""
CLOCK_SETTLES: Final = timedelta(days=1)
"""After a jump; by then somebody has noticed, for no certificate is valid to a clock that is years ahead."""

log = structlog.get_logger()


class ClockTrust:
    """Looks at the clock from time to time, and remembers in the database what it showed."""

    def __init__(self, walks: Walks, clock: Clock, work: str) -> None:
        """`work` names the places in which it remembers: each work looks at its own times."""
        self._walks = walks
        self._clock = clock
        self._work = work
        self._seen_at, self._jumped_at = f"{work} clock", f"{work} clock jumped"

    async def is_given(self) -> bool:
        """Whether time has passed as it does; a server that was off for long waits a day, too. (users.md 5.2, promise 10)"""
        now = self._clock.now()
        seen, jumped = [
            datetime.fromisoformat(place) if (place := await self._walks.load_place(name)) else None
            for name in (self._seen_at, self._jumped_at)
        ]
        await self._walks.save_place(self._seen_at, now.isoformat())
        if seen is not None and now - seen > CLOCK_JUMP:
            await self._walks.save_place(self._jumped_at, now.isoformat())
            log.warning(
                "clock_jumped", work_waits=self._work, seen=seen.isoformat(), now=now.isoformat()
            )
            return False
        return jumped is None or not timedelta(0) <= now - jumped < CLOCK_SETTLES
