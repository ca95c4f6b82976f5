"""The house: settings in, everything that an installation consists of opened and wired. Knows every room but the doors to it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Final

from cryptography import x509

from ostiary.domain.token import DEFAULT_TENANT
from ostiary.keys.authority import open_device_authority
from ostiary.keys.drawn import SystemDraws
from ostiary.keys.escrow_key import ThreadedEscrowKeys
from ostiary.keys.keyring import FileKeyring
from ostiary.keys.root_file import RootKeyFile
from ostiary.keys.sealer import EpochSealer, open_sealer
from ostiary.keys.wrapping import RootKeyDoesNotMatch
from ostiary.outward.apns import ApnsEndpoint, ApnsPusher
from ostiary.own_tls import (
    load_chain,
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
from ostiary.services.invitations import InvitationService
from ostiary.services.key_rotation import REST, KeyRotation
from ostiary.services.missing_secrets import MissingSecrets
from ostiary.services.network_users import load_network_users
from ostiary.services.policies import PolicyBook
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
from ostiary.web.mdm import DeviceDoor
from ostiary.web.metrics import PrometheusMeter
from ostiary.web.presented import ProxyTrust

RESEALING_PACE: Final = ResealingPace()


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
    secrets: SecretsDesk
    missing: MissingSecrets
    reveals: RevealService
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
        secrets=SecretsDesk(storage.reports, storage.escrows, clock),
        missing=MissingSecrets(storage.fleet_secrets, clock),
        reveals=RevealService(
            storage.enrollments,
            storage.escrows,
            storage.reports,
            sealer,
            clock,
            policies.current,
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
