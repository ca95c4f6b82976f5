"""What both engines demand of a change of the wrapped keys."""

from collections.abc import Sequence

from ostiary.ports.storage import EpochRow


def demand_kept(before: Sequence[EpochRow], after: Sequence[EpochRow]) -> None:
    """Raise ValueError if an epoch would be lost: what is sealed under it would never open again."""
    lost = {(row.tenant, row.epoch) for row in before} - {(row.tenant, row.epoch) for row in after}
    if lost:
        raise ValueError("a change of keys keeps every epoch")
