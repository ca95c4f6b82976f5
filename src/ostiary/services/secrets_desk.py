"""What operators see of secrets without seeing any: the health of bootstrap tokens, and where each escrowed secret stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ostiary.domain.bootstrap_facts import read_bootstrap_facts
from ostiary.domain.bootstrap_health import (
    BootstrapHealth,
    examine_bootstrap,
    is_worth_listing,
)
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Standing
from ostiary.domain.erasure import Erasure
from ostiary.domain.escrow_view import SecretView, is_shown, view_secrets
from ostiary.domain.facts import FactSheet
from ostiary.domain.operator import NotADevice
from ostiary.domain.secret_own import own_record
from ostiary.domain.severity import Severity
from ostiary.domain.token import Holder, TenantId, TokenKind, TokenRecord
from ostiary.errors import Malformed
from ostiary.ports.clock import Clock
from ostiary.ports.escrow import Escrows
from ostiary.ports.reports import Reports
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.erasures import find_erasure
from ostiary.services.finding import find_enrollments

_ROWS_AT_ONCE: Final = 500
_MOST_ROWS: Final = 5_000
"""Looked at for one page; the next page goes on behind them."""


class PlaceUnknown(Malformed):
    """The list cannot go on from there: no list of this kind ended at this place."""

    hint = "Copy --after from the last line of the list that was cut off; without it, the list begins at its start."


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A device with the health of its bootstrap token."""

    device: Enrollment
    health: BootstrapHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsOf:
    """A device with its escrowed secrets, and every generation of them."""

    device: Enrollment
    secrets: tuple[SecretView, ...]
    generations: tuple[TokenRecord, ...]
    erasure: Erasure | None
    """What became of its last erase: whether these secrets are of any use."""


class SecretsDesk:
    """Reads, and decides nothing."""

    def __init__(self, reports: Reports, escrows: Escrows, clock: Clock) -> None:
        self._reports = reports
        self._escrows = escrows
        self._clock = clock

    async def bootstrap_of(self, tenant: TenantId, name: str) -> Examined:
        """One device's, by its id or serial number.

        Raises:
            EnrollmentUnknown, SerialAmbiguous, NotADevice
        """
        device = await self._device(tenant, name)
        (examined,) = await self._examine(tenant, (device,))
        return examined

    async def list_bootstrap(
        self, tenant: TenantId, *, at_least: Severity, limit: int, after: str | None
    ) -> tuple[tuple[Examined, ...], str | None]:
        """Devices that are worth listing, worst first, at most `limit`; and where the list goes on, None at its end.

        The fleet is walked through once for each severity, so that neither side ever holds more than a page.

        Raises:
            PlaceUnknown
        """
        severity, place = _place(after)
        found: list[Examined] = []
        for _ in range(_MOST_ROWS // _ROWS_AT_ONCE):
            rows = await self._reports.list_enrollments(
                tenant, state=None, limit=_ROWS_AT_ONCE, after=place
            )
            devices = [row for row in rows if _is_listed(row)]
            for one in await self._examine(tenant, devices):
                if one.health.severity is severity:
                    found.append(one)
                    if len(found) == limit:
                        return tuple(found), _after(severity, one.device)
            if len(rows) == _ROWS_AT_ONCE:
                place = _key(rows[-1])
            elif severity == at_least:
                return tuple(found), None
            else:
                severity, place = Severity(severity - 1), None
        return tuple(found), f"{severity.name.lower()}/{place or ''}"

    async def secrets_of(self, tenant: TenantId, name: str) -> SecretsOf:
        """Where every escrowed secret of one device stands, without values.

        Raises:
            EnrollmentUnknown, SerialAmbiguous, NotADevice
        """
        device = await self._device(tenant, name)
        holder = Holder(device.id)
        escrows = await self._escrows.find(tenant, holder)
        history = await self._reports.token_history(tenant, holder)
        sheets = await self._reports.list_facts((device.key,))
        records = tuple(one for one in history if one.holder == holder and is_shown(one.kind))
        return SecretsOf(
            device=device,
            secrets=view_secrets(device, escrows, records, sheets, self._clock.now()),
            generations=records,
            erasure=await find_erasure(self._reports, device),
        )

    async def id_of(self, tenant: TenantId, name: str) -> EnrollmentId:
        """Which enrollment is meant by an id or a serial number. Raises EnrollmentUnknown, SerialAmbiguous, NotADevice."""
        return (await self._device(tenant, name)).id

    async def _device(self, tenant: TenantId, name: str) -> Enrollment:
        row, *_ = await find_enrollments(self._reports, tenant, name)
        if row.is_user_channel:
            raise NotADevice(enrollment_id=row.id)
        return row

    async def _examine(self, tenant: TenantId, devices: Sequence[Enrollment]) -> list[Examined]:
        if not devices:
            return []
        records = await self._reports.newest_tokens(
            tenant, TokenKind.BOOTSTRAP, [Holder(row.id) for row in devices]
        )
        newest = {record.holder: record for record in records}
        own = {row.key: await self._own(row, newest.get(Holder(row.id))) for row in devices}
        sheets: dict[EnrollmentKey, list[FactSheet]] = {}
        for sheet in await self._reports.list_facts([row.key for row in devices]):
            sheets.setdefault(sheet.enrollment_key, []).append(sheet)
        now = self._clock.now()
        return [
            Examined(
                device=row,
                health=examine_bootstrap(
                    row,
                    own[row.key],
                    read_bootstrap_facts(sheets.get(row.key, ())),
                    now,
                ),
            )
            for row in devices
        ]

    async def _own(self, row: Enrollment, newest: TokenRecord | None) -> TokenRecord | None:
        """What `own_record` says, without reading a history where the newest tells already."""
        held = row.bootstrap.record_id if row.bootstrap is not None else None
        if newest is None or newest.id == held or (held is None and newest.relationship == row.key):
            return newest
        history = await self._reports.token_history(row.tenant, Holder(row.id))
        return own_record(row, TokenKind.BOOTSTRAP, history)


def _is_listed(row: Enrollment) -> bool:
    return row.standing is Standing.CURRENT and is_worth_listing(row)


def _key(row: Enrollment) -> str:
    return f"{row.id}/{row.key}"


def _after(severity: Severity, row: Enrollment) -> str:
    return f"{severity.name.lower()}/{_key(row)}"


def _place(after: str | None) -> tuple[Severity, str | None]:
    if after is None:
        return Severity.CRITICAL, None
    word, _, place = after.partition("/")
    try:
        return Severity[word.upper()], place or None
    except KeyError:
        raise PlaceUnknown(after=after) from None
