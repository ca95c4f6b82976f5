"""Named steps of a decision, told as they pass: crash tests kill the process there, profilers count."""

from collections.abc import Callable

Trace = Callable[[str], None]
"""Called with a step's name in kebab-case, e.g. `sealed`, `loaded`, `ruled`, `written`, `committing`, `committed`."""


def no_trace(step: str) -> None:
    """Tell nobody."""
