"""How often each certificate fetched its bootstrap token lately: counted in this process, where it costs no statement."""

from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.token import Fingerprint
from ostiary.errors import Unavailable

MOST_READS: Final = 1000
"""A day, of one certificate: beyond any use, and answered no more until the day is over."""
_DAY: Final = timedelta(days=1)
_MOST_REMEMBERED: Final = 20_000
"""Certificates; those that began longest ago are forgotten first."""


class BootstrapTokenAskedTooOften(Unavailable):
    """This certificate fetched its bootstrap token so often today that it gets no further answer."""

    hint = (
        "`ostiary doctor` shows the alert. A user logs in without it meanwhile. Find out who sends these requests: "
        "the device, or somebody with a copy of one."
    )


class BootstrapReads:
    """Days of reads by certificate. Each process of a node counts its own: the bound is one for each of them."""

    def __init__(self) -> None:
        self._days: dict[Fingerprint, tuple[datetime, int]] = {}

    def count(self, fingerprint: Fingerprint, now: datetime) -> int:
        """This certificate's reads since its day began, this one included.

        Raises:
            BootstrapTokenAskedTooOften
        """
        began, reads = self._days.get(fingerprint, (now, 0))
        if not began <= now < began + _DAY:
            del self._days[fingerprint]
            began, reads = now, 0
        if reads >= MOST_READS:
            raise BootstrapTokenAskedTooOften(fingerprint=fingerprint)
        self._days[fingerprint] = (began, reads + 1)
        if len(self._days) > _MOST_REMEMBERED:
            del self._days[next(iter(self._days))]
        return reads + 1
