"""A house that the settings still name once it is open: between reading them and opening it, it may be moved."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ostiary.errors import Unavailable
from ostiary.house import House, open_house
from ostiary.settings import Settings, load_settings
from ostiary.storage.errors import DatabaseMoved


class SettingsChanged(Unavailable):
    """The settings name another database than a moment ago: the installation has just been moved."""

    hint = "Start again, which opens the new one. Nothing was served from the old one."


@asynccontextmanager
async def open_current_house(settings: Settings) -> AsyncIterator[House]:
    """`open_house`, refused if the settings name another database by the time that it is open.

    `ostiary migrate` changes them while it still keeps others off the old database, and looks afterwards who is
    there; so whoever opened that one either sees the change here, or is seen. (docs/decisions/0013)

    Raises:
        SettingsChanged, and what `open_house` raises.
    """
    try:
        async with open_house(settings) as house:
            _demand_current(settings)
            yield house
    except DatabaseMoved:
        # Marked as moved before the settings change, so a moment later they may say where to.
        _demand_current(settings)
        raise


def _demand_current(settings: Settings) -> None:
    if load_settings(settings.data).database_url != settings.database_url:
        raise SettingsChanged
