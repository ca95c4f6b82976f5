"""SCEP as a service: who gets a certificate, who gets it again, and what nobody gets."""

import asyncio
from datetime import timedelta

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fuzz.scep_client import (
    NOW,
    Requester,
    der,
    ec_key,
    envelope,
    make_csr,
    rsa_key,
    self_signed,
)
from ostiary.domain.enrollment import Bound, EnrollmentKey, Purpose, Standing, State
from ostiary.domain.token import DEFAULT_TENANT, Fingerprint, TenantId
from ostiary.errors import OstiaryError
from ostiary.formats.x509 import fingerprint
from ostiary.ports.signer import IssuingAuthority
from ostiary.services.allowance import FailureAllowance, TooManyFailures
from ostiary.services.identity_certificate import CHALLENGE_EXTENSION
from ostiary.services.invitations import InvitationService
from ostiary.services.scep import ScepPolicy
from unit.services import enrollment_world
from unit.services.enrollment_world import World, make_enrollment

BAD_ALGORITHM, BAD_MESSAGE_CHECK, BAD_REQUEST = "0", "1", "2"


@pytest.fixture
def world() -> World:
    return World()


async def test_a_challenge_gets_an_identity_of_our_ca(world: World) -> None:
    """Source: RFC 8894 3.3.2.1; check-in-and-commands.md 6.3. openssl verifies and decrypts the answer."""
    challenge = await world.add_challenge(b"once", bound=Bound(serial_number="C02TEST"))
    device = world.requester()
    reply = device.open(await world.scep().answer(device.request(b"once")))
    assert (reply.status, reply.fail_info) == ("0", None)
    assert (reply.transaction_id, reply.recipient_nonce) == ("TX-1", device.nonce)
    (certificate,) = reply.certificates
    assert certificate.public_key() == device.key.public_key()
    certificate.verify_directly_issued_by(
        x509.load_der_x509_certificate(world.authority.certificate)
    )
    (spend,) = world.challenges.spends
    assert spend.certificate == der(certificate)
    assert spend.credential.fingerprint == fingerprint(der(certificate))
    assert spend.credential.bound == Bound(serial_number="C02TEST")
    assert spend.credential.challenge_id == challenge.id
    assert spend.credential.purpose is Purpose.ENROLL
    assert spend.challenge.spent_at == NOW


@pytest.mark.case("SC-01")
async def test_the_same_key_gets_the_same_certificate_again_within_the_window(world: World) -> None:
    """Source: check-in-and-commands.md 6.3 rule 2; nanomdm#73."""
    await world.add_challenge(b"once")
    device, scep = world.requester(), world.scep()
    first = device.open(await scep.answer(device.request(b"once")))
    world.clock.advance(timedelta(minutes=15))
    second = device.open(await scep.answer(device.request(b"once")))
    assert second.status == "0"
    assert second.certificates == first.certificates
    assert len(world.challenges.issued) == 1
    world.clock.advance(timedelta(seconds=1))
    late = device.open(await scep.answer(device.request(b"once")))
    assert (late.status, late.fail_info) == ("2", BAD_REQUEST)


@pytest.mark.case("SC-02")
async def test_another_key_gets_nothing_for_a_used_challenge(world: World) -> None:
    """Source: check-in-and-commands.md 6.3 rule 1."""
    await world.add_challenge(b"once")
    device, other = world.requester(), world.requester(key=rsa_key("other"))
    scep = world.scep()
    await scep.answer(device.request(b"once"))
    reply = other.open(await scep.answer(other.request(b"once")))
    assert (reply.status, reply.fail_info, reply.certificates) == ("2", BAD_REQUEST, ())
    assert len(world.challenges.issued) == 1


@pytest.mark.case("SC-03")
async def test_a_csr_chooses_nothing_but_its_key(world: World) -> None:
    """Source: check-in-and-commands.md 6.3 rule 3; users.md 5.4 item 22."""
    await world.add_challenge(b"once")
    device = world.requester()
    forged = make_csr(
        device.key,
        b"once",
        name="another device",
        extensions=(
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (x509.SubjectAlternativeName([x509.DNSName("mdm.example.org")]), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.UnrecognizedExtension(CHALLENGE_EXTENSION, b"\x0c\x06forged"), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), False),
        ),
    )
    reply = device.open(await world.scep().answer(device.request(None, csr=forged)))
    (certificate,) = reply.certificates
    ca = x509.load_der_x509_certificate(world.authority.certificate)
    assert certificate.subject == x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Ostiary device identity")]
    )
    assert certificate.issuer == ca.subject
    assert [type(one.value) for one in certificate.extensions] == [
        x509.BasicConstraints,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.SubjectKeyIdentifier,
        x509.AuthorityKeyIdentifier,
        x509.UnrecognizedExtension,
    ]
    found = certificate.extensions
    assert not found.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    usage = found.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.key_encipherment
    assert not usage.key_cert_sign
    proof = found.get_extension_for_oid(CHALLENGE_EXTENSION).value
    assert isinstance(proof, x509.UnrecognizedExtension)
    assert proof.value[2:] == b"id-of-once"
    assert NOW - certificate.not_valid_before_utc >= timedelta(minutes=10)
    assert certificate.serial_number.bit_length() > 100


async def test_one_challenge_used_twice_at_once_gives_one_certificate(world: World) -> None:
    """Source: users.md 5.4 item 23, the race."""
    await world.add_challenge(b"once")
    scep = world.scep()
    devices = [world.requester(key=rsa_key(name)) for name in ("device", "other")]
    messages = [device.request(b"once") for device in devices]
    answers = await asyncio.gather(*(scep.answer(message) for message in messages))
    replies = [device.open(reply) for device, reply in zip(devices, answers, strict=True)]
    assert sorted(reply.status for reply in replies) == ["0", "2"]
    assert len(world.challenges.issued) == 1


async def test_the_same_request_twice_at_once_gives_the_same_certificate_twice(
    world: World,
) -> None:
    await world.add_challenge(b"once")
    scep, device = world.scep(), world.requester()
    message = device.request(b"once")
    answers = await asyncio.gather(scep.answer(message), scep.answer(message))
    first, second = (device.open(reply).certificates for reply in answers)
    assert first == second != ()
    assert len(world.challenges.issued) == 1


@pytest.mark.parametrize(
    "why", ["unknown", "absent", "expired", "used up", "other tenant", "empty"]
)
async def test_whatever_is_wrong_with_a_challenge_the_answer_is_the_same(
    world: World, why: str
) -> None:
    """No oracle tells unknown from expired. Source: users.md 5.4 items 21 and 23."""
    other_tenant = TenantId("other")
    world.sealer = enrollment_world.make_sealer(DEFAULT_TENANT, other_tenant)
    tenant = other_tenant if why == "other tenant" else DEFAULT_TENANT
    challenge = await world.add_challenge(b"known", tenant=tenant)
    if why == "expired":
        world.clock.moment = challenge.valid_until + timedelta(seconds=1)
    if why == "used up":
        await world.scep().answer(world.requester(key=rsa_key("other")).request(b"known"))
    device = world.requester()
    text = {"unknown": b"guess", "absent": None, "empty": b""}.get(why, b"known")
    reply = device.open(await world.scep().answer(device.request(text)))
    assert (reply.status, reply.fail_info) == ("2", BAD_REQUEST)
    assert len(world.challenges.issued) == (1 if why == "used up" else 0)


async def test_a_challenge_of_another_tenant_issues_in_that_tenant(world: World) -> None:
    """A device's tenant comes from its challenge. Source: design.md 3, tenants."""
    tenant = TenantId("other")
    world.sealer = enrollment_world.make_sealer(DEFAULT_TENANT, tenant)
    await world.add_challenge(b"theirs", tenant=tenant)
    device = world.requester()
    await world.scep(tenants=(DEFAULT_TENANT, tenant)).answer(device.request(b"theirs"))
    assert world.challenges.issued[0].tenant == tenant


async def test_an_invitation_that_is_used_up_issues_nothing(world: World) -> None:
    """`uses_left` counts certificates, over all profiles that one invitation gave out."""
    invitations = InvitationService(
        challenges=world.challenges, sealer=world.sealer, clock=world.clock
    )
    invitation, _ = await invitations.invite(
        DEFAULT_TENANT, Bound(), valid_for=timedelta(hours=1), uses=1, actor="test"
    )
    for text in (b"one", b"two"):
        await world.add_challenge(text, invitation=invitation)
    device, other = world.requester(), world.requester(key=rsa_key("other"))
    scep = world.scep()
    assert device.open(await scep.answer(device.request(b"one"))).status == "0"
    assert other.open(await scep.answer(other.request(b"two"))).fail_info == BAD_REQUEST
    # The winner's retry still works although nothing is left.
    assert device.open(await scep.answer(device.request(b"one"))).status == "0"


@pytest.mark.parametrize("message_type", [str(number) for number in range(256)])
async def test_only_two_message_types_of_all_get_anything(
    world: World, message_type: str, prepared: tuple[Requester, bytes]
) -> None:
    """Source: users.md 5.4 item 21, the message-type matrix."""
    device, closed = prepared
    await world.add_challenge(b"once")
    reply = await world.scep().answer(device.sign(closed, message_type=message_type))
    issued = len(world.challenges.issued)
    assert issued == (1 if message_type == "19" else 0)
    if message_type != "19":
        assert _fail_info(reply) == BAD_REQUEST


@pytest.fixture(scope="module")
def prepared() -> tuple[Requester, bytes]:
    world = World()
    device = world.requester()
    return device, envelope(make_csr(device.key, b"once"), device.ca)


def _fail_info(reply: bytes) -> str:
    """The failInfo of a reply, without openssl's 20 ms."""
    info = cms.ContentInfo.load(reply)["content"]["signer_infos"][0]
    by_type = {one["type"].native: one["values"][0].native for one in info["signed_attrs"]}
    return str(by_type["2.16.840.1.113733.1.9.4"])


async def _issue(world: World, text: bytes = b"first", **changes: object) -> Requester:
    """A device that holds an identity of ours, and signs with it from now on."""
    await world.add_challenge(text)
    device = world.requester(**changes)
    (certificate,) = device.open(await world.scep().answer(device.request(text))).certificates
    return world.requester(key=device.key, signer=certificate, transaction_id="TX-2")


async def test_a_bound_identity_renews_itself_with_a_new_key(world: World) -> None:
    """Source: RFC 8894 3.3.1.2; check-in-and-commands.md 2.3 (proof), 6.3 rule 5."""
    device = await _issue(world)
    assert device.signer is not None
    enrollment = make_enrollment()
    world.challenges.renewable[Fingerprint(fingerprint(der(device.signer)))] = enrollment
    renewing = world.requester(key=rsa_key("fresh"), signer_key=device.key, signer=device.signer)
    reply = renewing.open(await world.scep().answer(renewing.request(None, message_type="17")))
    (certificate,) = reply.certificates
    assert certificate.public_key() == rsa_key("fresh").public_key()
    credential = world.challenges.issued[-1]
    assert credential.purpose is Purpose.RENEW
    assert credential.bound == Bound(enrollment_key=enrollment.key)
    assert credential.profile == enrollment.profile


@pytest.mark.parametrize(
    "signer", ["self-signed", "unbound", "expired", "foreign", "released", "out", "contested"]
)
async def test_nobody_else_renews(world: World, signer: str) -> None:
    """Source: users.md 5.4 item 21, signer self, old, expired, foreign."""
    device = await _issue(world)
    assert device.signer is not None
    bound = Fingerprint(fingerprint(der(device.signer)))
    match signer:
        case "self-signed":
            device = world.requester()
        case "expired":
            world.challenges.renewable[bound] = make_enrollment()
            world.clock.advance(timedelta(days=731))
        case "released":
            # Else a released device could mint its own proof and come back.
            world.challenges.renewable[bound] = make_enrollment(state=State.REVOKED)
        case "out":
            world.challenges.renewable[bound] = make_enrollment(state=State.OUT)
        case "contested":
            world.challenges.renewable[bound] = make_enrollment(standing=Standing.CONTESTED)
        case "foreign":
            device = await _issued_elsewhere(world)
            assert device.signer is not None
            foreign = Fingerprint(fingerprint(der(device.signer)))
            world.challenges.renewable[foreign] = make_enrollment()
        case _:
            pass
    reply = await world.scep().answer(device.request(None, message_type="17"))
    assert _fail_info(reply) == BAD_REQUEST
    assert len(world.challenges.issued) == 1


async def test_a_device_renews_itself_so_many_times_a_day(world: World) -> None:
    """Each renewal is kept for years: nobody fills the database with them. (docs/decisions/0016)"""
    device = await _issue(world)
    assert device.signer is not None
    world.challenges.renewable[Fingerprint(fingerprint(der(device.signer)))] = make_enrollment()
    scep = world.scep(ScepPolicy(most_renewals=2))

    async def renewed() -> bool:
        before = len(world.challenges.issued)
        await scep.answer(device.request(None, message_type="17"))
        return len(world.challenges.issued) > before

    assert [await renewed() for _ in range(3)] == [True, True, False]
    world.clock.advance(timedelta(days=1, seconds=1))
    assert await renewed()


async def _issued_elsewhere(world: World) -> Requester:
    """A device whose identity comes from another CA with the same name as ours."""
    ours = x509.load_der_x509_certificate(world.authority.certificate)
    key, ca_key = rsa_key("device"), rsa_key("another CA")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(ours.subject)
        .issuer_name(ours.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(ca_key, ours.signature_hash_algorithm)  # type: ignore[arg-type]  # never None for RSA
    )
    return world.requester(key=key, signer=certificate)


async def test_an_identity_of_ours_may_sign_a_request_with_a_renewal_challenge(
    world: World,
) -> None:
    """Devices send PKCSReq for renewals through InstallProfile, too. Source: 6.3 rule 5."""
    device = await _issue(world)
    key = EnrollmentKey("e" * 32)
    await world.add_challenge(b"renewal", purpose=Purpose.RENEW, bound=Bound(enrollment_key=key))
    renewing = world.requester(key=rsa_key("fresh"), signer_key=device.key, signer=device.signer)
    reply = renewing.open(await world.scep().answer(renewing.request(b"renewal")))
    assert reply.status == "0"
    credential = world.challenges.issued[-1]
    assert (credential.purpose, credential.bound.enrollment_key) == (Purpose.RENEW, key)


async def test_a_stranger_may_not_sign_for_anothers_key(world: World) -> None:
    """Source: users.md 5.4 item 22."""
    await world.add_challenge(b"once")
    stranger = rsa_key("other")
    device = world.requester(signer_key=stranger, signer=self_signed(stranger))
    reply = device.open(await world.scep().answer(device.request(b"once")))
    assert reply.fail_info == BAD_REQUEST
    assert not world.challenges.issued


async def test_an_elliptic_requester_is_told_so_before_its_challenge_is_spent(
    world: World,
) -> None:
    """SCEP's answers are encrypted to the requester, which only RSA can open. Source: RFC 8894 3.1."""
    await world.add_challenge(b"once")
    device = world.requester(key=ec_key("device"))
    reply = device.open(await world.scep().answer(device.request(b"once")))
    assert reply.fail_info == BAD_ALGORITHM
    assert not world.challenges.issued


async def test_an_elliptic_key_is_certified_when_an_rsa_identity_asks_for_it(world: World) -> None:
    device = await _issue(world)
    await world.add_challenge(b"second")
    asking = world.requester(key=ec_key("device"), signer_key=device.key, signer=device.signer)
    reply = asking.open(await world.scep().answer(asking.request(b"second")))
    usage = reply.certificates[0].extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_encipherment


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), id="rsa-1024"),
        pytest.param(lambda: rsa.generate_private_key(3, 2048), id="exponent-3"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), id="p-521"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
    ],
)
async def test_keys_outside_of_the_bounds_are_refused(world: World, key: object) -> None:
    """Source: users.md 5.4 item 19."""
    assert callable(key)
    await world.add_challenge(b"once")
    device = world.requester()
    reply = await world.scep().answer(device.request(None, csr=make_csr(key(), b"once")))
    assert _fail_info(reply) == BAD_ALGORITHM
    assert not world.challenges.issued


async def test_a_csr_that_its_key_did_not_sign_is_refused(world: World) -> None:
    await world.add_challenge(b"once")
    device = world.requester()
    csr = bytearray(make_csr(device.key, b"once"))
    csr[-1] ^= 1
    reply = await world.scep().answer(device.request(None, csr=bytes(csr)))
    assert _fail_info(reply) == BAD_REQUEST


async def test_a_message_changed_after_signing_fails_its_check(world: World) -> None:
    """Source: users.md 5.4 item 2."""
    await world.add_challenge(b"once")
    device = world.requester()
    changed = device.request(b"once").replace(b"TX-1", b"TX-9")
    assert _fail_info(await world.scep().answer(changed)) == BAD_MESSAGE_CHECK


@pytest.mark.parametrize("cipher", ["-aes128", "-aes192", "-aes256"])
async def test_answers_use_the_cipher_of_the_question(world: World, cipher: str) -> None:
    await world.add_challenge(b"once")
    device = world.requester()
    reply = device.open(await world.scep().answer(device.request(b"once", cipher=cipher)))
    assert reply.status == "0"


async def test_triple_des_needs_a_switch(world: World) -> None:
    """Source: RFC 8894 3.5.2; the default is our decision."""
    await world.add_challenge(b"once")
    device = world.requester()
    message = device.request(b"once", cipher="-des3")
    assert _fail_info(await world.scep().answer(message)) == BAD_ALGORITHM
    old = world.scep(ScepPolicy(allow_des3=True))
    assert "DES3" in old.capabilities
    assert device.open(await old.answer(message)).status == "0"


async def test_sha1_is_accepted_until_it_is_switched_off(world: World) -> None:
    await world.add_challenge(b"once")
    device = world.requester()
    message = device.request(b"once", digest="sha1")
    with pytest.raises(OstiaryError):
        await world.scep(ScepPolicy(allow_sha1=False)).answer(message)
    assert device.open(await world.scep().answer(message)).status == "0"


@pytest.mark.parametrize("options", [(), ("-keyid",), ("-stream", "-indef")])
async def test_envelopes_are_read_in_every_form_openssl_writes(
    world: World, options: tuple[str, ...]
) -> None:
    """By issuer and serial or by key identifier, in DER or in BER with indefinite lengths."""
    await world.add_challenge(b"once")
    device = world.requester()
    closed = envelope(make_csr(device.key, b"once"), device.ca, "-aes128", *options)
    assert device.open(await world.scep().answer(device.sign(closed))).status == "0"


async def test_an_envelope_for_somebody_else_says_no_more_than_a_wrong_challenge(
    world: World, other_authority: IssuingAuthority
) -> None:
    device = world.requester()
    closed = envelope(make_csr(device.key, b"once"), other_authority.certificate)
    assert _fail_info(await world.scep().answer(device.sign(closed))) == BAD_REQUEST


async def test_a_key_or_padding_that_does_not_fit_says_no_more_either(world: World) -> None:
    """Two answers would be an oracle that decrypts recorded requests."""
    device = world.requester()
    closed = bytearray(envelope(make_csr(device.key, b"once"), device.ca))
    for at in (-1, 400):  # the padding; the encrypted key
        changed = bytearray(closed)
        changed[at] ^= 1
        assert _fail_info(await world.scep().answer(device.sign(bytes(changed)))) == BAD_REQUEST


@pytest.fixture(scope="module")
def other_authority() -> IssuingAuthority:
    return enrollment_world.device_authority.__wrapped__()


@pytest.mark.parametrize("missing", ["2", "5", "7"])
async def test_a_message_without_its_scep_attributes_is_no_scep_message(
    world: World, missing: str
) -> None:
    device = world.requester()
    with pytest.raises(OstiaryError):
        await world.scep().answer(device.request(b"once", leave_out=(missing,)))


@pytest.mark.parametrize("body", [b"", b"\x30\x80", b"GET / HTTP/1.1", b"\x30\x03\x02\x01\x01"])
async def test_what_is_no_cms_at_all_is_an_error_and_not_an_answer(
    world: World, body: bytes
) -> None:
    with pytest.raises(OstiaryError):
        await world.scep().answer(body)


async def test_failures_run_into_a_bound_and_time_lifts_it(world: World) -> None:
    """Source: users.md 5.4 item 23, brute force."""
    await world.add_challenge(b"once")
    device = world.requester()
    scep = world.scep(allowance=FailureAllowance(at_once=2, per_second=1.0))
    guess = device.request(b"guess")
    for _ in range(2):
        assert _fail_info(await scep.answer(guess)) == BAD_REQUEST
    with pytest.raises(TooManyFailures):
        await scep.answer(guess)
    # Whoever guesses must not shut devices out.
    assert device.open(await scep.answer(device.request(b"once"))).status == "0"
    world.clock.advance(timedelta(seconds=1))
    assert _fail_info(await scep.answer(guess)) == BAD_REQUEST


async def test_success_costs_no_allowance(world: World) -> None:
    device = world.requester()
    scep = world.scep(allowance=FailureAllowance(at_once=1, per_second=0.001))
    await world.add_challenge(b"once")
    message = device.request(b"once")
    for _ in range(3):
        assert device.open(await scep.answer(message)).status == "0"
