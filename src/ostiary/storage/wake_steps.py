"""What both engines do with the steps of pushes before they become one statement for many."""

from collections.abc import Sequence

from ostiary.ports.storage import WakeStep


def parts_without_repeats(steps: Sequence[WakeStep]) -> list[list[WakeStep]]:
    """The steps in their order, in parts none of which names a channel twice."""
    parts: list[list[WakeStep]] = [[]]
    named: set[str] = set()
    for step in steps:
        if step.enrollment_key in named:
            parts.append([])
            named.clear()
        named.add(step.enrollment_key)
        parts[-1].append(step)
    return parts
