"""The real pusher against a real HTTP/2 APNs on loopback."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import uvloop

from conformance.apns_standin import Answer, ApnsStandIn, RefusingTls, Script, SeenPush
from conformance.push_certificates import OTHER_TOPIC, TOPIC, Authority, Issued, rsa_key
from ostiary.domain.token import RecordId
from ostiary.outward.apns import ApnsEndpoint, ApnsPusher, PushLimits, fresh_uuid
from ostiary.ports.push import ClientCertificate, PushOutcome, PushVerdict
from ostiary.ports.sealer import SealBroken
from ostiary.protocol.mdm.checkin import PushAddress, Topic
from ostiary.secret import Secret

TOKEN = bytes(range(32))
EXPIRES_AT = datetime(2026, 12, 1, tzinfo=UTC)


@dataclass
class HeldCertificates:
    """A ClientCertificates that holds what a test gives it."""

    by_topic: dict[str, ClientCertificate] = field(default_factory=dict)
    looks: int = 0
    broken: bool = False

    async def load_client_certificate(self, topic: Topic) -> ClientCertificate | None:
        self.looks += 1
        if self.broken:
            raise SealBroken
        return self.by_topic.get(topic)

    def hold(self, issued: Issued, record_id: str, topic: str = TOPIC) -> None:
        self.by_topic[topic] = ClientCertificate(
            record_id=RecordId(record_id), chain_pem=issued.pem, key_pem=Secret(issued.key_pem)
        )


@dataclass
class Scene:
    """A pusher, the APNs before it, and the authority behind both."""

    apns: ApnsStandIn
    pusher: ApnsPusher
    certificates: HeldCertificates
    authority: Authority

    async def push(self, topic: str = TOPIC, magic: str = "MAGIC") -> PushOutcome:
        address = PushAddress(topic=Topic(topic), token=Secret(TOKEN), magic=Secret(magic.encode()))
        return await self.pusher.push(address, expires_at=EXPIRES_AT)


@asynccontextmanager
async def open_scene(folder: Path, limits: PushLimits) -> AsyncIterator[Scene]:
    authority = Authority()
    apns = ApnsStandIn()
    await apns.open(authority, folder)
    certificates = HeldCertificates()
    certificates.hold(authority.issue_push(), "1" * 32)
    endpoint = ApnsEndpoint(host="127.0.0.1", port=apns.port, ca_file=folder / "ca.pem")
    pusher = ApnsPusher(certificates, endpoint, limits)
    yield Scene(apns=apns, pusher=pusher, certificates=certificates, authority=authority)
    pusher.close()
    await apns.close()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path, PushLimits()) as opened:
        yield opened


def once(answer: Answer) -> Script:
    """That answer to the next push, 200 to all later ones."""
    return after(0, answer)


def after(accepted: int, answer: Answer) -> Script:
    """200 to so many pushes, then that answer once, then 200 again."""
    left = itertools.count(accepted, -1)

    def script(_push: SeenPush) -> Answer:
        return answer if next(left) == 0 else Answer()

    return script


async def test_a_push_reaches_apns_with_its_certificate_and_magic(scene: Scene) -> None:
    """The whole request on the wire. (check-in-and-commands.md 5.1)"""
    outcome = await scene.push()
    assert outcome.verdict is PushVerdict.ACCEPTED
    assert outcome.status == 200
    (seen,) = scene.apns.seen
    assert seen.headers[":method"] == "POST"
    assert seen.headers[":path"] == f"/3/device/{TOKEN.hex()}"
    assert seen.headers["apns-topic"] == TOPIC
    assert seen.headers["apns-push-type"] == "mdm"
    assert seen.headers["apns-priority"] == "10"
    assert seen.headers["apns-expiration"] == str(int(EXPIRES_AT.timestamp()))
    assert seen.headers["apns-id"] == outcome.apns_id
    assert json.loads(seen.body) == {"mdm": "MAGIC"}


async def test_many_pushes_share_one_connection(scene: Scene) -> None:
    """Pushes are streams of one connection, and one look at the certificate serves them all. (5.3)"""
    await scene.push()
    scene.certificates.looks = 0
    outcomes = await asyncio.gather(*(scene.push() for _ in range(200)))
    assert {o.verdict for o in outcomes} == {PushVerdict.ACCEPTED}
    assert scene.apns.connections == 1
    assert scene.certificates.looks == 1
    assert len({push.headers["apns-id"] for push in scene.apns.seen}) == 201


async def test_no_more_pushes_are_under_way_than_allowed(tmp_path: Path) -> None:
    """A storm of due channels does not become a storm of streams. (users.md 5.4, 35)"""
    async with open_scene(tmp_path, PushLimits(pushes_at_once=3)) as scene:
        await scene.push()
        scene.apns.script = lambda _push: Answer(silent=True)
        tasks = [asyncio.ensure_future(scene.push()) for _ in range(10)]
        await scene.apns.wait_for(1 + 3)
        assert len(scene.apns.seen) == 1 + 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_hostile_magic_stays_one_string(scene: Scene) -> None:
    """Quotes and braces in a PushMagic do not change the push. (users.md 5.4, 8)"""
    magic = '"},"aps":{"alert":"x"},"\r\n\x00é'
    await scene.push(magic=magic)
    assert json.loads(scene.apns.seen[0].body) == {"mdm": magic}


async def test_a_magic_too_long_for_a_push_is_not_sent(scene: Scene) -> None:
    outcome = await scene.push(magic="x" * 5000)
    assert (outcome.verdict, outcome.reason) == (PushVerdict.OUR_BUG, "push-too-large")
    assert scene.apns.seen == []


async def test_a_dead_token_comes_back_with_apples_moment(scene: Scene) -> None:
    """410's reason and timestamp are in its body. (5.5)"""
    scene.apns.script = lambda _push: Answer(
        status=410, body=b'{"reason":"Unregistered","timestamp":1764000000000}'
    )
    outcome = await scene.push()
    assert (outcome.verdict, outcome.reason) == (PushVerdict.TOKEN_DEAD, "Unregistered")
    assert outcome.unregistered_at == datetime.fromtimestamp(1764000000, UTC)
    assert len(scene.apns.seen) == 1


@pytest.mark.case("AP-06")
@pytest.mark.parametrize("trouble", [Answer(reset=True), Answer(goaway=True)])
async def test_a_connection_that_breaks_costs_a_push_one_repetition(
    scene: Scene, trouble: Answer
) -> None:
    """Reset and GOAWAY: the same push is sent again on a new connection. (5.3, 5.5)"""
    await scene.push()
    scene.apns.script = once(trouble)
    outcome = await scene.push()
    assert outcome.verdict is PushVerdict.ACCEPTED
    first, broken, repeated = scene.apns.seen
    assert first.connection == broken.connection
    assert repeated.connection != broken.connection
    assert repeated.headers["apns-id"] == broken.headers["apns-id"]


@pytest.mark.case("AP-06")
async def test_idle_timeout_is_tried_again_on_a_new_connection(scene: Scene) -> None:
    """400 IdleTimeout: reopen, retry once. (5.5)"""
    scene.apns.script = once(Answer(status=400, body=b'{"reason":"IdleTimeout"}'))
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED
    assert [push.connection for push in scene.apns.seen] == [1, 2]


@pytest.mark.case("AP-06")
async def test_after_a_503_the_next_push_has_a_new_connection(scene: Scene) -> None:
    """503 is left to the schedule, and that goes over a new connection. (5.5)"""
    scene.apns.script = once(Answer(status=503, body=b'{"reason":"Shutdown"}'))
    refused = await scene.push()
    assert (refused.verdict, refused.reason) == (PushVerdict.RETRY, "Shutdown")
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED
    assert [push.connection for push in scene.apns.seen] == [1, 2]


async def test_lasting_trouble_does_not_open_connection_after_connection(scene: Scene) -> None:
    """While APNs is in trouble we reopen once, not once a push. (users.md 5.4, 35)"""
    scene.apns.script = lambda _push: Answer(status=500, body=b"{}")
    for _ in range(20):
        assert (await scene.push()).verdict is PushVerdict.RETRY
    assert scene.apns.connections == 2


async def test_a_connection_that_always_breaks_is_given_to_the_schedule(scene: Scene) -> None:
    """Bounded: no push is repeated for ever. (users.md 5.4, 35)"""
    scene.apns.script = lambda _push: Answer(reset=True)
    outcome = await scene.push()
    assert (outcome.verdict, outcome.reason) == (PushVerdict.RETRY, "connection-lost")
    assert len(scene.apns.seen) <= 12


async def test_goaway_amid_many_streams_loses_no_push(scene: Scene) -> None:
    """GOAWAY with 1000 streams open: every push has an outcome, most were accepted. (users.md 5.4, 35)"""
    await scene.push()
    scene.apns.script = after(300, Answer(goaway=True))
    outcomes = await asyncio.gather(*(scene.push() for _ in range(1000)))
    assert {outcome.verdict for outcome in outcomes} == {PushVerdict.ACCEPTED}
    assert scene.apns.connections <= 1 + 2 * PushLimits().connections_per_topic


async def test_nobody_there_is_an_outcome(scene: Scene) -> None:
    """A refused connection is tried again later, not raised. (users.md 5.4, 35)"""
    await scene.apns.close()
    outcome = await scene.push()
    assert (outcome.verdict, outcome.reason) == (PushVerdict.RETRY, "not-connected")


async def test_a_name_that_does_not_resolve_is_an_outcome(scene: Scene) -> None:
    """DNS failure. (users.md 5.4, 35)"""
    pusher = ApnsPusher(scene.certificates, ApnsEndpoint(host="apns.invalid", port=443))
    address = PushAddress(topic=Topic(TOPIC), token=Secret(TOKEN), magic=Secret(b"m"))
    outcome = await pusher.push(address, expires_at=EXPIRES_AT)
    assert (outcome.verdict, outcome.reason) == (PushVerdict.RETRY, "host-not-found")
    pusher.close()


async def test_an_apns_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """The push goes to the schedule, the silent connection is not used again. (users.md 5.4, 35)"""
    limits = PushLimits(answer_timeout=timedelta(milliseconds=300))
    async with open_scene(tmp_path, limits) as scene:
        scene.apns.script = once(Answer(silent=True))
        outcome = await scene.push()
        assert (outcome.verdict, outcome.reason) == (PushVerdict.RETRY, "timed-out")
        assert (await scene.push()).verdict is PushVerdict.ACCEPTED
        assert [push.connection for push in scene.apns.seen] == [1, 2]


async def test_a_server_that_no_public_ca_vouches_for_gets_no_push(scene: Scene) -> None:
    """Without a CA file only the public CAs count."""
    endpoint = ApnsEndpoint(host="127.0.0.1", port=scene.apns.port)
    pusher = ApnsPusher(scene.certificates, endpoint)
    address = PushAddress(topic=Topic(TOPIC), token=Secret(TOKEN), magic=Secret(b"m"))
    outcome = await pusher.push(address, expires_at=EXPIRES_AT)
    assert outcome.reason == "server-certificate-not-trusted"
    assert scene.apns.seen == []
    pusher.close()


async def test_an_expired_certificate_pauses_its_topic(tmp_path: Path) -> None:
    """APNs says so with a TLS alert, and nowhere else. (5.5)"""
    authority = Authority()
    apns = RefusingTls(authority, tmp_path)
    certificates = HeldCertificates()
    certificates.hold(
        authority.issue_push(valid_from=timedelta(days=-2), valid_for=timedelta(days=1)), "2" * 32
    )
    endpoint = ApnsEndpoint(host="127.0.0.1", port=apns.port, ca_file=tmp_path / "ca.pem")
    pusher = ApnsPusher(certificates, endpoint)
    address = PushAddress(topic=Topic(TOPIC), token=Secret(TOKEN), magic=Secret(b"m"))
    outcome = await pusher.push(address, expires_at=EXPIRES_AT)
    pusher.close()
    apns.close()
    assert outcome.verdict is PushVerdict.TOPIC_PAUSED
    assert outcome.reason == "tls-certificate-expired"
    assert outcome.shown == "2" * 32


async def test_a_topic_without_certificate_is_paused_and_sends_nothing(scene: Scene) -> None:
    outcome = await scene.push(topic=OTHER_TOPIC)
    assert (outcome.verdict, outcome.reason) == (PushVerdict.TOPIC_PAUSED, "no-certificate")
    assert outcome.shown is None
    assert scene.apns.connections == 0


async def test_a_certificate_and_key_that_do_not_fit_pause_the_topic(scene: Scene) -> None:
    issued = scene.authority.issue_push()
    other = scene.authority.issue_push(key=rsa_key(1))
    scene.certificates.by_topic[TOPIC] = ClientCertificate(
        record_id=RecordId("3" * 32), chain_pem=issued.pem, key_pem=Secret(other.key_pem)
    )
    outcome = await scene.push()
    assert (outcome.verdict, outcome.reason) == (PushVerdict.TOPIC_PAUSED, "certificate-unusable")
    assert outcome.shown == "3" * 32


@pytest.mark.case("AP-09")
async def test_the_push_after_a_renewal_shows_the_renewed_certificate(scene: Scene) -> None:
    """No restart: new connections for the topic, the old ones close. (5.3, 5.6)"""
    await scene.push()
    renewed = scene.authority.issue_push()
    scene.certificates.hold(renewed, "2" * 32)
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED
    before, after_renewal = scene.apns.seen
    assert before.certificate != renewed.der
    assert after_renewal.certificate == renewed.der
    await scene.apns.wait_until(lambda: scene.apns.open_now == 1)


async def test_each_topic_shows_its_own_certificate(scene: Scene) -> None:
    """Two topics share no connection. (5.6)"""
    other = scene.authority.issue_push(OTHER_TOPIC, key=rsa_key(1))
    scene.certificates.hold(other, "4" * 32, OTHER_TOPIC)
    await asyncio.gather(scene.push(), scene.push(topic=OTHER_TOPIC))
    shown = {push.headers["apns-topic"]: push.certificate for push in scene.apns.seen}
    assert shown[OTHER_TOPIC] == other.der
    assert shown[TOPIC] != other.der


async def test_an_answer_of_any_size_is_bounded(scene: Scene) -> None:
    """What is not Apple's short JSON is not read: its status still counts."""
    body = b'{"reason":"IdleTimeout","padding":"' + b"x" * 100_000 + b'"}'
    scene.apns.script = lambda _push: Answer(status=429, body=body[:16_000])
    outcome = await scene.push()
    assert (outcome.verdict, outcome.reason) == (PushVerdict.THROTTLED, None)


async def test_a_proxy_in_the_environment_is_not_asked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the configured endpoint is ever contacted."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED


async def test_a_cancelled_push_leaves_the_connection_usable(scene: Scene) -> None:
    await scene.push()
    scene.apns.script = once(Answer(silent=True))
    task = asyncio.ensure_future(scene.push())
    await scene.apns.wait_for(2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED
    assert scene.apns.connections == 1


async def test_a_certificate_that_cannot_be_opened_is_an_error_and_never_no_certificate(
    scene: Scene,
) -> None:
    """A failure to unseal is never the same as "no token". (design.md 2)"""
    scene.certificates.broken = True
    with pytest.raises(SealBroken):
        await scene.push()
    scene.certificates.broken = False
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED


def test_pushes_go_out_on_uvloop_as_well(tmp_path: Path) -> None:
    """The server runs on uvloop; libcurl's sockets are watched there as they are on asyncio's own loop."""

    async def push_fifty() -> set[PushVerdict]:
        async with open_scene(tmp_path, PushLimits()) as scene:
            scene.apns.script = after(20, Answer(reset=True))
            outcomes = await asyncio.gather(*(scene.push() for _ in range(50)))
        return {outcome.verdict for outcome in outcomes}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(push_fifty()) == {PushVerdict.ACCEPTED}


def test_each_push_gets_a_random_uuid_of_its_own() -> None:
    """`apns-id` is a lower-case UUID. (5.1; RFC 9562, version 4)"""
    made = {fresh_uuid() for _ in range(1000)}
    assert len(made) == 1000
    for text in made:
        assert str(UUID(text)) == text
        assert UUID(text).version == 4
