"""The command desk: every command, through any door, is classified by its RequestType and queued sealed."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from ostiary.domain.bypass_codes import CODE_HELD, allows_user_lock, apply_allow_user_lock
from ostiary.domain.command import ClosedCommand, Reference
from ostiary.domain.decision import (
    Ask,
    AuditEntry,
    ByName,
    Change,
    EscrowView,
    QueueView,
    Snapshot,
)
from ostiary.domain.destructive_cap import SWITCHED, UNENROLLS, is_destructive
from ostiary.domain.enqueueing import Order, Queued, apply_order
from ostiary.domain.erasing import ErasePlan
from ostiary.domain.escrow import kind_set_by
from ostiary.domain.escrow_orders import SecretOrder, apply_lock_order, apply_secret_order
from ostiary.domain.operator import apply_cancel
from ostiary.domain.rehearsal import Rehearsed, rehearsed
from ostiary.domain.token import SealedValue, TenantId, TokenKind
from ostiary.errors import Malformed, OstiaryError, TooLarge
from ostiary.ports.clock import Clock
from ostiary.ports.draws import Draws
from ostiary.ports.sealer import Sealer
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.commands import (
    Command,
    decode_raw_command,
    removes_profile,
)
from ostiary.protocol.mdm.connect import (
    LONGEST_COMMAND_UUID,
    CommandUuid,
    encode_command,
    is_derived,
)
from ostiary.protocol.mdm.filling import fill
from ostiary.protocol.mdm.given_secrets import Lifted, lift
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.lights_out import LOM_DEVICE_REQUEST, SwitchedByHand
from ostiary.protocol.mdm.nature import Kind, nature_of
from ostiary.protocol.mdm.profile_payloads import forbidden_to_own_devices
from ostiary.protocol.mdm.written_commands import ERASE_DEVICE, RETURN, require_sound
from ostiary.secret import Secret
from ostiary.services.admin_account import AdminAccounts, wants_password
from ostiary.services.caller import Caller, Scope
from ostiary.services.destructive_cap import DestructiveCap
from ostiary.services.escrow import EscrowDesk, Wish
from ostiary.services.rendering import command_label
from ostiary.services.sealing import seal_for

LARGEST_COMMAND: Final = 4 * 1024 * 1024
MOST_TARGETS: Final = 10_000
ROTATE_FILEVAULT_KEY: Final = "RotateFileVaultKey"
PIN, NEW_PASSWORD, CURRENT_PASSWORD = "PIN", "NewPassword", "CurrentPassword"
UNLOCK_PASSWORD: Final = "FileVaultUnlock/Password"  # noqa: S105 - a place in a command, not a password
RETURN_PROFILE: Final = "MDMProfileData"
RETURN_TOKEN: Final = f"{RETURN}/BootstrapToken"
_TRIED: Final = frozenset({CURRENT_PASSWORD, "Password"})
"""Places of secrets that a command only tries; what is set or latest is a reference."""
_ORDERS_AT_ONCE: Final = 32
"""Of one request. They share commits, and a device's message stands behind no more of them."""


class CommandTooLarge(TooLarge):
    """The command is larger than we queue, as it came or as the XML property list that a device would get."""

    hint = "Make it smaller, or have the device fetch what is large, such as an app, from a URL."


class TooManyTargets(TooLarge):
    """The command names more enrollments than one request may."""

    hint = "Name them in several commands."


class NobodyNamed(Malformed):
    """The command names no enrollment."""

    hint = "`ostiary device list` shows the ids."


class CommandUuidUnusable(Malformed):
    """The CommandUUID is too long, or holds characters that cannot be printed."""

    hint = "Leave the CommandUUID out, or use a random one, as `uuidgen` prints it."


class CommandUuidReserved(Malformed):
    """The CommandUUID is a UUID of version 5: such names are given by this server, to what follows from a report."""

    hint = "Leave the CommandUUID out, or use a random one (version 4), as `uuidgen` prints it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What became of one request: per enrollment id None or the reason why not."""

    uuid: CommandUuid
    request_type: str
    refused: dict[EnrollmentId, OstiaryError | None]
    pending_pins: frozenset[EnrollmentId] = frozenset()
    """Those whose lock carries the PIN of an earlier one that was not answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What would become of a request: of all of it, and of each target; None where nothing stands against it."""

    request_type: str
    refused: OstiaryError | None
    targets: dict[EnrollmentId, Rehearsed]


_Rule = Callable[[Snapshot], Change[Queued]]


class CommandDesk:
    """Queues and cancels commands. Payloads are sealed under their CommandUUID before storage sees them."""

    def __init__(
        self,
        enrollments: Enrollments,
        escrow: EscrowDesk,
        sealer: Sealer,
        draws: Draws,
        clock: Clock,
        cap: DestructiveCap,
        own_profile: str,
    ) -> None:
        """`own_profile` is the PayloadIdentifier of the enrollment profiles that are made here."""
        self._cap = cap
        self._own_profile = own_profile
        self._admins = AdminAccounts(sealer, draws)
        self._enrollments = enrollments
        self._escrow = escrow
        self._draws = draws
        self._sealer = sealer
        self._clock = clock

    async def enqueue_raw(
        self,
        targets: Sequence[EnrollmentId],
        body: bytes,
        caller: Caller,
        *,
        pushes: bool,
        confirmed: int | None = None,
    ) -> Enqueued:
        """Queue a command that somebody wrote as a property list, for each target.

        Raises:
            Malformed, CommandTooLarge, ScopeMissing, TooManyDestructive: nothing was queued for anybody.
        """
        command, uuid = written_command(body)
        return await self.enqueue(
            targets, command, caller, pushes=pushes, uuid=uuid, confirmed=confirmed
        )

    async def enqueue(
        self,
        targets: Sequence[EnrollmentId],
        command: Command,
        caller: Caller,
        *,
        pushes: bool = True,
        uuid: CommandUuid | None = None,
        confirmed: int | None = None,
        switched: Sequence[EnrollmentId] = (),
    ) -> Enqueued:
        """Queue one command for each target, under one CommandUUID; each target is decided by itself.

        `confirmed` is how many devices somebody counted: beyond the cap, a destructive command needs it.
        `switched` are the Macs that a controller is to switch: they are counted, not the controller.

        Raises:
            What `require_sound` and `lift` raise, CommandTooLarge, NotEncodable: the command itself is refused.
            NobodyNamed, TooManyTargets, CommandUuidReserved, ScopeMissing
            TooManyDestructive, AnotherNumberConfirmed: nothing was queued for anybody.
        """
        order, lifted = self._prepared(targets, command, caller, pushes=pushes, uuid=uuid)
        refused: dict[EnrollmentId, OstiaryError | None] = dict.fromkeys(targets)
        request_type = order.request_type
        if request_type == LOM_DEVICE_REQUEST and not switched:
            raise SwitchedByHand
        wanted = _counted(order, switched or refused)
        async with self._cap.room_for(caller.tenant, wanted, confirmed):
            pending = await self._order_all(caller, refused, order, lifted)
            if None in refused.values():
                for mac in switched:
                    await self._note_switched(caller, mac, order)
        return Enqueued(
            uuid=order.uuid,
            request_type=request_type,
            refused=refused,
            pending_pins=frozenset(pending),
        )

    async def rehearse(
        self,
        targets: Sequence[EnrollmentId],
        command: Command,
        caller: Caller,
        *,
        uuid: CommandUuid | None = None,
        confirmed: int | None = None,
    ) -> Rehearsal:
        """What `enqueue` would do, decided by the same rules; nothing is queued, nothing is audited.

        Raises:
            NobodyNamed, TooManyTargets, ScopeMissing
        """
        order, lifted = self._prepared(targets, command, caller, pushes=False, uuid=uuid)
        refused: OstiaryError | None = None
        try:
            if order.request_type == LOM_DEVICE_REQUEST:
                raise SwitchedByHand
            await self._cap.require(caller.tenant, _counted(order, targets), confirmed)
        except OstiaryError as error:
            refused = error
        found: dict[EnrollmentId, Rehearsed] = {}
        for target in dict.fromkeys(targets):
            ask, rule = self._plan(caller.tenant, target, order, lifted)
            found[target] = (await self._enrollments.decide(ask, rehearsed(rule, order.now))).answer
        return Rehearsal(request_type=order.request_type, refused=refused, targets=found)

    def _prepared(
        self,
        targets: Sequence[EnrollmentId],
        command: Command,
        caller: Caller,
        *,
        pushes: bool,
        uuid: CommandUuid | None,
    ) -> tuple[Order, Lifted]:
        if not targets:
            raise NobodyNamed
        if len(targets) > MOST_TARGETS:
            raise TooManyTargets(limit=MOST_TARGETS)
        if uuid is not None and is_derived(uuid):
            raise CommandUuidReserved(field="CommandUUID")
        require_sound(command)
        request_type = str(command["RequestType"])
        unenrolls = removes_profile(command, self._own_profile)
        _require_scope(request_type, caller, unenrolls=unenrolls)
        uuid = uuid or CommandUuid(str(uuid4()).upper())
        lifted = lift(command)
        order = Order(
            uuid=uuid,
            request_type=request_type,
            payload=self._sealed(caller.tenant, uuid, encode_command(uuid, _kept_by_hand(lifted))),
            source=caller.name,
            pushes=pushes,
            references=(UNENROLLS,) if unenrolls else _references(lifted.command),
            erase=ErasePlan.of(command),
            forbidden_payloads=forbidden_to_own_devices(command),
            now=self._clock.now(),
        )
        return order, lifted

    async def cancel(
        self, enrollment_id: EnrollmentId, uuid: CommandUuid, caller: Caller, reason: str
    ) -> ClosedCommand:
        """Cancel one live command. Raises EnrollmentUnknown, CommandIsOver."""
        audit = AuditEntry(
            tenant=caller.tenant,
            actor=caller.name,
            verb="queue-cancel",
            subject=f"{enrollment_id} {uuid}",
            reason=reason,
        )
        now = self._clock.now()
        ask = Ask(
            who=ByName(tenant=caller.tenant, enrollment_id=enrollment_id),
            queue=QueueView.WHOLE,
            reported=uuid,
            escrows=EscrowView.WITH_COMMANDS,
        )
        change = await self._enrollments.decide(
            ask, lambda seen: apply_cancel(seen, enrollment_id, audit, now)
        )
        return change.answer

    async def _order_all(
        self,
        caller: Caller,
        refused: dict[EnrollmentId, OstiaryError | None],
        order: Order,
        lifted: Lifted,
    ) -> set[EnrollmentId]:
        """Order for each, a few at once: ten thousand would fill the queue before storage, and devices be refused.

        Whose lock carries an earlier one's PIN.
        """
        waiting = iter(tuple(refused))
        pending: set[EnrollmentId] = set()

        async def work() -> None:
            for target in waiting:
                try:
                    if await self._order(caller, target, order, lifted):
                        pending.add(target)
                except OstiaryError as error:
                    refused[target] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_ORDERS_AT_ONCE, len(refused))):
                group.create_task(work())
        return pending

    async def _note_switched(self, caller: Caller, target: EnrollmentId, order: Order) -> None:
        """A line in the audit for a Mac that is switched: by these the cap counts."""
        audit = AuditEntry(
            tenant=caller.tenant,
            actor=caller.name,
            verb=SWITCHED,
            subject=target,
            reason=f"command {order.uuid}",
        )
        ask = Ask(who=ByName(tenant=caller.tenant, enrollment_id=target))
        await self._enrollments.decide(
            ask, lambda _seen: Change(at=order.now, answer=None, audit=audit)
        )

    async def _order(
        self, caller: Caller, target: EnrollmentId, order: Order, lifted: Lifted
    ) -> bool:
        """Queue it for one target; whether it is a lock that carries an earlier one's PIN. Raises what refuses it."""
        if order.request_type == ROTATE_FILEVAULT_KEY:
            await self._rotate(caller, target, order, lifted)
            return False
        if wants_password(lifted.command):
            ask, rule = await self._new_admin(caller.tenant, target, order, lifted)
        else:
            ask, rule = self._plan(caller.tenant, target, order, lifted)
        return (await self._enrollments.decide(ask, rule)).answer.carries_pending

    def _plan(
        self, tenant: TenantId, target: EnrollmentId, order: Order, lifted: Lifted
    ) -> tuple[Ask, _Rule]:
        """What has to be known of a target, and how it is decided."""
        kind = kind_set_by(order.request_type)
        waits_for_code = CODE_HELD in order.references
        ask = Ask(
            who=ByName(tenant=tenant, enrollment_id=target),
            reported=order.uuid,
            escrows=EscrowView.NONE if kind is None and not waits_for_code else EscrowView.ALWAYS,
            facts=True,
        )
        if waits_for_code:
            return ask, lambda seen: apply_allow_user_lock(seen, target, order)
        if kind is None or (
            kind is TokenKind.ADMIN_PASSWORD and not wants_password(lifted.command)
        ):
            return ask, lambda seen: apply_order(seen, target, order)
        wanted = self._wanted(tenant, target, order, lifted, kind)
        if kind is TokenKind.LOCK_PIN:
            return ask, lambda seen: apply_lock_order(seen, target, wanted)
        return ask, lambda seen: apply_secret_order(seen, target, wanted)

    async def _new_admin(
        self, tenant: TenantId, target: EnrollmentId, order: Order, lifted: Lifted
    ) -> tuple[Ask, _Rule]:
        """An administrator account whose password is drawn here, for this one Mac. (4.8, AA-02)"""
        admin = await self._admins.draw(lifted.command, tenant, target, order.uuid, order.now)
        wanted = SecretOrder(
            order=replace(order, payload=admin.payload),
            kind=TokenKind.ADMIN_PASSWORD,
            candidate=admin.password,
        )
        ask, _ = self._plan(tenant, target, order, lifted)
        return ask, lambda seen: apply_secret_order(seen, target, wanted)

    def _wanted(
        self,
        tenant: TenantId,
        target: EnrollmentId,
        order: Order,
        lifted: Lifted,
        kind: TokenKind,
    ) -> SecretOrder:
        """The command with the secret that it sets, sealed for this one device: what was given, or a PIN that is drawn.

        What is drawn for an account, and the key pair for a rotation, take their time and are made apart; until then
        this decides as they will.
        """
        if kind is TokenKind.FILEVAULT_KEY:
            unlocks = UNLOCK_PASSWORD in lifted.secrets
            current_key = None if unlocks else UNLOCK_PASSWORD
            return SecretOrder(order=order, kind=kind, current_key=current_key)
        if kind is TokenKind.ADMIN_PASSWORD:
            drawn = seal_for(self._sealer, tenant, target, kind, self._draws.password(), order.now)
            return SecretOrder(order=order, kind=kind, candidate=drawn)
        key = PIN if kind is TokenKind.LOCK_PIN else NEW_PASSWORD
        value = given = lifted.secrets.get(key)
        if kind is TokenKind.LOCK_PIN and value is None:
            value = self._draws.pin()
        return SecretOrder(
            order=order,
            kind=kind,
            candidate=None
            if value is None
            else seal_for(self._sealer, tenant, target, kind, value, order.now),
            is_given=given is not None,
            key=key,
            current_key=None if CURRENT_PASSWORD in lifted.secrets else CURRENT_PASSWORD,
        )

    async def _rotate(
        self, caller: Caller, target: EnrollmentId, order: Order, lifted: Lifted
    ) -> None:
        """A recovery key is always rotated by the escrow desk: its answer must be encrypted to a key that we hold."""
        wish = Wish(
            enrollment_id=target,
            kind=TokenKind.FILEVAULT_KEY,
            unlock_with=lifted.secrets.get(UNLOCK_PASSWORD),
        )
        await self._escrow.change(wish, caller, uuid=order.uuid, pushes=order.pushes)

    def _sealed(self, tenant: TenantId, uuid: CommandUuid, written: bytes) -> SealedValue:
        """Always something, even for a standard form: an empty payload is what this server's own commands have."""
        _require_readable(written)
        return self._sealer.seal(Secret(written), command_label(tenant, uuid))


def _require_readable(written: bytes) -> None:
    """Read it as the hand-out will: what was small in another form may be beyond all limits in this one."""
    try:
        decode_raw_command(written)
    except TooLarge as error:
        raise CommandTooLarge(as_xml_bytes=len(written)) from error


def _references(command: Command) -> tuple[Reference, ...]:
    """What is filled in at hand-out, or must be held by then, beside the secret that the command sets. (4.7 rule 8, 4.9)"""
    if allows_user_lock(command):
        return (CODE_HELD,)
    wish = command.get(RETURN) if command.get("RequestType") == ERASE_DEVICE else None
    if not isinstance(wish, Mapping) or wish.get("Enabled") is not True:
        return ()
    plan = ErasePlan.of(command)
    token = Reference(key=RETURN_TOKEN, kind=TokenKind.BOOTSTRAP, optional=not plan.keeps_apps)
    if wish.get(RETURN_PROFILE):
        return (token,)
    profile = Reference(key=f"{RETURN}/{RETURN_PROFILE}", kind=TokenKind.ENROLLMENT_CHALLENGE)
    return (token, profile)


def _kept_by_hand(lifted: Lifted) -> Command:
    """The command as it waits: of the secrets only those that are tried, not set, stay in its sealed payload."""
    command = dict(lifted.command)
    for key, secret in lifted.secrets.items():
        if key in _TRIED:
            fill(command, key, secret.reveal().decode())
    wish = command.get(RETURN) if command.get("RequestType") == ERASE_DEVICE else None
    if isinstance(wish, Mapping):
        # What is empty marks a place that is filled at hand-out, if it is.
        command[RETURN] = {key: value for key, value in wish.items() if value != b""}
    return command


def written_command(body: bytes) -> tuple[Command, CommandUuid | None]:
    """The command that somebody wrote as a property list, and its CommandUUID if it has one.

    Raises:
        Malformed, CommandTooLarge
    """
    if len(body) > LARGEST_COMMAND:
        raise CommandTooLarge(limit_bytes=LARGEST_COMMAND)
    raw = decode_raw_command(body)
    uuid = CommandUuid(raw.uuid) if raw.uuid else None
    if uuid is not None and (len(uuid) > LONGEST_COMMAND_UUID or not uuid.isprintable()):
        raise CommandUuidUnusable(field="CommandUUID")
    return raw.command.as_mapping(), uuid


def _counted(order: Order, devices: Collection[EnrollmentId]) -> int:
    """How many devices the cap is to count; none for a command that is not destructive."""
    return len(set(devices)) if is_destructive(order.request_type, order.references) else 0


def _require_scope(request_type: str, caller: Caller, *, unenrolls: bool) -> None:
    match Kind.DESTRUCTIVE if unenrolls else nature_of(request_type).kind:
        case Kind.DESTRUCTIVE:
            caller.require(Scope.COMMANDS_DESTRUCTIVE)
        case Kind.SECRET:
            caller.require(Scope.COMMANDS_SECRET)
        case Kind.ORDINARY:
            caller.require(Scope.COMMANDS)
