"""What must hold of every secret in any life: what the device really holds is never missing here, nor hidden away.

The oracle knows the device's truth, and which values the server can know at all: those that it made, and those of a
message that it answered with 200.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from unittest.mock import patch

from cryptography import x509

from ostiary.domain.decision import Ask, ByCertificate, Change, Snapshot
from ostiary.domain.enrollment import Standing
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_lifecycle import Cause
from ostiary.domain.escrow_view import may_be_in_force
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Fingerprint,
    Holder,
    RecordId,
    TokenKind,
    TokenRecord,
    TokenState,
)
from ostiary.house import House
from ostiary.ports.sealer import SealLabel
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary_sim import mac_commands, mac_secrets
from ostiary_sim.cms import encode_enveloped
from ostiary_sim.device import Device
from ostiary_sim.events import Event
from scenes.house import OPERATOR

MADE_HERE: Final = frozenset(
    {
        TokenKind.RECOVERY_LOCK,
        TokenKind.FIRMWARE_PASSWORD,
        TokenKind.LOCK_PIN,
    }
)
"""The device has them from us alone, so they are known before the device can hold them."""
BY_POINTER: Final = frozenset({TokenKind.UNLOCK, TokenKind.BOOTSTRAP})
FOUND: Final = frozenset({TokenState.CANDIDATE, TokenState.SUSPECT, TokenState.DEAD})
"""Marked so that an operator tries it, wherever the pointers are."""
AFTER_RESTART: Final = "firmware, after a restart"
_OK = range(200, 300)
ERASABLE: Final = frozenset(
    {
        TokenKind.FILEVAULT_KEY,
        TokenKind.RECOVERY_LOCK,
        TokenKind.LOCK_PIN,
        TokenKind.ADMIN_PASSWORD,
    }
)
"""What does not outlive an erase; a firmware password and a bypass code do. Source: escrowed-secrets.md 4.13."""


class SecretLost(AssertionError):
    """What the device holds is missing, or where nobody looks."""


@contextmanager
def envelopes_noted() -> Iterator[dict[bytes, bytes]]:
    """By envelope: the recovery key that a simulated Mac put into it, as the oracle cannot open it."""
    noted: dict[bytes, bytes] = {}

    def noting(content: bytes, receiver: x509.Certificate, *args: Any, **more: Any) -> bytes:
        envelope: bytes = encode_enveloped(content, receiver, *args, **more)
        noted[envelope] = content
        return envelope

    with (
        patch.object(mac_secrets, "encode_enveloped", noting),
        patch.object(mac_commands, "encode_enveloped", noting),
    ):
        yield noted


@dataclass
class Ledger:
    """Every generation of one device id, opened."""

    records: dict[TokenKind, list[TokenRecord]]
    escrows: Mapping[TokenKind, Escrow]
    _values: dict[RecordId, bytes]
    enrolled_at: datetime | None
    """When the relationship in force began."""

    def value(self, record: TokenRecord) -> bytes:
        return self._values[record.id]

    def of(self, kind: TokenKind, value: bytes) -> list[TokenRecord]:
        """The generations with this value."""
        return [one for one in self.records[kind] if self.value(one) == value]


@dataclass
class Oracle:
    """Watches one life, act by act."""

    envelopes: Mapping[bytes, bytes]
    compared: Counter[str]
    """How often which secret of a device was looked for; what nobody ever told us is counted as unknown."""
    told: defaultdict[TokenKind, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """What the server said 200 to."""
    rotated: set[bytes] = field(default_factory=set)
    """Recovery keys that a command of ours made, told or not."""
    _opened: dict[RecordId, bytes] = field(default_factory=dict)
    _held: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    """What the device holds, and since when."""

    def hear(self, said: Mapping[str, Any], status: int) -> None:
        """A message of a device and its answer."""
        if status not in _OK:
            return
        for kind, value in _brought(said, self.envelopes):
            self.told[kind].add(value)

    async def check(self, house: House, device: Device, now: datetime, *, is_double: bool) -> None:
        """Compare one device with the house.

        Args:
            house: which stands now.
            device: whose truth counts.
            now: the moment after the act.
            is_double: another device bears its name; the server cannot tell whose words are whose.

        Raises:
            SecretLost
        """
        ledger = await self._ledger(house, Holder(device.udid))
        if not is_double:
            self._check_not_too_sure(ledger, device)
        for slot, kind, value in _truths(device):
            since = self._since(slot, value, now)
            if kind not in MADE_HERE and value not in self.told[kind]:
                self.compared[f"unknown {kind}"] += 1
                continue
            self.compared[kind.value] += 1
            self._check_kept(ledger, kind, value)
            if not is_double:
                self._check_marked(ledger, kind, value)
                if slot != AFTER_RESTART:
                    _check_settled(ledger, kind, value, since)
        self._check_admin(ledger, device, is_double=is_double)

    def watch(self, device: Device, event: Event) -> None:
        """Something that only the device knows."""
        key = device.volume.recovery_key
        if key is not None and event.detail == "RotateFileVaultKey: Acknowledged":
            self.rotated.add(key.encode())

    def _check_not_too_sure(self, ledger: Ledger, device: Device) -> None:
        """A key that we had rotated is not called settled as long as the new one was not told. (FV-06, FV-07)"""
        kind, key = TokenKind.FILEVAULT_KEY, device.volume.recovery_key
        escrow = ledger.escrows.get(kind)
        if key is None or key.encode() not in self.rotated or escrow is None:
            return
        current = [one for one in ledger.records[kind] if one.id == escrow.current]
        is_right = any(ledger.value(one) == key.encode() for one in current)
        if escrow.state is EscrowState.SETTLED and current and not is_right:
            raise SecretLost(f"{kind}: called settled, and we had another one made")

    def _since(self, slot: str, value: bytes, now: datetime) -> datetime:
        before, since = self._held.get(slot, (None, now))
        if before != value:
            since = now
        self._held[slot] = (value, since)
        return since

    async def _ledger(self, house: House, holder: Holder) -> Ledger:
        records: dict[TokenKind, list[TokenRecord]] = defaultdict(list)
        for known in await house.storage.reports.token_history(DEFAULT_TENANT, holder):
            if known.kind not in SECRETS:
                continue
            records[known.kind].append(known)
            if known.id in self._opened:
                continue
            record = await house.storage.enrollments.load_record(known.id)
            assert record is not None
            label = SealLabel(
                tenant=record.tenant, holder=record.holder, kind=record.kind, record_id=record.id
            )
            self._opened[known.id] = bytes(house.sealer.unseal(record.value, label).reveal())
        escrows = await house.storage.escrows.find(DEFAULT_TENANT, holder)
        rows = await house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(holder))
        began = (row.enrolled_at for row in rows if row.standing is Standing.CURRENT)
        by_kind = {one.kind: one for one in escrows}
        return Ledger(records, by_kind, self._opened, next(began, None))

    async def reveal(self, house: House, device: Device) -> None:
        """Have people shown what the device holds, by the service through which every value leaves.

        Raises:
            SecretLost
        """
        ledger = await self._ledger(house, Holder(device.udid))
        for slot, kind, value in _truths(device):
            if kind in BY_POINTER or not (found := ledger.of(kind, value)):
                continue
            revealed = await house.reveals.reveal(
                EnrollmentId(device.udid),
                kind,
                OPERATOR,
                reason="life",
                generation=found[-1].generation,
            )
            (shown,) = revealed.shown
            if shown.value.reveal() != value:
                raise SecretLost(f"{kind}: {slot} holds another value than the one shown")
            self.compared[f"revealed {kind}"] += 1

    def _check_kept(self, ledger: Ledger, kind: TokenKind, value: bytes) -> None:
        if not ledger.of(kind, value):
            raise SecretLost(f"{kind}: what the device holds is in no generation")

    def _check_marked(self, ledger: Ledger, kind: TokenKind, value: bytes) -> None:
        """Current, candidate or suspect; or in history because a relationship ended."""
        if kind in BY_POINTER:
            return
        escrow = ledger.escrows.get(kind)
        pointed = () if escrow is None else (escrow.current, escrow.candidate)
        found = ledger.of(kind, value)
        if any(one.id in pointed or one.state in FOUND for one in found):
            if kind in MADE_HERE:
                _check_shown(ledger, kind, found)
            return
        if any(_is_thought_erased(one) for one in found):
            return
        told = "; ".join(
            f"generation {one.generation} is {one.state}: {one.cause}" for one in found
        )
        state = escrow and (escrow.state.value, escrow.trouble)
        raise SecretLost(f"{kind}: what the device holds is buried ({state}). {told}")

    def _check_admin(self, ledger: Ledger, device: Device, *, is_double: bool) -> None:
        """The account's password: nobody else's hash ever reaches the Mac."""
        kind, user = TokenKind.ADMIN_PASSWORD, device.auto_admin.user
        if user is None or user.password_hash is None:
            return
        self.compared[kind.value] += 1
        found = [one for one in ledger.records[kind] if user.accepts(ledger.value(one).decode())]
        if not found:
            raise SecretLost(f"{kind}: what the account takes is in no generation")
        escrow = ledger.escrows[kind]
        pointed = (escrow.current, escrow.candidate)
        if is_double:
            return
        if any(one.id in pointed or one.state in FOUND for one in found):
            _check_shown(ledger, kind, found)
            return
        if not any(_is_thought_erased(one) for one in found):
            raise SecretLost(f"{kind}: what the account takes is buried ({escrow.state.value})")


async def is_believed(house: House, device: Device) -> bool:
    """Whether the certificate that the device holds speaks for the relationship in force."""
    if not device.enrolled:
        return False
    who = ByCertificate(
        fingerprint=Fingerprint(device.installed.identity.fingerprint),
        channel=None,
        tenant=DEFAULT_TENANT,
    )

    def rule(seen: Snapshot) -> Change[bool]:
        is_current = seen.device is not None and seen.device.standing is Standing.CURRENT
        return Change(at=house.clock.now(), answer=is_current)

    return (await house.storage.enrollments.decide(Ask(who=who), rule)).answer


def _is_thought_erased(record: TokenRecord) -> bool:
    """A device that waits in Setup Assistant passes for erased; only then people look into the history. (4.13)"""
    is_gone = record.state is TokenState.RETIRED and record.cause.startswith(Cause.ERASED.value)
    return is_gone and record.kind in ERASABLE


def _check_shown(ledger: Ledger, kind: TokenKind, found: Sequence[TokenRecord]) -> None:
    """A person who asks for the value, and for no generation by its number, is shown it among what may be in force."""
    records = ledger.records[kind]
    escrow = ledger.escrows.get(kind)
    shown = may_be_in_force(escrow, records)
    erased_at = max((one.changed_at for one in records if _is_thought_erased(one)), default=None)
    if kind in ERASABLE and _ended_with_enrollment(escrow) and ledger.enrolled_at:
        # Also where no pointer was left to retire: what is in doubt then has no record of its own. A newcomer that came out
        # of Setup Assistant may have won long after it enrolled.
        erased_at = max(erased_at or ledger.enrolled_at, ledger.enrolled_at)
    if not any(
        one.id in shown or (erased_at is not None and one.changed_at <= erased_at) for one in found
    ):
        raise SecretLost(f"{kind}: what the device holds is not shown to whoever asks")


def _ended_with_enrollment(escrow: Escrow | None) -> bool:
    """Whether nothing has been in force since the device enrolled last: it came out of Setup Assistant then."""
    return escrow is not None and escrow.current is None


def _check_settled(ledger: Ledger, kind: TokenKind, value: bytes, since: datetime) -> None:
    """What was proven after the device's last change is in force."""
    escrow = ledger.escrows.get(kind)
    if escrow is None or escrow.state is not EscrowState.SETTLED or escrow.current is None:
        return
    current = next(one for one in ledger.records[kind] if one.id == escrow.current)
    proven = current.proven_at or (current.received_at if kind not in MADE_HERE else None)
    if proven is not None and proven > since and ledger.value(current) != value:
        raise SecretLost(f"{kind}: called settled and proven, and the device holds another")


def _truths(device: Device) -> Iterator[tuple[str, TokenKind, bytes]]:
    """What the device holds: where, of which kind, and the value."""
    truth = device.truth()
    held: tuple[tuple[str, TokenKind, str | bytes | None], ...] = (
        ("disk", TokenKind.FILEVAULT_KEY, truth.recovery_key),
        ("recoveryOS", TokenKind.RECOVERY_LOCK, truth.recovery_lock),
        ("firmware", TokenKind.FIRMWARE_PASSWORD, truth.firmware_password),
        (AFTER_RESTART, TokenKind.FIRMWARE_PASSWORD, truth.firmware_password_after_restart),
        ("lock screen", TokenKind.LOCK_PIN, truth.lock_pin),
        ("activation lock", TokenKind.BYPASS_DEVICE, truth.bypass_code),
        ("keybag", TokenKind.UNLOCK, truth.unlock_token),
        ("bootstrap", TokenKind.BOOTSTRAP, truth.bootstrap_token),
    )
    for slot, kind, value in held:
        if value is not None:
            yield slot, kind, value.encode() if isinstance(value, str) else value


SECRETS: Final = frozenset(
    {
        TokenKind.FILEVAULT_KEY,
        TokenKind.ADMIN_PASSWORD,
        TokenKind.BYPASS_DEVICE,
        *MADE_HERE,
        *BY_POINTER,
    }
)


def _brought(
    said: Mapping[str, Any], envelopes: Mapping[bytes, bytes]
) -> Iterator[tuple[TokenKind, bytes]]:
    """The secrets in a message, as a device speaks it."""
    if unlock := said.get("UnlockToken"):
        yield TokenKind.UNLOCK, unlock
    if said.get("MessageType") == "SetBootstrapToken" and said.get("BootstrapToken"):
        yield TokenKind.BOOTSTRAP, said["BootstrapToken"]
    if said.get("Status") != "Acknowledged":
        return
    for envelope in (
        said.get("SecurityInfo", {}).get("FDE_PersonalRecoveryKeyCMS"),
        said.get("RotateResult", {}).get("EncryptedNewRecoveryKey"),
    ):
        if envelope is not None:
            yield TokenKind.FILEVAULT_KEY, envelopes[envelope]
    if code := said.get("ActivationLockBypassCode"):
        yield TokenKind.BYPASS_DEVICE, code.encode()
