"""Which generations count as a device's own: whoever else claims its id hands over values too, and is not believed.

Source: check-in-and-commands.md 2.3; escrowed-secrets.md 4.5 (what outlives a relationship).
"""

from collections.abc import Iterable

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow_view import BY_POINTER, is_contested
from ostiary.domain.token import TokenKind, TokenRecord


def own_record(
    device: Enrollment, kind: TokenKind, records: Iterable[TokenRecord]
) -> TokenRecord | None:
    """The token of this kind that the device holds here, or held last; the newest may be of somebody who contests it."""
    pointer = device.pointer(kind)
    held = pointer.record_id if pointer is not None else None
    own = (one for one in records if one.kind is kind and (one.id == held or is_own(one, device)))
    return max(own, key=lambda one: (one.id == held, one.generation), default=None)


def is_own(record: TokenRecord, device: Enrollment) -> bool:
    """Whether this relationship brought it, or one before it that was believed.

    Contesters hand over unlock and bootstrap tokens like anybody, so of these another relationship's says nothing. What
    they tell of other kinds stays a candidate; the rest is what we set, or were told, before the device enrolled again.
    """
    if record.relationship == device.key:
        return True
    return record.kind not in BY_POINTER and not is_contested(record, device)
