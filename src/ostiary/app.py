"""The running server: a house's doors, its loops, and their end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog
from starlette.types import ASGIApp

from ostiary.domain.token import DEFAULT_TENANT
from ostiary.errors import OstiaryError
from ostiary.house import House
from ostiary.own_tls import (
    keep_tls_fresh,
    open_tls,
)
from ostiary.services.identity_survey import IdentitySurvey
from ostiary.services.key_rotation import KeyRotation
from ostiary.services.lights_out import LightsOutDesk
from ostiary.services.policies import REFRESH, PolicyBook
from ostiary.settings import Settings
from ostiary.web.body import BodyBudget
from ostiary.web.control import Control, ControlServices
from ostiary.web.control_escrow import EscrowControl, EscrowServices
from ostiary.web.control_keys import KeyControl
from ostiary.web.control_lights_out import LightsOutControl
from ostiary.web.control_missing import MissingControl
from ostiary.web.control_secrets import SecretControl, SecretServices
from ostiary.web.control_socket import ControlSocket
from ostiary.web.doors import Duty, OpenDoors
from ostiary.web.enroll import enroll_routes
from ostiary.web.figures import SharedFigures
from ostiary.web.front import FrontDoor, Wing
from ostiary.web.mdm import mdm_routes
from ostiary.web.metrics import PrometheusMeter
from ostiary.web.nano import NanoApi, NanoServices
from ostiary.web.nano_push import CoalescedPushes
from ostiary.web.operations import operations_routes
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
STRANGERS_BODY_BYTES: Final = 8 * 1024 * 1024
"""What requests may hold in memory together whose senders show no certificate: SCEP and enrollment."""


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
    secrets = SecretServices(
        desk=house.secrets, reveals=house.reveals, clock=house.clock, budget=house.budget
    )
    escrow = EscrowServices(
        desk=house.escrow, filevault=house.filevault, names=house.secrets, budget=house.budget
    )
    routes = [
        *Control(services).routes(),
        *SecretControl(secrets).routes(),
        *MissingControl(missing=house.missing).routes(),
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
