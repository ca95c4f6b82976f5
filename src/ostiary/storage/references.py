"""The references of a queued command as the text in its column, and back."""

import json
from typing import Final

from ostiary.domain.command import Reference
from ostiary.domain.token import TokenKind

_ONLY_UNLOCK: Final = (Reference(key="UnlockToken", kind=TokenKind.UNLOCK),)
_ONLY_UNLOCK_WORD: Final = "latest-unlock"
"""The one reference that there was at first has a word of its own, which nodes of earlier versions understand."""
_KINDS: Final = {kind.value: kind for kind in TokenKind}


def encode_references(references: tuple[Reference, ...]) -> str | None:
    """Compact JSON in plain ASCII, which every engine holds as it is; None where the payload says it all."""
    if not references:
        return None
    if references == _ONLY_UNLOCK:
        return _ONLY_UNLOCK_WORD
    rows = [(one.key, one.kind.value, one.record_id, one.optional) for one in references]
    return json.dumps(rows, separators=(",", ":"))


def decode_references(stored: str | None) -> tuple[Reference, ...]:
    """What `encode_references` was given, in its order."""
    if stored is None:
        return ()
    if stored == _ONLY_UNLOCK_WORD:
        return _ONLY_UNLOCK
    return tuple(
        Reference(key=key, kind=_KINDS[kind], record_id=record_id, optional=optional)
        for key, kind, record_id, optional in json.loads(stored)
    )
