"""Which devices of a whole fleet should have a secret here that is not held, or is in doubt: walked through in pages."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow_view import is_shown
from ostiary.domain.secret_gap import Finding, Gap, NotTold, Report
from ostiary.domain.secret_survey import SURVEYED, survey
from ostiary.domain.token import TenantId, TokenKind
from ostiary.errors import Malformed
from ostiary.ports.clock import Clock
from ostiary.ports.fleet_secrets import DeviceSecrets, FleetSecrets
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.secrets_desk import PlaceUnknown

_ROWS_AT_ONCE: Final = 100
_MOST_ROWS: Final = 2_000
"""Looked at for one page; the next page goes on behind them."""
_EXAMPLES: Final = 5
_PLACE: Final = re.compile(r".+/[0-9a-f]{32}", re.DOTALL)
"""An id, which may hold anything, and the key of its row."""
_KINDS: Final = tuple(kind for kind in TokenKind if is_shown(kind))


class KindNotSurveyed(Malformed):
    """No device owes a token of this kind, so none can be missing."""

    hint = "Leave --kind out to look for all of them; `ostiary token list --kind KIND` lists what is held of any kind."


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceGaps:
    """A device with what is missing or in doubt of it."""

    device: Enrollment
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """Devices that have not told what the rules go by."""

    devices: int
    first: tuple[EnrollmentId, ...]
    """A few of them, in the order of ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingPage:
    """A stretch of the fleet: what was found, and of how many devices."""

    found: tuple[DeviceGaps, ...]
    looked_at: int
    by_kind: Mapping[TokenKind, int]
    """Gaps of each kind that has any."""
    not_known: Mapping[Report, Unanswered]
    after: str | None
    """Where the walk goes on; None: the fleet ends here."""


@dataclass(slots=True)
class _Walk:
    """What a walk has come by so far."""

    found: list[DeviceGaps] = field(default_factory=list)
    looked_at: int = 0
    by_kind: Counter[TokenKind] = field(default_factory=Counter)
    not_known: dict[Report, list[EnrollmentId]] = field(default_factory=dict)

    def note(self, device: Enrollment, findings: tuple[Finding, ...]) -> None:
        self.looked_at += 1
        gaps = tuple(one for one in findings if isinstance(one, Gap))
        if gaps:
            self.found.append(DeviceGaps(device=device, gaps=gaps))
            self.by_kind.update(one.kind for one in gaps)
        for report in {one.report for one in findings if isinstance(one, NotTold)}:
            self.not_known.setdefault(report, []).append(device.id)

    def page(self, after: str | None) -> MissingPage:
        return MissingPage(
            found=tuple(self.found),
            looked_at=self.looked_at,
            by_kind={kind: self.by_kind[kind] for kind in SURVEYED if self.by_kind[kind]},
            not_known={
                report: Unanswered(devices=len(ids), first=tuple(ids[:_EXAMPLES]))
                for report in Report
                if (ids := self.not_known.get(report))
            },
            after=after,
        )


class MissingSecrets:
    """Reads, and decides nothing. Neither side ever holds more than a page."""

    def __init__(self, fleet: FleetSecrets, clock: Clock) -> None:
        self._fleet = fleet
        self._clock = clock

    async def list_missing(
        self, tenant: TenantId, *, kind: TokenKind | None, limit: int, after: str | None
    ) -> MissingPage:
        """The next devices with gaps, at most `limit`, in the order of ids; a page may have none and the walk go on.

        Raises:
            KindNotSurveyed, PlaceUnknown
        """
        if kind is not None and kind not in SURVEYED:
            raise KindNotSurveyed(f"no device owes a {kind}; look for {', '.join(SURVEYED)}")
        if after is not None and not _PLACE.fullmatch(after):
            raise PlaceUnknown(after=after)
        walk, place, now = _Walk(), after, self._clock.now()
        for _ in range(_MOST_ROWS // _ROWS_AT_ONCE):
            page = await self._fleet.list_secrets(tenant, _KINDS, limit=_ROWS_AT_ONCE, after=place)
            for one in page.devices:
                walk.note(one.device, _findings(one, kind, now))
                if len(walk.found) == limit:
                    return walk.page(f"{one.device.id}/{one.device.key}")
            if (place := page.after) is None:
                break
        return walk.page(place)


def _findings(one: DeviceSecrets, kind: TokenKind | None, now: datetime) -> tuple[Finding, ...]:
    found = survey(one.device, one.escrows, one.records, one.sheets, now)
    return found if kind is None else tuple(each for each in found if each.kind is kind)
