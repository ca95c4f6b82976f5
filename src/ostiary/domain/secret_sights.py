"""What the rules about gaps look at: one device, what it last said of itself, and where its secrets stand."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow
from ostiary.domain.escrow_view import SecretView, chosen, in_force, view_secrets
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.platform import Machine, machine_of
from ostiary.domain.secret_gap import NotTold, Report
from ostiary.domain.secret_own import own_record
from ostiary.domain.secret_shell import as_arguments
from ostiary.domain.token import Holder, TokenKind, TokenRecord
from ostiary.protocol.mdm.device_information import HardwareFacts
from ostiary.protocol.mdm.nature import SECURITY_RIGHT
from ostiary.protocol.mdm.security_info import SecurityFacts
from ostiary.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Everything that is known around the secrets of one device, read once for all rules."""

    device: Enrollment
    machine: Machine
    said: SecurityFacts
    hardware: HardwareFacts
    told_at: Mapping[SheetName, datetime]
    sheets: tuple[FactSheet, ...]
    escrows: Mapping[TokenKind, Escrow]
    records: Mapping[TokenKind, Sequence[TokenRecord]]
    """Of this device id, without values."""
    now: datetime

    @property
    def name(self) -> str:
        """The device's id as it stands in a command to copy, behind all options."""
        return as_arguments(self.device.id)

    def is_held(self, kind: TokenKind) -> bool:
        """Whether any value is held that is, or may be, in force."""
        return bool(chosen(self.escrows.get(kind))) or self.current(kind) is not None

    def current(self, kind: TokenKind) -> TokenRecord | None:
        """The generation that is believed to be in force."""
        return in_force(self.device, kind, self.escrows.get(kind), self.records.get(kind, ()))

    def held(self, kind: TokenKind) -> tuple[TokenRecord, ...]:
        """Every generation that is, or may be, in force."""
        ids, current = chosen(self.escrows.get(kind)), self.current(kind)
        known = self.records.get(kind, ())
        return tuple(one for one in known if one.id in ids or one is current)

    def view(self, kind: TokenKind) -> SecretView | None:
        """What a person is shown of this secret, who looks at this device alone."""
        escrow = self.escrows.get(kind)
        states = () if escrow is None else (escrow,)
        shown = view_secrets(self.device, states, self.records.get(kind, ()), self.sheets, self.now)
        return next((one for one in shown if one.kind is kind), None)

    def newest(self, kind: TokenKind) -> TokenRecord | None:
        """The last generation of this device, in force or not."""
        return own_record(self.device, kind, self.records.get(kind, ()))

    def not_told(self, kind: TokenKind, sheet: SheetName = SheetName.SECURITY) -> NotTold:
        """That nothing can be said of this secret before the device has answered."""
        if sheet is SheetName.DEVICE:
            return NotTold(kind=kind, report=Report.DEVICE_INFORMATION)
        profile = self.device.profile
        is_allowed = profile is None or profile.access_rights & SECURITY_RIGHT
        return NotTold(kind=kind, report=Report.SECURITY_INFO if is_allowed else Report.NOT_ALLOWED)


def look_at(
    device: Enrollment,
    escrows: Iterable[Escrow],
    records: Iterable[TokenRecord],
    sheets: Iterable[FactSheet],
    now: datetime,
) -> Sight:
    """A device as the rules see it."""
    told = tuple(sheets)
    own: dict[TokenKind, list[TokenRecord]] = {}
    for record in records:
        if record.holder == Holder(device.id):
            own.setdefault(record.kind, []).append(record)
    by_name = {sheet.name: sheet for sheet in told}
    facts = {name: sheet.facts for name, sheet in by_name.items()}
    return Sight(
        device=device,
        machine=machine_of(device, told),
        said=SecurityFacts.read(facts.get(SheetName.SECURITY, {})),
        hardware=HardwareFacts.read(facts.get(SheetName.DEVICE, {})),
        told_at={name: sheet.reported_at for name, sheet in by_name.items()},
        sheets=told,
        escrows={one.kind: one for one in escrows},
        records=own,
        now=now,
    )
