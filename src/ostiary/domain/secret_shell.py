"""Ids as they stand in a command that is printed to be copied: devices choose them, and a shell reads more than letters."""

from shlex import quote


def as_arguments(*ids: str) -> str:
    """The ids as a shell takes them, and a command line as ids: options stand before them, never behind.

    Behind `--` nothing is an option, not even an id that looks like one.
    """
    ending = ("--",) if any(one.startswith("-") for one in ids) else ()
    return " ".join((*ending, *map(quote, ids)))
