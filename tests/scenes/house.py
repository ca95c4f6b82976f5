"""A house for scenes: real services on a real SQLite file, a clock that one moves, devices made of words.

A device here speaks plist bytes through the real decoders; only its certificate is a name (what a signature
is worth is proven in tests/unit/formats and tests/e2e).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from database_file import database
from ostiary.domain.decision import AuditEntry
from ostiary.domain.enrollment import Bound, Credential, Enrollment, InstalledProfile, Purpose
from ostiary.domain.escrow import Escrow
from ostiary.domain.policy import Policy
from ostiary.domain.push_value import decode_push_value
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Fingerprint,
    Holder,
    RecordId,
    SealedValue,
    TenantId,
    TokenKind,
    TokenRecord,
)
from ostiary.domain.visitor import DeviceIdentity
from ostiary.formats import plist
from ostiary.keys.drawn import SystemDraws
from ostiary.keys.escrow_key import ThreadedEscrowKeys
from ostiary.ports.meter import NoMeter
from ostiary.ports.sealer import SealLabel
from ostiary.ports.storage import DueWake, PushCertificate, WakeStep
from ostiary.protocol.mdm.checkin import Topic, decode_checkin
from ostiary.protocol.mdm.connect import CommandUuid, decode_connect
from ostiary.protocol.mdm.enrollment_profile import EnrollmentUrls
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.admin_account import AdminAccounts
from ostiary.services.caller import Caller, Scope
from ostiary.services.checkin import CheckinService
from ostiary.services.commands import CommandDesk
from ostiary.services.connect import CommandChannel
from ostiary.services.destructive_cap import DestructiveCap
from ostiary.services.devices import DeviceDesk
from ostiary.services.enrollment import EnrollmentService
from ostiary.services.escrow import EscrowDesk, Wish
from ostiary.services.escrow_due import EscrowWatch
from ostiary.services.filevault import FileVaultDesk
from ostiary.services.invitations import InvitationService
from ostiary.services.network_users import NetworkUsers
from ostiary.services.reply import Farewell, Media, Reply
from ostiary.services.reveal import RevealService
from ostiary.services.secret_reports import SecretReader
from ostiary.storage import Storage

TOPIC = "com.apple.mgmt.External.6f3a6ae4-0000-4000-8000-000000000001"
OTHER_TOPIC = "com.apple.mgmt.External.6f3a6ae4-0000-4000-8000-000000000002"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FULL_PROFILE = InstalledProfile(
    access_rights=8191, capabilities=frozenset({"com.apple.mdm.bootstraptoken"})
)
OPERATOR = Caller(name="operator", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.ADMIN}))


class MovedClock:
    """A clock that stands still until a scene moves it."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def advance(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


class NothingAudited:
    """For the in-memory twin, which has no reports."""

    async def count_audited(
        self, tenant: TenantId, verbs: Sequence[str], *, since: datetime
    ) -> int:
        """None."""
        assert since.tzinfo is not None
        assert tenant
        assert verbs
        return 0


@dataclass
class House:
    """The services and what a scene may look at."""

    path: Path
    storage: Storage
    clock: MovedClock
    sealer: Any
    policy: Policy = field(default_factory=lambda: Policy(most_destructive_an_hour=10_000))
    """As it comes, but that a scene may lock and erase as often as it likes."""
    htdigest: Mapping[str, Secret] = field(default_factory=dict)

    def __post_init__(self) -> None:
        enrollments, draws = self.storage.enrollments, SystemDraws()
        self.enrollment = EnrollmentService(
            urls=EnrollmentUrls(base="https://mdm.example"),
            invitations=InvitationService(
                challenges=self.storage.challenges, sealer=self.sealer, clock=self.clock
            ),
            challenges=self.storage.challenges,
            push_certificates=self.storage.push_certificates,
            sealer=self.sealer,
            clock=self.clock,
        )
        self.checkin = CheckinService(
            enrollments,
            self.sealer,
            self.clock,
            lambda: self.policy,
            network_users=NetworkUsers(self.htdigest),
            admins=AdminAccounts(self.sealer, draws),
            make_profile=self.enrollment.return_profile,
        )
        keys, escrows = ThreadedEscrowKeys(bits=2048), self.storage.escrows
        reports = getattr(self.storage, "reports", NothingAudited())
        self.reveals = RevealService(
            enrollments, escrows, reports, self.sealer, self.clock, lambda: self.policy
        )
        self.channel = CommandChannel(
            enrollments,
            self.sealer,
            self.clock,
            lambda: self.policy,
            NoMeter(),
            SecretReader(escrows, keys, self.sealer, self.clock),
            self.enrollment.return_profile,
        )
        self.escrow = EscrowDesk(enrollments, self.sealer, keys, draws, self.clock)
        self.filevault = FileVaultDesk(
            enrollments,
            escrows,
            self.sealer,
            keys,
            self.clock,
            urls=EnrollmentUrls(base="https://mdm.example"),
            sign=None,
        )
        self.escrow_watch = EscrowWatch(enrollments, escrows, self.escrow, self.clock)
        cap = DestructiveCap(reports, lambda: self.policy, self.clock)
        own_profile = EnrollmentUrls(base="https://mdm.example").identifier
        self.desk = CommandDesk(
            enrollments, self.escrow, self.sealer, draws, self.clock, cap, own_profile
        )
        self.devices = DeviceDesk(enrollments, self.storage.challenges, self.clock)

    async def hold_topic(self, topic: str = TOPIC) -> None:
        """Hold a push certificate for a topic, as far as check-ins care."""
        certificate = PushCertificate(
            topic=Topic(topic),
            tenant=DEFAULT_TENANT,
            record_id=RecordId(hashlib.sha256(topic.encode()).hexdigest()[:32]),
            certificate_pem=b"a certificate",
            sealed_key=SealedValue(b"a sealed key"),
            not_before=START,
            not_after=START + timedelta(days=365),
            imported_at=START,
        )
        audit = AuditEntry(
            tenant=DEFAULT_TENANT, actor="scene", verb="apns-import", subject=topic, reason=""
        )
        await self.storage.push_certificates.save_push_certificate(certificate, audit)

    def forget_topic(self, topic: str) -> None:
        """Lose a push certificate, as a bad restore would."""
        with database(self.path) as connection:
            connection.execute("DELETE FROM push_certificate WHERE topic = ?", (topic,))

    def forget_bindings(self) -> None:
        """Lose every certificate binding, as an import from a server without them would."""
        with database(self.path) as connection:
            connection.execute("DELETE FROM binding")

    def lose_records(self, kind: TokenKind) -> None:
        """Lose the ledger's records of a kind, as a database restored in part would."""
        with database(self.path) as connection:
            connection.execute("DELETE FROM token WHERE kind = ?", (kind.value,))

    def set_policy(self, **changes: Any) -> None:
        self.policy = replace(self.policy, **changes)

    async def row(self, enrollment_id: str) -> Enrollment | None:
        """The current row of an enrollment id."""
        rows = await self.storage.reports.find_enrollments(
            DEFAULT_TENANT, EnrollmentId(enrollment_id)
        )
        current = [row for row in rows if row.id == enrollment_id]
        return current[0] if current else None

    async def require_row(self, enrollment_id: str) -> Enrollment:
        row = await self.row(enrollment_id)
        assert row is not None
        return row

    async def value(self, enrollment_id: str, kind: TokenKind) -> bytes | None:
        """The current value of a token, opened; None if there is no current one."""
        pointer = (await self.require_row(enrollment_id)).pointer(kind)
        if pointer is None:
            return None
        record = await self.storage.enrollments.load_record(pointer.record_id)
        assert record is not None
        return self.open(record)

    def open(self, record: TokenRecord) -> bytes:
        label = SealLabel(
            tenant=record.tenant, holder=record.holder, kind=record.kind, record_id=record.id
        )
        return bytes(self.sealer.unseal(record.value, label).reveal())

    async def push_address(self, enrollment_id: str) -> tuple[bytes, bytes]:
        value = await self.value(enrollment_id, TokenKind.PUSH)
        assert value is not None
        return decode_push_value(value)

    async def history(self, enrollment_id: str, kind: TokenKind) -> list[TokenRecord]:
        records = await self.storage.reports.token_history(DEFAULT_TENANT, Holder(enrollment_id))
        return sorted((r for r in records if r.kind is kind), key=lambda r: r.generation)

    async def alerts(self) -> set[str]:
        return {
            line.alert.kind
            for line in await self.storage.reports.list_alerts(DEFAULT_TENANT, limit=50)
        }

    async def queue(self, enrollment_id: str) -> list[tuple[str, str]]:
        lines = await self.storage.reports.list_commands(
            DEFAULT_TENANT, EnrollmentId(enrollment_id), live_only=False, limit=500
        )
        return [(line.request_type, line.state) for line in lines]

    async def enqueue(self, enrollment_id: str, request_type: str, **keys: Any) -> str:
        """Queue a command for one enrollment; its UUID. Raises what refused it."""
        done = await self.desk.enqueue(
            [EnrollmentId(enrollment_id)], {"RequestType": request_type, **keys}, OPERATOR
        )
        (refused,) = done.refused.values()
        if refused is not None:
            raise refused
        return done.uuid

    async def cancel(self, enrollment_id: str, uuid: str) -> None:
        await self.desk.cancel(EnrollmentId(enrollment_id), CommandUuid(uuid), OPERATOR, "scene")

    async def cancel_live(self, enrollment_id: str) -> None:
        """Cancel whatever is in the queue."""
        lines = await self.storage.reports.list_commands(
            DEFAULT_TENANT, EnrollmentId(enrollment_id), live_only=True, limit=500
        )
        for line in lines:
            await self.cancel(enrollment_id, line.uuid)

    async def change(self, enrollment_id: str, kind: TokenKind, **wish: Any) -> str:
        """Have a secret changed, as `ostiary token rotate` does; the command's UUID."""
        wanted = Wish(enrollment_id=EnrollmentId(enrollment_id), kind=kind, **wish)
        return await self.escrow.change(wanted, OPERATOR)

    async def stands(self, enrollment_id: str, kind: TokenKind) -> Escrow | None:
        """Where a secret stands."""
        found = await self.storage.escrows.find(DEFAULT_TENANT, Holder(enrollment_id))
        return next((one for one in found if one.kind is kind), None)

    async def believed(self, enrollment_id: str, kind: TokenKind) -> list[bytes]:
        """The values that an operator is shown: the one in force first, then one that may be."""
        stands = await self.stands(enrollment_id, kind)
        if stands is None:
            return []
        ids = [one for one in (stands.current, stands.candidate) if one is not None]
        records = [await self.storage.enrollments.load_record(one) for one in ids]
        return [self.open(record) for record in records if record is not None]

    async def generations(self, enrollment_id: str, kind: TokenKind) -> list[bytes]:
        """Every value that was ever held of a secret, oldest first."""
        records = [
            await self.storage.enrollments.load_record(one.id)
            for one in await self.history(enrollment_id, kind)
        ]
        return [self.open(record) for record in records if record is not None]

    async def due(self, within: timedelta = timedelta(0)) -> list[str]:
        """Ids of the channels that would be pushed by then. A claim, so the lease hides them for a moment."""
        claimed = await self.storage.wakes.claim(
            self.clock.now() + within, limit=100, lease=timedelta(seconds=1)
        )
        return [due.enrollment.id for due in claimed]

    async def pushed(self, enrollment_id: str) -> None:
        """Let the due push of a channel be accepted by APNs."""
        due = await self._claimed(enrollment_id)
        await self._settled(due, accepted=True)

    async def push_died(self, enrollment_id: str) -> None:
        """Let the due push of a channel be answered 410, with a moment after the token arrived."""
        due = await self._claimed(enrollment_id)
        await self._settled(
            due, accepted=False, dead_reason="Unregistered", dead_before=self.clock.now()
        )

    async def _claimed(self, enrollment_id: str) -> DueWake:
        self.clock.advance(seconds=2)
        claimed = await self.storage.wakes.claim(
            self.clock.now(), limit=100, lease=timedelta(minutes=1)
        )
        (due,) = [due for due in claimed if due.enrollment.id == enrollment_id]
        return due

    async def _settled(self, due: DueWake, *, accepted: bool, **died: Any) -> None:
        step = WakeStep(
            enrollment_key=due.enrollment.key,
            record_id=due.push_record.id,
            at=self.clock.now(),
            attempt=due.attempt + int(accepted),
            accepted=accepted,
            next_due_at=self.clock.now() + timedelta(minutes=1),
            **died,
        )
        await self.storage.wakes.settle([step])

    async def credential(self, device: "Device", **changes: Any) -> None:
        """Let our CA know this device's certificate: whom it was issued for, and why."""
        credential = Credential(
            fingerprint=device.identity.fingerprint,
            tenant=DEFAULT_TENANT,
            purpose=changes.get("purpose", Purpose.ENROLL),
            bound=changes.get("bound", Bound()),
            profile=changes.get("profile", FULL_PROFILE),
            issued_at=self.clock.now(),
            not_after=device.identity.not_after,
            challenge_id="0" * 32,
        )
        await self.storage.challenges.add_credential(credential, device.identity.certificate)

    async def renewal_of(self, device: "Device") -> "Device":
        """The device with a certificate that our CA issued for the renewal of its enrollment."""
        renewed = device.with_certificate(f"renewed certificate of {device.udid}")
        key = (await device.row()).key
        await self.credential(renewed, purpose=Purpose.RENEW, bound=Bound(enrollment_key=key))
        return renewed

    def device(self, model: "Model", **changes: Any) -> "Device":
        return Device(house=self, model=model, **changes)

    async def enrolled(self, model: "Model", **changes: Any) -> "Device":
        """A device that has enrolled and answered its first commands."""
        device = self.device(model, **changes)
        await device.authenticate()
        await device.token_update()
        await device.drain()
        return device


@dataclass(frozen=True)
class Model:
    """What a kind of device says of itself."""

    product: str
    os_version: str
    unlock: bool
    user_enrollment: bool = False


IPHONE = Model("iPhone15,2", "18.1", unlock=True)
IPAD = Model("iPad13,1", "18.1", unlock=True)
SHARED_IPAD = Model("iPad13,1", "18.1", unlock=False)
MAC = Model("Mac14,2", "15.1", unlock=False)
INTEL_MAC = Model("MacBookPro15,1", "14.5", unlock=False)
CATALINA = Model("MacBookPro16,1", "10.15.7", unlock=False)
APPLE_TV = Model("AppleTV14,1", "18.1", unlock=False)
BYOD_IPHONE = Model("iPhone15,2", "18.1", unlock=False, user_enrollment=True)

KEEP: Any = object()
ALL_F = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"
_serials = iter(range(1, 1_000_000))


@dataclass
class Device:
    """A device of a scene: it sends what it is told to, and remembers nothing of its own accord but its values."""

    house: House
    model: Model
    udid: str = field(default_factory=lambda: f"00008110-{next(_serials):016X}")
    serial: str = field(default_factory=lambda: f"C02{next(_serials):08d}")
    certificate: str = ""
    topic: str = TOPIC
    token: bytes = b"\x01" * 32
    magic: str = "A0B0C0D0-0000-4000-8000-000000000000"
    unlock: bytes = b"\xfb\xef\xbe\xff\xff\xff" + b"u" * 1282

    def __post_init__(self) -> None:
        self.certificate = self.certificate or f"certificate of {self.udid}"

    @property
    def id(self) -> str:
        return self.udid

    @property
    def who(self) -> dict[str, Any]:
        return {"EnrollmentID" if self.model.user_enrollment else "UDID": self.udid}

    @property
    def identity(self) -> DeviceIdentity:
        der = self.certificate.encode()
        return DeviceIdentity(
            fingerprint=Fingerprint(hashlib.sha256(der).hexdigest()),
            tenant=DEFAULT_TENANT,
            certificate=der,
            not_after=START + timedelta(days=365),
            is_ours=True,
        )

    def with_certificate(self, name: str) -> "Device":
        """The same device, or somebody who claims to be it, with another certificate."""
        return replace(self, certificate=name)

    async def send(self, message_type: str, **keys: Any) -> Reply | Farewell:
        """Send a check-in message with these keys beside the identity; None leaves a key out."""
        fields = {"MessageType": message_type, **self.who, **keys}
        body = plist.encode({key: value for key, value in fields.items() if value is not None})
        return await self.house.checkin.handle(self.identity, decode_checkin(plist.read_dict(body)))

    async def authenticate(self, **keys: Any) -> Reply | Farewell:
        facts: dict[str, Any] = {
            "Topic": self.topic,
            "ProductName": self.model.product,
            "OSVersion": self.model.os_version,
            "SerialNumber": None if self.model.user_enrollment else self.serial,
        }
        return await self.send("Authenticate", **{**facts, **keys})

    async def token_update(self, **keys: Any) -> Reply | Farewell:
        on_device = "UserID" not in keys and "EnrollmentUserID" not in keys
        values: dict[str, Any] = {
            "Topic": self.topic,
            "Token": self.token,
            "PushMagic": self.magic,
            "UnlockToken": self.unlock if self.model.unlock and on_device else None,
        }
        return await self.send("TokenUpdate", **{**values, **keys})

    async def report(
        self, status: str = "Idle", uuid: str | None = None, **keys: Any
    ) -> dict[str, Any] | None:
        """Send a report; the command that came back as a plain dict, or None for the empty body."""
        reply = await self.report_raw(status, uuid, **keys)
        assert isinstance(reply, Reply)
        if reply.media is Media.NONE:
            assert reply.body == b""
            return None
        return dict(plist.read_dict(reply.body).as_mapping())

    async def report_raw(
        self, status: str = "Idle", uuid: str | None = None, **keys: Any
    ) -> Reply | Farewell:
        fields = {"Status": status, "CommandUUID": uuid, **self.who, **keys}
        body = plist.encode({key: value for key, value in fields.items() if value is not None})
        return await self.house.channel.handle(self.identity, decode_connect(plist.read_dict(body)))

    async def drain(self, **keys: Any) -> list[str]:
        """Acknowledge everything that is queued; the request types in order."""
        done = []
        command = await self.report("Idle", **keys)
        while command is not None:
            done.append(command["Command"]["RequestType"])
            command = await self.report("Acknowledged", command["CommandUUID"], **keys)
        return done

    async def work_off(self, **answers: dict[str, Any]) -> list[str]:
        """Acknowledge everything that is queued and follows, with these answers by request type; what it was."""
        done: list[str] = []
        for _ in range(20):
            command = await self.report("Idle")
            if command is None:
                return done
            while command is not None:
                name = command["Command"]["RequestType"]
                done.append(name)
                command = await self.report(
                    "Acknowledged", command["CommandUUID"], **answers.get(name, {})
                )
        raise AssertionError("the commands never end")

    async def set_bootstrap(self, value: bytes | None, **keys: Any) -> Reply | Farewell:
        return await self.send("SetBootstrapToken", BootstrapToken=value, **keys)

    async def get_bootstrap(self, **keys: Any) -> bytes:
        reply = await self.send("GetBootstrapToken", **keys)
        assert isinstance(reply, Reply)
        assert reply.body, "a Get is answered with a property list, not with nothing"
        return plist.read_dict(reply.body).data("BootstrapToken")

    async def row(self) -> Enrollment:
        return await self.house.require_row(self.id)
