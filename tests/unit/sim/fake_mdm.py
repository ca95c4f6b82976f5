"""A small MDM server for the simulator's own tests: enrollment URL, SCEP authority, check-in and connect."""

import plistlib
from base64 import b64decode
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from os import urandom
from typing import Any
from uuid import uuid4

import httpx
from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AttributeOID, NameOID

from ostiary_sim.cms import (
    decode_enveloped,
    encode_certificates_only,
    encode_enveloped,
    encode_signed,
    verify_signed,
)
from ostiary_sim.device import Device
from ostiary_sim.events import Event
from ostiary_sim.identity import Identity, new_rsa_key
from ostiary_sim.personality import PERSONALITIES, Personality
from ostiary_sim.retry import RetryPolicy
from ostiary_sim.scep import Oid

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOPIC = "com.apple.mgmt.External.0b2e7a54-0c0e-4d3b-8b0e-6d4a3a1d2c11"
HOST = "https://mdm.example"
CHALLENGE = "open sesame"


class MovableClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **amount: float) -> None:
        self.now += timedelta(**amount)


def authority(name: str = "Test CA") -> Identity:
    key = new_rsa_key(2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Identity(key=key, certificate=certificate)


@dataclass
class FakeScep:
    """A SCEP authority that can be told to hesitate, refuse or lie."""

    ca: Identity
    pending_for: int = 0
    capabilities: tuple[str, ...] = (
        "AES",
        "POSTPKIOperation",
        "SHA-256",
        "Renewal",
        "SCEPStandard",
    )
    with_ra: Identity | None = None
    wrong_nonce: bool = False
    wrong_signer: Identity | None = None
    seen_types: list[str] = field(default_factory=list)
    requests: list[x509.CertificateSigningRequest] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        match request.url.params["operation"]:
            case "GetCACaps":
                return httpx.Response(200, text="\n".join(self.capabilities))
            case "GetCACert":
                return self._certificates()
            case _:
                self.methods.append(request.method)
                sent = request.content or b64decode(request.url.params["message"])
                return httpx.Response(
                    200,
                    content=self._operate(sent),
                    headers={"Content-Type": "application/x-pki-message"},
                )

    def _certificates(self) -> httpx.Response:
        der = self.ca.certificate.public_bytes(serialization.Encoding.DER)
        kind = "application/x-x509-ca-cert"
        if self.with_ra is not None:
            der = encode_certificates_only([self.ca.certificate, self.with_ra.certificate])
            kind = "application/x-x509-ca-ra-cert"
        return httpx.Response(200, content=der, headers={"Content-Type": kind})

    def _operate(self, message: bytes) -> bytes:
        signed = verify_signed(message)
        kind = str(signed.attributes[Oid.MESSAGE_TYPE].native)
        self.seen_types.append(kind)
        receiver = self.with_ra or self.ca
        assert isinstance(receiver.key, rsa.RSAPrivateKey)
        inside = decode_enveloped(signed.content, receiver.key)
        if kind != "20":
            self.requests.append(x509.load_der_x509_csr(inside))
        csr = self.requests[-1]
        challenge = csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD).value
        status, content, extra = "0", b"", {}
        if challenge != CHALLENGE.encode() or kind not in ("17", "19", "20"):
            status, extra = "2", {Oid.FAIL_INFO: core.PrintableString("2")}
        elif self.pending_for > 0:
            self.pending_for -= 1
            status = "3"
        else:
            certificate = self._issue(csr)
            content = encode_enveloped(encode_certificates_only([certificate]), signed.signer)
        nonce = urandom(16) if self.wrong_nonce else signed.attributes[Oid.SENDER_NONCE].native
        return encode_signed(
            content,
            self.wrong_signer or receiver,
            attributes={
                Oid.MESSAGE_TYPE: core.PrintableString("3"),
                Oid.PKI_STATUS: core.PrintableString(status),
                Oid.TRANSACTION_ID: core.PrintableString(
                    signed.attributes[Oid.TRANSACTION_ID].native
                ),
                Oid.SENDER_NONCE: core.OctetString(urandom(16)),
                Oid.RECIPIENT_NONCE: core.OctetString(nonce),
                **extra,
            },
        )

    def _issue(self, csr: x509.CertificateSigningRequest) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(self.ca.certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=365))
            .sign(self.ca.key, hashes.SHA256())
        )


Reply = httpx.Response


@dataclass
class FakeMdm:
    """Records what devices say and answers from short scripts."""

    clock: MovableClock = field(default_factory=MovableClock)
    ca: Identity = field(default_factory=authority)
    messages: list[dict[str, Any]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    signers: list[x509.Certificate | None] = field(default_factory=list)
    scripts: dict[str, list[Reply]] = field(default_factory=lambda: defaultdict(list))
    """MessageType or Status to the answers given first, in order."""
    queues: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """`device` or a user's short name to the commands to hand out."""
    bootstrap_token: bytes = b""

    def __post_init__(self) -> None:
        self.scep = FakeScep(ca=self.ca)
        self.transport = httpx.MockTransport(self._answer)

    def script(self, what: str, *answers: int | Reply) -> None:
        """Answer the next messages of this kind so, before honest answers resume."""
        for answer in answers:
            self.scripts[what].append(Reply(answer) if isinstance(answer, int) else answer)

    def queue(self, request_type: str, channel: str = "device", **keys: Any) -> str:
        uuid = str(uuid4()).upper()
        command = {"CommandUUID": uuid, "Command": {"RequestType": request_type, **keys}}
        self.queues[channel].append(command)
        return uuid

    def kinds(self) -> list[str]:
        return [message["MessageType"] for message in self.messages]

    def statuses(self) -> list[str]:
        return [report["Status"] for report in self.reports]

    def last(self, kind: str) -> dict[str, Any]:
        return next(each for each in reversed(self.messages) if each["MessageType"] == kind)

    async def _answer(self, request: httpx.Request) -> Reply:
        self.requests.append(request)
        match request.url.path:
            case "/scep":
                return self.scep.answer(request)
            case "/enroll":
                return Reply(
                    200,
                    content=self.profile(),
                    headers={"Content-Type": "application/x-apple-aspen-config"},
                )
            case "/moved":
                return Reply(307, headers={"Location": "/mdm"})
            case _:
                pass
        fields = plistlib.loads(request.content)
        self.signers.append(self._signer(request))
        if "MessageType" in fields:
            return self._check_in(fields)
        return self._connect(fields)

    def _signer(self, request: httpx.Request) -> x509.Certificate | None:
        header = request.headers.get("Mdm-Signature")
        if header is None:
            return None
        return verify_signed(b64decode(header, validate=True), request.content).signer

    def _check_in(self, fields: dict[str, Any]) -> Reply:
        self.messages.append(fields)
        kind = fields["MessageType"]
        if self.scripts[kind]:
            return self.scripts[kind].pop(0)
        match kind:
            case "SetBootstrapToken":
                self.bootstrap_token = fields.get("BootstrapToken", b"")
            case "GetBootstrapToken":
                return plist_reply({"BootstrapToken": self.bootstrap_token})
            case "UserAuthenticate":
                return Reply(410)
            case _:
                pass
        return Reply(200)

    def _connect(self, fields: dict[str, Any]) -> Reply:
        self.reports.append(fields)
        if self.scripts[fields["Status"]]:
            return self.scripts[fields["Status"]].pop(0)
        queue = self.queues[fields.get("UserShortName", "device")]
        if fields["Status"] in ("Acknowledged", "Error", "CommandFormatError"):
            queue[:] = [each for each in queue if each["CommandUUID"] != fields["CommandUUID"]]
        if fields["Status"] == "NotNow" or not queue:
            return Reply(200)
        return plist_reply(queue[0])

    def profile(self, *, sign: bool = True, **changes: Any) -> bytes:
        """The enrollment profile; keys of the MDM payload may be changed, None removes one."""
        management: dict[str, Any] = {
            "PayloadType": "com.apple.mdm",
            "PayloadVersion": 1,
            "PayloadIdentifier": "example.mdm.management",
            "PayloadUUID": str(uuid4()).upper(),
            "IdentityCertificateUUID": "IDENTITY",
            "Topic": TOPIC,
            "ServerURL": f"{HOST}/mdm",
            "CheckInURL": f"{HOST}/checkin",
            "SignMessage": True,
            "AccessRights": 8191,
            "CheckOutWhenRemoved": True,
            "ServerCapabilities": [
                "com.apple.mdm.per-user-connections",
                "com.apple.mdm.bootstraptoken",
            ],
        } | changes
        management = {key: value for key, value in management.items() if value is not None}
        return self._wrap([self._anchor(), self.scep_payload(), management], sign=sign)

    def scep_payload(self) -> dict[str, Any]:
        return {
            "PayloadType": "com.apple.security.scep",
            "PayloadVersion": 1,
            "PayloadIdentifier": "example.mdm.identity",
            "PayloadUUID": "IDENTITY",
            "PayloadContent": {
                "URL": f"{HOST}/scep",
                "Subject": [[["O", "Example"]], [["CN", "a device"]]],
                "Challenge": CHALLENGE,
                "Keysize": 1024,
                "Retries": 2,
                "RetryDelay": 7,
                "CAFingerprint": self.ca.certificate.fingerprint(hashes.SHA256()),
            },
        }

    def _anchor(self) -> dict[str, Any]:
        return {
            "PayloadType": "com.apple.security.root",
            "PayloadVersion": 1,
            "PayloadIdentifier": "example.mdm.root",
            "PayloadUUID": "ROOT",
            "PayloadContent": self.ca.certificate.public_bytes(serialization.Encoding.DER),
        }

    def _wrap(self, payloads: list[dict[str, Any]], *, sign: bool) -> bytes:
        document = plistlib.dumps(
            {
                "PayloadType": "Configuration",
                "PayloadVersion": 1,
                "PayloadIdentifier": "example.mdm",
                "PayloadUUID": str(uuid4()).upper(),
                "PayloadDisplayName": "Example management",
                "PayloadContent": payloads,
            }
        )
        return encode_signed(document, self.ca, attributes={}) if sign else document

    def other_profile(
        self, identifier: str = "example.wifi", *, payloads: Sequence[Mapping[str, Any]] = ()
    ) -> bytes:
        return plistlib.dumps(
            {
                "PayloadType": "Configuration",
                "PayloadVersion": 1,
                "PayloadIdentifier": identifier,
                "PayloadUUID": str(uuid4()).upper(),
                "PayloadContent": [dict(each) for each in payloads],
            }
        )


def plist_reply(fields: Mapping[str, Any], status: int = 200) -> Reply:
    return Reply(
        status,
        content=plistlib.dumps(dict(fields)),
        headers={"Content-Type": "application/xml; charset=UTF-8"},
    )


@dataclass
class Stage:
    """One fake server and the means to put devices before it."""

    server: FakeMdm = field(default_factory=FakeMdm)
    events: list[Event] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    seeds: int = 0

    @property
    def clock(self) -> MovableClock:
        return self.server.clock

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def device(self, personality: Personality | str = "iphone", **changes: Any) -> Device:
        self.seeds += 1
        if isinstance(personality, str):
            personality = PERSONALITIES[personality]
        settings: dict[str, Any] = {
            "http": self.server.transport,
            "clock": self.clock,
            "listener": self.events.append,
            "seed": self.seeds,
            "sleeper": self._sleep,
            "retry": RetryPolicy(attempts=2),
        } | changes
        return Device(personality, **settings)

    async def enrolled(self, personality: Personality | str = "iphone", **changes: Any) -> Device:
        device = self.device(personality, **changes)
        await device.enroll(self.server.profile())
        assert device.enrolled
        return device

    async def ask(self, device: Device, request_type: str, **keys: Any) -> dict[str, Any]:
        """The last report of a session in which the device received this command."""
        self.server.queue(request_type, **keys)
        await device.idle()
        return self.server.reports[-1]

    def said(self) -> list[str]:
        return [event.what for event in self.events]
