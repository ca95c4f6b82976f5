"""A whole simulated world: Apple on loopback, and a fleet of devices that enroll and stay.

`SimulatedApple` and `SimulatedFleet` are async context managers for tests and demos; `run_apple` and
`run_devices` are what a command line starts. Nothing here leaves loopback except what an enrollment URL names.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ostiary_sim.apns.certificates import (
    PushAuthority,
    PushCredential,
    topic_of,
    write_private,
)
from ostiary_sim.apns.control import ControlServer
from ostiary_sim.apns.courier import CourierClient, CourierServer
from ostiary_sim.apns.server import SimulatedApns
from ostiary_sim.clock import Clock, system_clock
from ostiary_sim.connections import HttpSource, TlsClients
from ostiary_sim.device import Device
from ostiary_sim.errors import SimulationFailed
from ostiary_sim.events import Listener
from ostiary_sim.identity import KeySource, new_rsa_key
from ostiary_sim.personality import PERSONALITIES, Personality
from ostiary_sim.push import PushService

CA_FILE: Final = "apple-ca.pem"
PUSH_CERTIFICATE_FILE: Final = "push-certificate.pem"
PUSH_KEY_FILE: Final = "push-key.pem"
ENDPOINTS_FILE: Final = "apple.json"
_POLL_SECONDS: Final = 5.0


class SimulatedApple:
    """Apple's push service with courier and control endpoint, on loopback; an async context manager.

    The authority and one push certificate are kept in `directory`, so that a later run is the same Apple.

    Args:
        directory: where certificates and `apple.json` are written.
        clock: for records; TLS itself looks at the machine's clock.
        port: of the push service; 0 takes a free one, as for the next two.
        courier_port: where devices of other processes listen.
        control_port: where levers are pulled from outside.
        max_streams: concurrent requests on one push connection.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock = system_clock,
        port: int = 0,
        courier_port: int = 0,
        control_port: int = 0,
        max_streams: int = 1000,
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = PushAuthority.open(directory, clock)
        self.push_credential = self._credential()
        """A push certificate with its key, also in `push_certificate_file` and `push_key_file`."""
        self.ca_file.write_bytes(self.authority.ca_pem)
        self.apns = SimulatedApns(self.authority, clock=clock, port=port, max_streams=max_streams)
        self.courier = CourierServer(self.apns, port=courier_port)
        self.control = ControlServer(self.apns, port=control_port)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for part in (self.apns, self.courier, self.control):
            await self._open.enter_async_context(part)
        path = self.directory / ENDPOINTS_FILE
        path.write_text(json.dumps(self.endpoints, indent=2) + "\n")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    @property
    def ca_file(self) -> Path:
        """What a push client must trust."""
        return self.directory / CA_FILE

    @property
    def push_certificate_file(self) -> Path:
        """The push certificate, PEM."""
        return self.directory / PUSH_CERTIFICATE_FILE

    @property
    def push_key_file(self) -> Path:
        """Its key, PEM, readable by the owner alone."""
        return self.directory / PUSH_KEY_FILE

    @property
    def topic(self) -> str:
        """The topic of the push certificate."""
        return self.push_credential.topic

    @property
    def host(self) -> str:
        """Where the push service listens."""
        return self.apns.host

    @property
    def port(self) -> int:
        """Its port."""
        return self.apns.port

    @property
    def endpoints(self) -> dict[str, str]:
        """Everything another process needs to use this Apple, as `apple.json` has it."""
        return {
            "apns": f"https://{self.apns.host}:{self.apns.port}",
            "apns_host": self.apns.host,
            "apns_port": str(self.apns.port),
            "courier": f"{self.courier.host}:{self.courier.port}",
            "control": self.control.url,
            "ca_file": str(self.ca_file),
            "push_certificate_file": str(self.push_certificate_file),
            "push_key_file": str(self.push_key_file),
            "topic": self.topic,
        }

    def _credential(self) -> PushCredential:
        if self.push_certificate_file.exists() and self.push_key_file.exists():
            return _read_credential(self.push_certificate_file, self.push_key_file)
        made = self.authority.issue_push_certificate()
        self.push_certificate_file.write_bytes(made.certificate_pem)
        write_private(self.push_key_file, made.key_pem)
        return made


def _read_credential(certificate_file: Path, key_file: Path) -> PushCredential:
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    return PushCredential(
        certificate=certificate,
        topic=topic_of(certificate) or "",
        key=key,  # type: ignore[arg-type]  # what we wrote is an RSA key
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReport:
    """How an enrollment of a fleet went."""

    enrolled: int
    failures: Mapping[str, int]
    """What went wrong, as told by the devices, and how often."""
    ids: tuple[str, ...]
    """The enrollment ids of those that are enrolled, as the server knows them."""


@dataclass(slots=True, kw_only=True)
class SimulatedFleet:
    """Devices that enroll at a URL, listen for pushes and serve their server; an async context manager.

    Args:
        enroll_url: fetched once for each device.
        count: how many devices.
        personality: one for all, or several dealt out in turn.
        ca_file: authorities to trust for TLS; None: the system's.
        push: where push tokens are announced; a `CourierClient` or a `SimulatedApns`.
        clock: for the devices.
        listener: hears every event.
        seed: the first device's; each further one adds 1. None: not repeatable.
        concurrency: how many enroll at a time.
        with_users: log the personality's users in after enrollment.
        http: connections to use instead of real TLS.
        allow_http: accept `http://` in profiles.
        new_key: makes RSA keys.
    """

    enroll_url: str
    count: int = 1
    personality: str | Personality | Sequence[str | Personality] = "iphone"
    ca_file: Path | None = None
    push: PushService | None = None
    clock: Clock = system_clock
    listener: Listener | None = None
    seed: int | None = None
    concurrency: int = 4
    with_users: bool = True
    http: HttpSource | None = None
    allow_http: bool = False
    new_key: KeySource = new_rsa_key
    devices: list[Device] = field(default_factory=list, init=False)
    _clients: TlsClients | None = field(default=None, init=False, repr=False)

    async def __aenter__(self) -> Self:
        http = self.http
        if http is None:
            http = self._clients = TlsClients(self.ca_file)
        kinds = _personalities(self.personality)
        self.devices = [
            Device(
                kinds[number % len(kinds)],
                http=http,
                clock=self.clock,
                listener=self.listener,
                seed=None if self.seed is None else self.seed + number,
                push=self.push,
                new_key=self.new_key,
                allow_http=self.allow_http,
            )
            for number in range(self.count)
        ]
        for device in self.devices:
            device.return_to_service.enroll_url = self.enroll_url
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for device in self.devices:
            await device.close()
        if self._clients is not None:
            await self._clients.aclose()

    async def enroll_all(self) -> FleetReport:
        """Enroll every device, some at a time; says how many succeeded and why others did not."""
        failures: Counter[str] = Counter()
        turns = asyncio.Semaphore(self.concurrency)
        async with asyncio.TaskGroup() as group:
            for device in self.devices:
                group.create_task(self._enroll(device, turns, failures))
        ids = tuple(
            device.enrollment_id or device.udid for device in self.devices if device.enrolled
        )
        return FleetReport(enrolled=len(ids), failures=failures, ids=ids)

    async def _enroll(
        self, device: Device, turns: asyncio.Semaphore, failures: Counter[str]
    ) -> None:
        async with turns:
            try:
                await device.enroll(await device.fetch_profile(self.enroll_url))
                if self.with_users:
                    await self._log_users_in(device)
            except SimulationFailed as problem:
                failures[str(problem)] += 1
                device.say("enrollment_failed", detail=str(problem))

    async def _log_users_in(self, device: Device) -> None:
        if device.in_setup_assistant or device.lock_screen.is_silent or not device.enrolled:
            return
        bootstrap = device.bootstrap
        waits = bootstrap.supported and not bootstrap.escrowed and not bootstrap.is_pending
        for short_name in device.personality.initial_users:
            # Somebody new, or a login that lets an older Mac escrow after it was allowed to.
            if short_name not in device.users or waits:
                await device.user_login(short_name)

    async def poll_all(self) -> None:
        """Let happen what happens without a push: logins, polls after NotNow, what is still pending."""
        for device in self.devices:
            if device.profile is None:
                continue
            if self.with_users:
                await self._log_users_in(device)
            if device.channel().pending is not None or device.channel().cached_report is not None:
                await device.idle()
            await device.poll()

    async def stay(self, stop: asyncio.Event, *, poll_seconds: float = _POLL_SECONDS) -> None:
        """Serve the server until `stop` is set; pushes arrive by themselves meanwhile."""
        while not stop.is_set():
            await self.poll_all()
            try:
                async with asyncio.timeout(poll_seconds):
                    await stop.wait()
            except TimeoutError:
                continue


def _personalities(
    wished: str | Personality | Sequence[str | Personality],
) -> list[Personality]:
    listed = [wished] if isinstance(wished, (str, Personality)) else wished
    return [each if isinstance(each, Personality) else PERSONALITIES[each] for each in listed]


Say = Callable[[str], object]
"""Takes one line for people or programs."""


async def run_apple(
    directory: Path,
    *,
    say: Say,
    port: int = 0,
    courier_port: int = 0,
    control_port: int = 0,
    stop: asyncio.Event | None = None,
) -> None:
    """Be Apple until `stop` is set (None: until cancelled); says the endpoints as one line of JSON."""
    async with SimulatedApple(
        directory, port=port, courier_port=courier_port, control_port=control_port
    ) as apple:
        say(json.dumps(apple.endpoints))
        await (stop or asyncio.Event()).wait()


async def run_devices(
    enroll_url: str,
    *,
    say: Say,
    count: int = 1,
    personality: str | Sequence[str] = "iphone",
    ca_file: Path | None = None,
    courier: tuple[str, int] | None = None,
    listener: Listener | None = None,
    seed: int | None = None,
    stay: bool = True,
    stop: asyncio.Event | None = None,
) -> FleetReport:
    """Enroll devices and, with `stay`, let them live until `stop` is set (None: until cancelled).

    Args:
        enroll_url: fetched once for each device.
        say: hears one line of JSON when all have enrolled or failed.
        count: how many.
        personality: one name, or several dealt out in turn.
        ca_file: authorities to trust for TLS.
        courier: host and port of a simulated Apple's courier; None: no pushes.
        listener: hears every event.
        seed: the first device's.
        stay: remain after enrollment, if any device enrolled.
        stop: ends the stay.
    """
    async with AsyncExitStack() as stack:
        push = None
        if courier is not None:
            push = await stack.enter_async_context(CourierClient(*courier))
        fleet = await stack.enter_async_context(
            SimulatedFleet(
                enroll_url=enroll_url,
                count=count,
                personality=personality,
                ca_file=ca_file,
                push=push,
                listener=listener,
                seed=seed,
            )
        )
        report = await fleet.enroll_all()
        say(
            json.dumps(
                {
                    "enrolled": report.enrolled,
                    "failures": dict(report.failures),
                    "ids": list(report.ids),
                }
            )
        )
        if stay and report.enrolled:  # without any device there is nothing to wait for
            await fleet.stay(stop or asyncio.Event())
        return report
