"""Where a walk through the ledger stands, as text that both engines keep."""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from ostiary.domain.retention import Generation
from ostiary.ports.retention import START, Histories

Place = tuple[str, str, str]
"""Tenant, holder and kind: the history that was looked at last."""
FIRST: Final = ("", "", "")
"""Before every history; no tenant is without a name."""


def decode_place(place: str) -> Place:
    """The history after which to go on; a place that nobody can read is the beginning."""
    try:
        tenant, holder, kind = json.loads(place)
    except ValueError:
        return FIRST
    return str(tenant), str(holder), str(kind)


def whole_histories(found: Sequence[Generation], limit: int) -> Histories | None:
    """The histories that are whole, of `limit` rows that were asked for; None if not even one is."""
    if len(found) < limit:
        return Histories(generations=tuple(found), place=START)
    histories = [list(some) for _, some in groupby(found, key=_place)]
    if len(histories) == 1:
        return None
    whole = [one for history in histories[:-1] for one in history]
    return Histories(generations=tuple(whole), place=encode_place(_place(whole[-1])))


def encode_place(place: Place) -> str:
    return json.dumps(place)


def _place(one: Generation) -> Place:
    return one.tenant, one.holder, one.kind.value
