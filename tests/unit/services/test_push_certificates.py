"""Push certificates: asked for, taken in, guarded."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from conformance.push_certificates import OTHER_TOPIC, TOPIC, Authority, rsa_key
from ostiary.domain.enrollment import State
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.errors import OstiaryError
from ostiary.protocol.apns.certificate import (
    LARGEST_BUNDLE,
    PushBundleTooLarge,
    PushBundleUnreadable,
    PushCertificateExpired,
    PushCertificateNotYetValid,
    PushKeyEncrypted,
    PushKeyMismatch,
    PushKeyMissing,
    PushKeyUnusable,
    PushTopicUnusable,
)
from ostiary.protocol.mdm.checkin import Topic
from ostiary.secret import Secret
from ostiary.services.push_certificates import (
    Imported,
    PushCertificateMissing,
    PushCertificateService,
    PushTopicForeign,
    PushTopicNew,
    RequestNameUnusable,
)
from unit.services.push_world import MovedClock, PushWorld

OTHER_TENANT = TenantId("other")


class Scene:
    """A world, Apple's portal, and the service between them."""

    def __init__(self) -> None:
        self.world = PushWorld()
        self.portal = Authority()
        # The portal's certificates are valid from the wall clock's hour on.
        self.clock = MovedClock(datetime.now(UTC))  # noqa: TID251 - see above
        self.service = PushCertificateService(
            certificates=self.world, sealer=self.world.sealer, clock=self.clock
        )

    async def load(
        self, pem: bytes, key: bytes | None = None, *, confirm: bool = False
    ) -> Imported:
        return await self.service.import_certificate(
            pem,
            tenant=DEFAULT_TENANT,
            key_pem=Secret(key) if key else None,
            confirm_new_topic=confirm,
            actor="anna",
        )

    async def opened(self, topic: str = TOPIC) -> bytes:
        held = await self.service.load_client_certificate(Topic(topic))
        assert held is not None
        return held.chain_pem


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_request_becomes_a_certificate_in_use(scene: Scene) -> None:
    """The key is made here and never leaves. (check-in-and-commands.md 5.7)"""
    request = await scene.service.make_request(DEFAULT_TENANT, name="Ostiary push", actor="anna")
    asked = x509.load_der_x509_csr(request.der)
    assert asked.is_signature_valid
    assert isinstance(asked.signature_hash_algorithm, hashes.SHA256)
    assert x509.load_pem_x509_csr(request.pem) == asked
    public_key = asked.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    assert public_key.key_size == 2048
    issued = scene.portal.issue_push(public_key=public_key)
    imported = await scene.load(issued.pem)
    assert (imported.topic, imported.replaced) == (TOPIC, False)
    assert imported.not_after == issued.certificate.not_valid_after_utc
    assert scene.world.pending == {}
    held = await scene.service.load_client_certificate(Topic(TOPIC))
    assert held is not None
    key = serialization.load_pem_private_key(held.key_pem.reveal(), None)
    assert key.public_key() == public_key
    assert [entry.verb for entry in scene.world.audit] == [
        "request-push-certificate",
        "add-push-certificate",
    ]


async def test_two_open_requests_do_not_spoil_each_other(scene: Scene) -> None:
    first = await scene.service.make_request(DEFAULT_TENANT, name="one", actor="anna")
    await scene.service.make_request(DEFAULT_TENANT, name="two", actor="anna")
    public_key = x509.load_der_x509_csr(first.der).public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    await scene.load(scene.portal.issue_push(public_key=public_key).pem)
    assert len(scene.world.pending) == 1


async def test_a_waiting_key_is_its_tenants_own(scene: Scene) -> None:
    request = await scene.service.make_request(OTHER_TENANT, name="one", actor="anna")
    public_key = x509.load_der_x509_csr(request.der).public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    with pytest.raises(PushKeyMissing):
        await scene.load(scene.portal.issue_push(public_key=public_key).pem)


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb"])
async def test_a_request_needs_a_name(scene: Scene, name: str) -> None:
    with pytest.raises(RequestNameUnusable):
        await scene.service.make_request(DEFAULT_TENANT, name=name, actor="anna")


async def test_blocks_may_stand_in_any_order_with_cas_among_them(scene: Scene) -> None:
    """With CA in the bundle, swapped order. (users.md 5.4, 34)"""
    issued = scene.portal.issue_push()
    for pem in (
        issued.pem + issued.key_pem,
        issued.key_pem + scene.portal.pem + issued.pem,
        b"Bag Attributes\r\n" + (scene.portal.pem + issued.pem + issued.key_pem),
    ):
        assert (await scene.load(pem)).topic == TOPIC
        assert (await scene.opened()).startswith(issued.pem)
    assert await scene.opened() == issued.pem + scene.portal.pem


async def test_the_key_may_come_in_a_file_of_its_own(scene: Scene) -> None:
    issued = scene.portal.issue_push()
    assert (await scene.load(issued.pem, issued.key_pem)).topic == TOPIC


@pytest.mark.case("AP-09")
async def test_a_renewed_certificate_takes_the_place_of_the_same_topics(scene: Scene) -> None:
    """Held by devices, so nothing needs confirming; the pusher's next look sees it. (5.6)"""
    first, renewed = scene.portal.issue_push(), scene.portal.issue_push()
    await scene.load(first.pem, first.key_pem)
    scene.world.add()
    before = await scene.service.load_client_certificate(Topic(TOPIC))
    assert await scene.service.load_client_certificate(Topic(TOPIC)) is before
    imported = await scene.load(renewed.pem, renewed.key_pem)
    assert imported.replaced
    after = await scene.service.load_client_certificate(Topic(TOPIC))
    assert before is not None
    assert after is not None
    assert after.record_id != before.record_id
    assert after.chain_pem == renewed.pem
    assert scene.world.audit[-1].verb == "renew-push-certificate"


@pytest.mark.case("AP-08")
async def test_another_topic_is_refused_without_confirmation_and_added_with_it(
    scene: Scene,
) -> None:
    """Create instead of Renew in the portal: the old one goes on serving its devices. (5.6)"""
    old = scene.portal.issue_push()
    await scene.load(old.pem, old.key_pem)
    for _ in range(3):
        scene.world.add()
    new = scene.portal.issue_push(OTHER_TOPIC, key=rsa_key(1))
    with pytest.raises(PushTopicNew) as refused:
        await scene.load(new.pem, new.key_pem)
    assert "3 enrolled devices" in str(refused.value)
    assert "Renew keeps the topic and Create makes a new one" in refused.value.hint
    assert list(scene.world.certificate_by_topic) == [TOPIC]

    imported = await scene.load(new.pem, new.key_pem, confirm=True)
    assert (imported.topic, imported.replaced) == (OTHER_TOPIC, False)
    assert await scene.opened(TOPIC) == old.pem
    assert await scene.opened(OTHER_TOPIC) == new.pem


async def test_a_first_certificate_needs_no_confirmation(scene: Scene) -> None:
    """Nobody is cut off by it."""
    scene.world.add(state=State.OUT)
    issued = scene.portal.issue_push(OTHER_TOPIC)
    assert not (await scene.load(issued.pem, issued.key_pem)).replaced


async def test_another_tenants_topic_is_not_taken(scene: Scene) -> None:
    issued = scene.portal.issue_push()
    await scene.load(issued.pem, issued.key_pem)
    with pytest.raises(PushTopicForeign):
        await scene.service.import_certificate(
            issued.pem,
            tenant=OTHER_TENANT,
            key_pem=Secret(issued.key_pem),
            confirm_new_topic=True,
            actor="eve",
        )
    with pytest.raises(PushCertificateMissing):
        await scene.service.show(OTHER_TENANT, Topic(TOPIC))


@pytest.mark.case("AP-10")
@pytest.mark.parametrize(
    "topic",
    [
        "com.apple.mgmt",
        "com.apple.mgmt.",
        "com.apple.mgmtExternal.x",
        "com.example.app",
        "com.apple.mgmt.with space",
        None,
    ],
)
async def test_a_topic_without_the_prefix_and_its_dot_is_refused(
    scene: Scene, topic: str | None
) -> None:
    """The prefix is com.apple.mgmt. with its second dot. (5.6)"""
    issued = scene.portal.issue_push(topic)
    await refuses(scene, PushTopicUnusable, issued.pem, issued.key_pem)


@pytest.mark.case("AP-10")
async def test_a_key_of_another_certificate_is_refused(scene: Scene) -> None:
    issued = scene.portal.issue_push()
    other = scene.portal.issue_push(key=rsa_key(1))
    await refuses(scene, PushKeyMismatch, issued.pem, other.key_pem)


@pytest.mark.case("AP-10")
async def test_an_expired_certificate_is_refused(scene: Scene) -> None:
    issued = scene.portal.issue_push(valid_from=timedelta(days=-366), valid_for=timedelta(days=365))
    await refuses(scene, PushCertificateExpired, issued.pem, issued.key_pem)


async def test_a_certificate_of_tomorrow_is_refused(scene: Scene) -> None:
    """Not yet valid. (users.md 5.4, 34)"""
    issued = scene.portal.issue_push(valid_from=timedelta(days=1))
    await refuses(scene, PushCertificateNotYetValid, issued.pem, issued.key_pem)


async def test_an_encrypted_key_is_refused_with_what_to_do(scene: Scene) -> None:
    """Both PKCS #8 and the older form. (users.md 5.4, 34)"""
    issued = scene.portal.issue_push()
    passphrase = serialization.BestAvailableEncryption(b"secret")
    for form in (
        serialization.PrivateFormat.PKCS8,
        serialization.PrivateFormat.TraditionalOpenSSL,
    ):
        key = issued.key.private_bytes(serialization.Encoding.PEM, form, passphrase)
        await refuses(scene, PushKeyEncrypted, issued.pem + key)
    assert "openssl pkey" in PushKeyEncrypted.hint


async def test_a_certificate_without_any_key_is_refused(scene: Scene) -> None:
    await refuses(scene, PushKeyMissing, scene.portal.issue_push().pem)


async def test_keys_that_apns_does_not_take_are_refused(scene: Scene) -> None:
    issued = scene.portal.issue_push()
    small = rsa.generate_private_key(65537, 1024)
    odd = dsa.generate_private_key(2048)
    for key in (small, odd):
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        await refuses(scene, PushKeyUnusable, issued.pem, pem)


async def test_files_that_hold_no_certificate_are_refused(scene: Scene) -> None:
    issued = scene.portal.issue_push()
    certificate = b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
    for pem in (b"", b"\x30\x82\x00\x00", issued.key_pem, certificate, scene.portal.pem):
        await refuses(scene, PushBundleUnreadable, pem, issued.key_pem)
    both_keys = issued.pem + issued.key_pem + issued.key_pem
    await refuses(scene, PushBundleUnreadable, both_keys)
    broken_key = b"-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n"
    await refuses(scene, PushBundleUnreadable, issued.pem + broken_key)


async def test_files_beyond_any_use_are_not_read(scene: Scene) -> None:
    issued = scene.portal.issue_push()
    await refuses(scene, PushBundleTooLarge, issued.pem + b" " * LARGEST_BUNDLE, issued.key_pem)
    await refuses(scene, PushBundleTooLarge, issued.pem * 17, issued.key_pem)


async def test_a_refused_file_leaves_everything_as_it_was(scene: Scene) -> None:
    """The old one keeps working. (users.md 5.4, 34)"""
    issued = scene.portal.issue_push()
    await scene.load(issued.pem, issued.key_pem)
    await refuses(scene, PushBundleUnreadable, b"garbage", issued.key_pem)
    assert await scene.opened() == issued.pem
    assert scene.world.replaced == []


async def test_a_paused_topic_can_be_resumed_with_the_certificate_it_has(scene: Scene) -> None:
    """APNs may have been at fault."""
    issued = scene.portal.issue_push()
    await scene.load(issued.pem, issued.key_pem)
    topic, now = Topic(TOPIC), scene.clock.now()
    shown = scene.world.certificate_by_topic[topic].record_id
    await scene.world.pause_topic(topic, "tls-internal-error", now, shown=shown)
    assert (await scene.service.show(DEFAULT_TENANT, topic)).paused_since == now
    await scene.service.resume(DEFAULT_TENANT, topic, actor="anna")
    status = await scene.service.show(DEFAULT_TENANT, topic)
    assert (status.paused_since, status.paused_reason) == (None, None)
    assert await scene.opened() == issued.pem


async def test_what_is_shown_tells_who_hangs_on_it_and_not_the_key(scene: Scene) -> None:
    issued = scene.portal.issue_push()
    other = scene.portal.issue_push(OTHER_TOPIC, valid_for=timedelta(days=30))
    await scene.load(issued.pem, issued.key_pem)
    await scene.load(other.pem, other.key_pem)
    scene.world.add()
    first, second = await scene.service.show_all(DEFAULT_TENANT)
    assert (first.topic, first.enrollments) == (OTHER_TOPIC, 0)
    assert (second.topic, second.enrollments) == (TOPIC, 1)
    assert "KEY" not in repr((first, second))


async def test_an_elliptic_key_is_taken(scene: Scene) -> None:
    """Apple issues RSA today; nothing here depends on it."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = scene.portal.issue_push(public_key=key.public_key())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    assert (await scene.load(issued.pem + pem)).topic == TOPIC


async def refuses(
    scene: Scene, error: type[OstiaryError], pem: bytes, key: bytes | None = None
) -> None:
    """The file is refused for that reason, and nothing of it is stored."""
    before = dict(scene.world.certificate_by_topic)
    with pytest.raises(error):
        await scene.load(pem, key)
    assert scene.world.certificate_by_topic == before
