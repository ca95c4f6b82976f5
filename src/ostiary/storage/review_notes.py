"""Notes of histories that grew: one is appended with each generation, and whoever reads them gathers them."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from ostiary.domain.token import Holder, TenantId, TokenKind
from ostiary.ports.retention import Review

NOTES_AT_ONCE: Final = 5_000
"""The oldest notes that are looked through for a page of reviews."""

Note = tuple[int, str, str, str, int, int]
"""Number, tenant, holder, kind, and the first and the last generation that it speaks of."""


def gather(notes: Iterable[Note], *, limit: int) -> tuple[Review, ...]:
    """At most `limit` reviews, those first whose first note is the oldest, each with all notes of its history."""
    by_history: dict[tuple[str, str, str], list[Note]] = {}
    for note in notes:
        by_history.setdefault(note[1:4], []).append(note)
    return tuple(
        Review(
            tenant=TenantId(tenant),
            holder=Holder(holder),
            kind=TokenKind(kind),
            first=min(note[4] for note in found),
            last=max(note[5] for note in found),
            notes=tuple(note[0] for note in found),
        )
        for (tenant, holder, kind), found in islice(by_history.items(), limit)
    )
