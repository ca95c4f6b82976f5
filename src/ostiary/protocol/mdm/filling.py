"""Filling the holes that a queued command has for secrets."""

from collections.abc import Mapping

from ostiary.formats.plist import PlistValue


def fill(command: dict[str, PlistValue], key: str, value: PlistValue) -> None:
    """Put `value` where `key` says: `NewPassword`, or `ReturnToService/BootstrapToken` for one inside another.

    The dictionaries on the way are made where they are missing; those that are there are copied, not changed.
    """
    first, slash, rest = key.partition("/")
    if not slash:
        command[first] = value
        return
    before = command.get(first)
    inner = dict(before) if isinstance(before, Mapping) else {}
    fill(inner, rest, value)
    command[first] = inner
