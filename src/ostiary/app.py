"""The wiring: settings in, a house out. The only place that knows every room."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Final

import structlog
from cryptography import x509
from starlette.types import ASGIApp

from ostiary.domain.token import DEFAULT_TENANT
from ostiary.errors import OstiaryError
from ostiary.keys.authority import open_device_authority
from ostiary.keys.drawn import SystemDraws
from ostiary.keys.escrow_key import ThreadedEscrowKeys
from ostiary.keys.keyring import FileKeyring
from ostiary.keys.root_file import RootKeyFile
from ostiary.keys.sealer import EpochSealer, open_sealer
from ostiary.keys.wrapping import RootKeyDoesNotMatch
from ostiary.outward.apns import ApnsEndpoint, ApnsPusher
from ostiary.own_tls import (
    keep_tls_fresh,
    load_chain,
    open_tls,
    own_tls_authority,
    profile_signer,
    tls_files,
)
from ostiary.ports.clock import Clock
from ostiary.ports.signer import IssuingAuthority
from ostiary.ports.storage import Enrollments
from ostiary.ports.trace import Trace, no_trace
from ostiary.protocol.mdm.enrollment_profile import EnrollmentUrls
from ostiary.services.admin_account import AdminAccounts
from ostiary.services.api_tokens import ApiTokenService
from ostiary.services.authorities import DeviceAuthorities, TrustedAuthority, load_authorities
from ostiary.services.certificates import CertificateService
from ostiary.services.checkin import CheckinService
from ostiary.services.commands import CommandDesk
from ostiary.services.connect import CommandChannel
from ostiary.services.destructive_cap import DestructiveCap
from ostiary.services.devices import DeviceDesk
from ostiary.services.enrollment import EnrollmentService, ProfilePolicy
from ostiary.services.escrow import EscrowDesk
from ostiary.services.escrow_due import EscrowWatch
from ostiary.services.filevault import FileVaultDesk
from ostiary.services.gate import DeviceGate
from ostiary.services.health import Dated, Finding, HealthService, examine_dated
from ostiary.services.identity_renewal import IdentityRenewalService, RenewalParts
from ostiary.services.identity_survey import IdentitySurvey
from ostiary.services.invitations import InvitationService
from ostiary.services.key_rotation import REST, KeyRotation
from ostiary.services.lights_out import LightsOutDesk
from ostiary.services.network_users import load_network_users
from ostiary.services.policies import REFRESH, PolicyBook
from ostiary.services.push import PushService
from ostiary.services.push_certificates import PushCertificateService
from ostiary.services.push_count import CountedPusher
from ostiary.services.renewal import RenewalDesk
from ostiary.services.renewal_channel import RenewalChannel
from ostiary.services.resealing import ResealingPace, ResealingService
from ostiary.services.retention import RetentionService
from ostiary.services.reveal import RevealService
from ostiary.services.scep import ScepService
from ostiary.services.secret_reports import SecretReader
from ostiary.services.secrets_desk import SecretsDesk
from ostiary.settings import Settings
from ostiary.storage import Storage, open_storage
from ostiary.web.body import BodyBudget
from ostiary.web.control import Control, ControlServices
from ostiary.web.control_escrow import EscrowControl, EscrowServices
from ostiary.web.control_keys import KeyControl
from ostiary.web.control_lights_out import LightsOutControl
from ostiary.web.control_secrets import SecretControl, SecretServices
from ostiary.web.control_socket import ControlSocket
from ostiary.web.doors import Duty, OpenDoors
from ostiary.web.enroll import enroll_routes
from ostiary.web.figures import SharedFigures
from ostiary.web.front import FrontDoor, Wing
from ostiary.web.mdm import DeviceDoor, mdm_routes
from ostiary.web.metrics import PrometheusMeter
from ostiary.web.nano import NanoApi, NanoServices
from ostiary.web.nano_push import CoalescedPushes
from ostiary.web.operations import operations_routes
from ostiary.web.presented import ProxyTrust
from ostiary.web.problems import Door, log_problem
from ostiary.web.scep import scep_routes
from ostiary.web.server import Bounds, Listener
from ostiary.worker.escrow_loop import run_escrow_loop
from ostiary.worker.push_loop import RepeatPace, run_push_loop
from ostiary.worker.renewal_loop import run_renewal_loop
from ostiary.worker.resealing_loop import run_resealing_loop
from ostiary.worker.retention_loop import run_retention_loop

_log = structlog.get_logger()


FIGURES_SECONDS: Final = 1.0
"""How often a process tells the others of its node what it has counted."""
BREATH_SECONDS: Final = 0.2
"""Between two looks for new keys, however many values ask for one."""
RESEALING_PACE: Final = ResealingPace()
STRANGERS_BODY_BYTES: Final = 8 * 1024 * 1024
"""What requests may hold in memory together whose senders show no certificate: SCEP and enrollment."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """This moment, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the clock that everybody else is given


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """One Ostiary, opened: what serves, what pushes, and what commands ask."""

    settings: Settings
    clock: Clock
    storage: Storage
    sealer: EpochSealer
    rotation: KeyRotation
    resealing: ResealingService
    meter: PrometheusMeter
    budget: BodyBudget
    policies: PolicyBook
    retention: RetentionService
    renewals: IdentityRenewalService
    escrow: EscrowDesk
    escrow_watch: EscrowWatch
    filevault: FileVaultDesk
    tokens: ApiTokenService
    desk: CommandDesk
    devices: DeviceDesk
    pushes: PushService
    push_certificates: PushCertificateService
    invitations: InvitationService
    enrollment: EnrollmentService
    health: HealthService
    device_door: DeviceDoor
    scep: ScepService


@asynccontextmanager
async def open_house(
    settings: Settings,
    clock: Clock | None = None,
    trace: Trace = no_trace,
    *,
    create: bool = False,
) -> AsyncIterator[House]:
    """Open the store and the keys, and wire everything; nothing listens and nothing is sent yet.

    Only a new installation may `create` its database: an empty one in place of a lost one would know no device.

    Raises:
        DatabaseMissing: there was one, and it is gone.
        StoreIsOpen: another process has it.
        RootKeyDoesNotMatch, KeyFileMissing, KeyFileExposed, …: as storage and keys have it.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        root_file = RootKeyFile(settings.places.root_key)
        root_file.demand()
        authority = open_device_authority(*settings.places.device_ca)
        storage = open_storage(settings.database_url, clock, trace, create=create)
        stack.push_async_callback(storage.close)
        sealer, rotation = await _open_keys(root_file, storage, clock)
        house, pusher = _wire(settings, clock, storage, sealer, rotation, authority, trace)
        stack.callback(pusher.close)
        await house.policies.refresh()
        yield house


async def _open_keys(
    root_file: RootKeyFile, storage: Storage, clock: Clock
) -> tuple[EpochSealer, KeyRotation]:
    """The keys of this database, new ones for a new tenant; a change of the root key that was cut off is ended."""
    rows, now = await storage.epochs.load_epochs(), clock.now()
    root_file.finish_interrupted(rows, now)
    try:
        root = root_file.load(rows)
    except RootKeyDoesNotMatch:
        rows = await storage.epochs.load_epochs()  # another process may have replaced it just now
        root = root_file.load(rows)
    sealer, new_rows = open_sealer(root, rows, now=now)
    for row in new_rows:
        await storage.epochs.add_epoch(row)
    rest = REST if storage.is_shared else timedelta(0)
    keyring = FileKeyring(root_file, sealer, (*rows, *new_rows), now, rest=rest)
    rotation = KeyRotation(storage.epochs, keyring, clock, rest=rest)
    sealer.when_unknown = rotation.want
    return sealer, rotation


def examine_closed(settings: Settings, clock: Clock | None = None) -> tuple[Finding, ...]:
    """What the doctor can tell of a house that does not open: its clock and its certificates.

    Raises:
        KeyFileMissing, KeyFileExposed, …: as keys have it.
    """
    authority = open_device_authority(*settings.places.device_ca)
    return examine_dated(_dated(settings, authority), (clock or SystemClock()).now())


def front_app(house: House, only: Duty | None = None) -> ASGIApp:
    """What devices and programs reach: exact addresses, each with its way of telling errors.

    A worker alone answers only those who run it: whether it lives, whether it is ready, what it has counted.
    """
    nano = NanoServices(
        tokens=house.tokens,
        desk=house.desk,
        pushes=CoalescedPushes(house.pushes),
        certificates=house.push_certificates,
        budget=house.budget,
    )

    # Whoever holds no certificate of ours cannot use up what enrolled devices need. (users.md 5.4 case 15)
    strangers = BodyBudget(STRANGERS_BODY_BYTES)

    async def figures() -> bytes:
        certificates = await house.storage.push_certificates.list_push_certificates(DEFAULT_TENANT)
        return house.meter.render(await house.storage.reports.count(), certificates)

    house.meter.body_bytes.set_function(lambda: house.budget.held_bytes + strangers.held_bytes)
    operations = operations_routes(check=house.storage.check, figures=figures, tokens=house.tokens)
    if only is Duty.WORKER:
        return FrontDoor([Wing(door=Door.API, routes=operations)])
    return FrontDoor(
        [
            Wing(door=Door.DEVICE, routes=mdm_routes(house.device_door)),
            Wing(door=Door.DEVICE, routes=scep_routes(house.scep, strangers)),
            Wing(
                door=Door.ENROLLMENT,
                routes=enroll_routes(house.enrollment.profile_for, strangers),
            ),
            Wing(door=Door.NANO, routes=NanoApi(nano).routes()),
            Wing(door=Door.API, routes=operations),
        ]
    )


def control_app(house: House) -> ASGIApp:
    """What the command line reaches, over the control socket or in-process."""
    services = ControlServices(
        reports=house.storage.reports,
        desk=house.desk,
        devices=house.devices,
        renewals=house.renewals,
        identities=IdentitySurvey(
            house.storage.renewals,
            house.renewals,
            house.policies.current,
            house.clock,
            DEFAULT_TENANT,
        ),
        pushes=house.pushes,
        certificates=house.push_certificates,
        invitations=house.invitations,
        policies=house.policies,
        retention=house.retention,
        tokens=house.tokens,
        health=house.health,
        clock=house.clock,
        budget=house.budget,
        enroll_url=lambda code: f"{house.settings.url}/enroll/{code}",
    )
    names = SecretsDesk(house.storage.reports, house.storage.escrows, house.clock)
    secrets = SecretServices(
        desk=names,
        reveals=RevealService(
            house.storage.enrollments,
            house.storage.escrows,
            house.storage.reports,
            house.sealer,
            house.clock,
            house.policies.current,
        ),
        clock=house.clock,
        budget=house.budget,
    )
    escrow = EscrowServices(
        desk=house.escrow, filevault=house.filevault, names=names, budget=house.budget
    )
    routes = [
        *Control(services).routes(),
        *SecretControl(secrets).routes(),
        *EscrowControl(escrow).routes(),
        *LightsOutControl(
            desk=LightsOutDesk(house.storage.enrollments, house.desk, house.clock),
            budget=house.budget,
        ).routes(),
        *KeyControl(
            rotation=house.rotation, resealing=house.resealing, budget=house.budget
        ).routes(),
    ]
    return FrontDoor([Wing(door=Door.CONTROL, routes=routes)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where a serving house can be reached."""

    url: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What this process does of a node's work: all of it, unless it is told otherwise."""

    only: Duty | None = None
    number: int = 1
    """Counted from 1 among the processes of a node; the first also renews what they have in common."""
    doors: OpenDoors | None = None
    """Opened by the parent of several processes; None: this one opens its own."""
    figures: SharedFigures | None = None


def open_doors(settings: Settings, only: Duty | None = None, processes: int = 1) -> OpenDoors:
    """The sockets that the settings ask for; a worker alone has no control socket.

    Raises:
        PortTaken, DirectoryIsServed, ControlSocketUnusable: none is left open.
    """
    control = None if only is Duty.WORKER else ControlSocket(settings.places.control_socket)
    return OpenDoors(*settings.listen_address, control=control, processes=processes)


async def serve(
    house: House,
    stop: asyncio.Event,
    *,
    ready: Callable[[Served], None] = lambda _served: None,
    bounds: Bounds | None = None,
    part: Part | None = None,
) -> None:
    """Serve devices, programs and commands, and wake devices, until `stop` is set; then let what is under way end.

    `ready` is told the address once connections are accepted; a port of 0 in the settings is any free one.

    Raises:
        PortTaken, TlsFileUnusable, DirectoryIsServed, ControlSocketUnusable: nothing was served.
    """
    settings, part = house.settings, part or Part()
    limits = bounds or _bounds(settings)
    renews = part.number == 1 and part.only is not Duty.WORKER  # which may share the directory
    sharing = 1 if part.figures is None else part.figures.processes
    tls = open_tls(settings, house.clock, renews=renews) if settings.tls.enabled else None
    opened = part.doors or open_doors(settings, part.only)
    doors, (host, port) = opened.take(part.number), opened.address
    devices = Listener(front_app(house, part.only), limits, tls=tls.context if tls else None)
    house.meter.connections.set_function(lambda: len(devices.state.connections))
    commands = Listener(control_app(house), replace(limits, connections=64))
    try:
        await devices.open(doors.port)
        if doors.commands is not None:
            await commands.open(doors.commands)
        async with asyncio.TaskGroup() as group:
            if part.only is not Duty.WEB:
                group.create_task(
                    run_push_loop(
                        house.storage.wakes,
                        house.pushes,
                        house.clock,
                        stop,
                        repeats=RepeatPace(max(1, settings.apns.repeats_per_second // sharing)),
                    )
                )
                group.create_task(run_retention_loop(house.retention, stop))
                group.create_task(run_renewal_loop(house.renewals, stop))
                group.create_task(run_escrow_loop(house.escrow_watch, stop))
                group.create_task(run_resealing_loop(house.resealing, stop))
            refreshing = [
                group.create_task(_keep_policies_fresh(house.policies)),
                group.create_task(_keep_keys_fresh(house.rotation)),
            ]
            if tls is not None:
                refreshing.append(
                    group.create_task(keep_tls_fresh(settings, house.clock, tls, renews=renews))
                )
            if part.figures is not None:
                house.meter.share(part.figures, part.number)
                refreshing.append(group.create_task(_keep_figures_fresh(house.meter)))
            _log.info(
                "serving",
                url=settings.url, host=host, port=port, tls=settings.tls.enabled, only=part.only,
            )  # fmt: skip
            ready(Served(url=settings.url, host=host, port=port))
            await stop.wait()
            _log.info("stopping")
            for task in refreshing:
                task.cancel()
            await devices.close(drain_seconds=settings.bounds.drain_seconds)
    finally:
        await devices.close(drain_seconds=0)
        await commands.close(drain_seconds=1)
        house.meter.publish()
        if part.doors is None:
            opened.close()


async def _keep_figures_fresh(meter: PrometheusMeter) -> None:
    while True:
        await asyncio.sleep(FIGURES_SECONDS)
        meter.publish()


async def _keep_policies_fresh(policies: PolicyBook) -> None:
    while True:
        await asyncio.sleep(REFRESH.total_seconds())
        try:
            await policies.refresh()
        except OstiaryError as error:
            log_problem(error)


async def _keep_keys_fresh(rotation: KeyRotation) -> None:
    while True:
        await rotation.wait()
        try:
            await rotation.refresh()
        except OstiaryError as error:
            log_problem(error)
        await asyncio.sleep(BREATH_SECONDS)


def _bounds(settings: Settings) -> Bounds:
    given = settings.bounds
    return Bounds(
        connections=given.connections,
        header_timeout_seconds=given.header_timeout_seconds,
        body_idle_seconds=given.body_idle_seconds,
        keep_alive_seconds=given.keep_alive_seconds,
    )


def _wire(
    settings: Settings,
    clock: Clock,
    storage: Storage,
    sealer: EpochSealer,
    rotation: KeyRotation,
    authority: IssuingAuthority,
    trace: Trace,
) -> tuple[House, ApnsPusher]:
    meter = PrometheusMeter()
    budget = BodyBudget(settings.bounds.body_budget_bytes)
    policies = PolicyBook(storage.policies)
    certificates = PushCertificateService(
        certificates=storage.push_certificates, sealer=sealer, clock=clock
    )
    pusher = ApnsPusher(certificates, _apns_endpoint(settings))
    invitations = InvitationService(challenges=storage.challenges, sealer=sealer, clock=clock)
    enrollment = EnrollmentService(
        urls=EnrollmentUrls(base=settings.url),
        invitations=invitations,
        challenges=storage.challenges,
        push_certificates=storage.push_certificates,
        sealer=sealer,
        clock=clock,
        sign=profile_signer(settings),
        policy=ProfilePolicy(trust_anchors=own_tls_authority(settings)),
    )
    escrow_keys, draws = ThreadedEscrowKeys(), SystemDraws()
    escrow = EscrowDesk(storage.enrollments, sealer, escrow_keys, draws, clock)
    cap = DestructiveCap(storage.reports, policies.current, clock)
    own_profile = EnrollmentUrls(base=settings.url).identifier
    desk = CommandDesk(storage.enrollments, escrow, sealer, draws, clock, cap, own_profile)
    secrets = SecretReader(storage.escrows, escrow_keys, sealer, clock)
    renewals = IdentityRenewalService(
        RenewalParts(
            renewals=storage.renewals,
            reports=storage.reports,
            walks=storage.retention,
            desk=RenewalDesk(storage.enrollments, enrollment, desk, clock),
        ),
        policies.current,
        clock,
    )

    resealing = ResealingService(
        storage.sealed_values, storage.retention, sealer, clock, RESEALING_PACE
    )

    def channel_over(enrollments: Enrollments) -> CommandChannel:
        return CommandChannel(
            enrollments,
            sealer,
            clock,
            policies.current,
            meter,
            secrets,
            enrollment.return_profile,
        )

    house = House(
        settings=settings,
        clock=clock,
        storage=storage,
        sealer=sealer,
        rotation=rotation,
        resealing=resealing,
        meter=meter,
        budget=budget,
        policies=policies,
        retention=RetentionService(storage.retention, policies.current, clock, meter),
        tokens=ApiTokenService(storage.api_tokens, sealer, clock),
        renewals=renewals,
        desk=desk,
        escrow=escrow,
        escrow_watch=EscrowWatch(storage.enrollments, storage.escrows, escrow, clock),
        filevault=FileVaultDesk(
            storage.enrollments,
            storage.escrows,
            sealer,
            escrow_keys,
            clock,
            urls=EnrollmentUrls(base=settings.url),
            sign=profile_signer(settings),
        ),
        devices=DeviceDesk(storage.enrollments, storage.challenges, clock),
        pushes=PushService(
            enrollments=storage.enrollments,
            certificates=storage.push_certificates,
            pusher=CountedPusher(pusher, meter),
            sealer=sealer,
            clock=clock,
        ),
        push_certificates=certificates,
        invitations=invitations,
        enrollment=enrollment,
        health=HealthService(
            storage.reports,
            storage.push_certificates,
            storage.wakes,
            storage.retention,
            storage.escrows,
            clock,
            _dated(settings, authority),
            resealing=resealing,
        ),
        device_door=DeviceDoor(
            gate=DeviceGate(_device_authorities(settings, authority), clock, policies.current),
            checkin=CheckinService(
                storage.enrollments,
                sealer,
                clock,
                policies.current,
                network_users=load_network_users(
                    settings.path(settings.network_users) if settings.network_users else None
                ),
                admins=AdminAccounts(sealer, draws),
                make_profile=enrollment.return_profile,
                trace=trace,
            ),
            commands=channel_over(storage.enrollments),
            renewals=RenewalChannel(
                storage.enrollments, storage.challenges, renewals, channel_over
            ),
            proxies=ProxyTrust(
                header=(settings.proxy.certificate_header or "").lower().encode("latin-1"),
                networks=tuple(ip_network(network) for network in settings.proxy.trusted)
                if settings.proxy.certificate_header
                else (),
            ),
            budget=budget,
            meter=meter,
        ),
        scep=ScepService(
            authority=authority,
            certificates=CertificateService(authority, clock),
            challenges=storage.challenges,
            sealer=sealer,
            clock=clock,
        ),
    )
    return house, pusher


def _apns_endpoint(settings: Settings) -> ApnsEndpoint:
    ca = settings.apns.ca
    return ApnsEndpoint(
        host=settings.apns.host,
        port=settings.apns.port,
        ca_file=settings.path(ca) if ca is not None else None,
    )


def _device_authorities(settings: Settings, authority: IssuingAuthority) -> DeviceAuthorities:
    ours = TrustedAuthority(certificate=authority.certificate, tenant=DEFAULT_TENANT, is_ours=True)
    foreign = [one for file in settings.trust_ca for one in load_authorities(settings.path(file))]
    return DeviceAuthorities([ours, *foreign])


def _dated(settings: Settings, authority: IssuingAuthority) -> Sequence[Dated]:
    ca = x509.load_der_x509_certificate(authority.certificate)
    dated = [
        Dated(
            subject="device CA",
            not_after=ca.not_valid_after_utc,
            todo="Every device must be given an identity of a new CA before: plan it.",
        )
    ]
    if settings.tls.enabled:
        leaf = load_chain(tls_files(settings)[0])[0]
        todo = "Restart the server, which renews its own; replace the files of [tls] where it is yours."
        dated.append(
            Dated(subject="TLS certificate", not_after=leaf.not_valid_after_utc, todo=todo)
        )
    return dated
