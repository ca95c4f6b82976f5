"""Values that may be in force though no pointer names them: given up for another, while nobody could say what became of them.

The row of a secret has room for two values; the ledger remembers the others. Source: escrowed-secrets.md 4.0.3 row 9.
"""

from collections.abc import Iterable
from typing import Final

from ostiary.domain.escrow import MANNERS, Escrow, EscrowState
from ostiary.domain.escrow_booking import FETCHED
from ostiary.domain.escrow_lifecycle import Cause
from ostiary.domain.token import TokenRecord, TokenState

_ENDS: Final = tuple(cause.value for cause in Cause)


def given_up(escrow: Escrow | None, records: Iterable[TokenRecord]) -> tuple[TokenRecord, ...]:
    """The generations that were in doubt when another was asked for, and of which nobody has learned more since.

    Every later promotion, proof or end of the relationship makes them history.
    """
    if escrow is None or escrow.state is EscrowState.SETTLED or escrow.trouble is None:
        return ()
    known = tuple(records)
    current = next((one for one in known if one.id == escrow.current), None)
    ended = (
        one for one in known if one.state is TokenState.RETIRED and one.cause.startswith(_ENDS)
    )
    first = max((one.generation for one in (current, *ended) if one is not None), default=0)
    doubtful = (
        one
        for one in known
        if one.state is TokenState.SUSPECT
        and one.id not in (escrow.current, escrow.candidate)
        and one.generation > first
        and not _is_outdated(one, current)
    )
    return tuple(sorted(doubtful, key=lambda one: one.generation))


def _is_outdated(doubted: TokenRecord, current: TokenRecord | None) -> bool:
    """Whether the device itself has named the current one since. Of a kind that no device names, nothing is outdated by time."""
    if current is None or current.proven_at is None:
        return False
    manner = MANNERS.get(current.kind)
    is_named = current.kind in FETCHED or (manner is not None and manner.verify is not None)
    return is_named and doubted.changed_at < current.proven_at
