"""Where one escrowed secret of one device stands: which generation is in force, and which one may be."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ostiary.domain.command import LiveCommand
from ostiary.domain.token import Holder, KeyedDigest, RecordId, TenantId, TokenKind
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.values import dataclass


class EscrowState(StrEnum):
    """Where the change of a secret stands. Source: escrowed-secrets.md 4.0.3."""

    SETTLED = "settled"
    """Nothing is under way: `current` is in force, or None is."""
    CANDIDATE = "candidate"
    """Another value is committed and its command queued; the device has not seen it."""
    IN_FLIGHT = "in-flight"
    """The command went out: the device may hold either."""
    PENDING_RESTART = "pending-restart"
    """The device took it and will use it from its next restart on; until then the old one is in force."""
    VERIFYING = "verifying"
    """The device took it; it is asked whether that is true."""
    CHECKING = "checking"
    """It may not have taken it; it is asked about the old one."""
    UNCERTAIN = "uncertain"
    """Nobody can say which is in force. Both are shown, the old one first."""

    @property
    def is_unresolved(self) -> bool:
        return self not in (self.SETTLED, self.UNCERTAIN)

    @property
    def device_may_hold_candidate(self) -> bool:
        return self not in (self.SETTLED, self.CANDIDATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Escrow:
    """One secret of one device id. The generations themselves are in the ledger; these are the pointers.

    Generations that neither pointer names are history: kept, revealed on request, never offered first.
    """

    tenant: TenantId
    holder: Holder
    kind: TokenKind
    state: EscrowState
    since: datetime
    """When it came to this state."""
    current: RecordId | None = None
    digest: KeyedDigest | None = None
    """Of the current value, where devices bring it: tells the same from another without opening either."""
    candidate: RecordId | None = None
    set_uuid: CommandUuid | None = None
    """The command that carries the candidate, or brings another value."""
    verify_uuid: CommandUuid | None = None
    """The command that asks whether a value is in force."""
    trouble: str | None = None
    """What the last failure said, for people; without secrets."""
    unclear: int = 0
    """How often running the device was asked whether it holds the value, and said neither yes nor no."""
    due_at: datetime | None = None
    """When a worker is to look again: to rotate, to ask the device once more, to give an answer up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a kind of secret is set and proven."""

    sets: frozenset[str]
    """Request types that carry a new value to the device."""
    verify: str | None = None
    """The request type that asks whether a value is in force."""
    takes_restart: bool = False


MANNERS: Final[Mapping[TokenKind, Manner]] = MappingProxyType(
    {
        TokenKind.RECOVERY_LOCK: Manner(
            sets=frozenset({"SetRecoveryLock"}), verify="VerifyRecoveryLock"
        ),
        TokenKind.FIRMWARE_PASSWORD: Manner(
            sets=frozenset({"SetFirmwarePassword"}),
            verify="VerifyFirmwarePassword",
            takes_restart=True,
        ),
        TokenKind.ADMIN_PASSWORD: Manner(
            sets=frozenset({"AccountConfiguration", "SetAutoAdminPassword"})
        ),
        TokenKind.LOCK_PIN: Manner(sets=frozenset({"DeviceLock", "EraseDevice"})),
        TokenKind.FILEVAULT_KEY: Manner(sets=frozenset({"RotateFileVaultKey"})),
        TokenKind.BYPASS_DEVICE: Manner(sets=frozenset({"ActivationLockBypassCode"})),
    }
)
"""The kinds that commands set or bring. Source: escrowed-secrets.md 4.3 to 4.9."""

_KIND_BY_SET: Final = {name: kind for kind, manner in MANNERS.items() for name in manner.sets}
_KIND_BY_VERIFY: Final = {
    manner.verify: kind for kind, manner in MANNERS.items() if manner.verify is not None
}
_BRINGS_NEWS: Final = frozenset({"SecurityInfo", "ClearActivationLockBypassCode"})
"""Reports that tell where secrets stand though the command carried none."""


def kind_set_by(request_type: str) -> TokenKind | None:
    """The secret that a command of this type sets or brings."""
    return _KIND_BY_SET.get(request_type)


def kind_verified_by(request_type: str) -> TokenKind | None:
    """The secret that a command of this type asks about."""
    return _KIND_BY_VERIFY.get(request_type)


def concerns_secrets(command: LiveCommand) -> bool:
    """Whether the report or the hand-out of this command needs to know where secrets stand."""
    name = command.request_type
    return bool(
        command.references
        or name in _KIND_BY_SET
        or name in _KIND_BY_VERIFY
        or name in _BRINGS_NEWS
    )
