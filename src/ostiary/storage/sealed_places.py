"""Sealed values wherever they are: which records of the ledger are sealed, and where a walk through them stands."""

import json
from collections.abc import Iterable
from typing import Final

from ostiary.domain.token import FORM_OF, Form
from ostiary.ports.resealing import Key, SealedIn, SealedPage, SealedSite
from ostiary.ports.retention import START

KEY_WIDTH: Final = {
    SealedIn.TOKENS: 1,
    SealedIn.COMMANDS: 2,
    SealedIn.PUSH_CERTIFICATES: 1,
    SealedIn.PENDING_PUSH_KEYS: 1,
}
_SEALED_KINDS: Final = frozenset(
    kind.value for kind, form in FORM_OF.items() if form is Form.SEALED
)


def is_sealed(kind: str | None, size: int) -> bool:
    """Whether a row holds a sealed value: an empty one is none, and of the ledger's kinds not all are sealed."""
    return size > 0 and (kind is None or kind in _SEALED_KINDS)


def decode_key(where: SealedIn, place: str) -> Key:
    """The key after which to go on; a place that nobody can read is the beginning."""
    first = ("",) * KEY_WIDTH[where]
    try:
        said = json.loads(place)
    except ValueError:
        return first
    if not isinstance(said, list) or len(said) != len(first):
        return first
    return tuple(str(part) for part in said)


def page_of(rows: Iterable[tuple[Key, str | None, SealedSite]], *, limit: int) -> SealedPage:
    """The page that these rows are: each with its key, its kind in the ledger and the value met there."""
    met = list(rows)
    return SealedPage(
        sites=tuple(site for _, kind, site in met if is_sealed(kind, site.size)),
        place=json.dumps(met[-1][0]) if len(met) >= limit else START,
    )
