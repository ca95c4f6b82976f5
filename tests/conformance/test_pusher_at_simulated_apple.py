"""Certificate, key, pusher and a simulated Apple that was written from the same fact sheet by a stranger."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509

from ostiary.domain.token import DEFAULT_TENANT
from ostiary.outward.apns import ApnsEndpoint, ApnsPusher, PushLimits
from ostiary.ports.push import PushOutcome, PushVerdict
from ostiary.protocol.mdm.checkin import PushAddress, Topic
from ostiary.secret import Secret
from ostiary.services.push_certificates import PushCertificateService
from ostiary_sim.apns import Break, PushAuthority, PushCredential, SimulatedApns
from unit.services.push_world import MovedClock, PushWorld

TOKEN = bytes(range(100, 132))


@dataclass(kw_only=True)
class Scene:
    """A push certificate asked for, signed by a simulated portal and imported; a pusher that shows it."""

    apple: SimulatedApns
    service: PushCertificateService
    pusher: ApnsPusher
    topic: str = ""
    delivered: list[str]

    @classmethod
    async def open(
        cls, apple: SimulatedApns, folder: Path, limits: PushLimits | None = None
    ) -> Self:
        world = PushWorld()
        now = datetime.now(UTC)  # noqa: TID251 - TLS looks at the wall clock, so the portal does
        service = PushCertificateService(
            certificates=world, sealer=world.sealer, clock=MovedClock(now)
        )
        ca_file = folder / "apple-ca.pem"
        ca_file.write_bytes(apple.authority.ca_pem)
        endpoint = ApnsEndpoint(host="127.0.0.1", port=apple.port, ca_file=ca_file)
        scene = cls(
            apple=apple, service=service, pusher=ApnsPusher(service, endpoint, limits), delivered=[]
        )
        scene.topic = (await scene.certify()).topic
        await apple.connect(TOKEN, scene.topic, scene.deliver)
        return scene

    async def certify(self, topic: str | None = None) -> PushCredential:
        """Create in the portal, or renew with a topic."""
        request = await self.service.make_request(DEFAULT_TENANT, name="push", actor="anna")
        issued = self.apple.authority.issue_push_certificate(
            x509.load_der_x509_csr(request.der), topic
        )
        await self.service.import_certificate(
            issued.certificate_pem, tenant=DEFAULT_TENANT, actor="anna"
        )
        return issued

    async def deliver(self, topic: str, magic: str) -> None:
        assert topic == self.topic
        self.delivered.append(magic)

    async def push(
        self, magic: str = "MAGIC", topic: str | None = None, token: bytes = TOKEN
    ) -> PushOutcome:
        address = PushAddress(
            topic=Topic(topic or self.topic), token=Secret(token), magic=Secret(magic.encode())
        )
        expires_at = datetime.now(UTC) + timedelta(days=7)  # noqa: TID251 - as above
        return await self.pusher.push(address, expires_at=expires_at)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with SimulatedApns(PushAuthority.create()) as apple:
        opened = await Scene.open(apple, tmp_path)
        yield opened
        opened.pusher.close()


@pytest.mark.case("AP-01")
async def test_apple_finds_nothing_to_refuse_in_a_push(scene: Scene) -> None:
    """Hex token, only `mdm` in the body, topic, type, priority, expiration. (check-in-and-commands.md 5.1)"""
    magic = '5A0D"} \\ é'
    outcome = await scene.push(magic)
    assert (outcome.verdict, outcome.status) == (PushVerdict.ACCEPTED, 200)
    await scene.apple.settle()
    assert scene.delivered == [magic]
    (seen,) = scene.apple.requests
    assert seen.method == "POST"
    assert (seen.token, seen.topic, seen.magic) == (TOKEN, scene.topic, magic)
    assert seen.headers["apns-push-type"] == "mdm"
    assert seen.headers["apns-priority"] == "10"
    assert int(seen.headers["apns-expiration"]) > seen.at.timestamp()
    assert seen.headers["apns-id"] == outcome.apns_id


async def test_a_dead_token_is_told_with_its_moment(scene: Scene) -> None:
    """410 Unregistered. (5.5)"""
    died_at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    scene.apple.levers.kill(TOKEN, died_at)
    outcome = await scene.push()
    assert (outcome.verdict, outcome.unregistered_at) == (PushVerdict.TOKEN_DEAD, died_at)


async def test_a_throttled_token_is_told(scene: Scene) -> None:
    scene.apple.levers.throttle()
    assert (await scene.push()).verdict is PushVerdict.THROTTLED
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED


@pytest.mark.case("AP-06")
@pytest.mark.parametrize("how", list(Break))
async def test_a_broken_connection_costs_one_repetition(scene: Scene, how: Break) -> None:
    """Reset or GOAWAY, on a connection that worked. (5.3)"""
    await scene.push()
    scene.apple.levers.break_next(how)
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED
    assert scene.apple.connections == 2


@pytest.mark.case("AP-06")
async def test_a_goodbye_between_two_pushes_is_not_noticed(scene: Scene) -> None:
    """A GOAWAY that comes while nothing is under way. (5.3)"""
    await scene.push()
    await scene.apple.close_connections()
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED
    assert scene.apple.connections == 2


async def test_a_certificate_that_apple_distrusts_pauses_its_topic(scene: Scene) -> None:
    """403 BadCertificate. (5.5)"""
    certificate = (await scene.certify(scene.topic)).certificate
    scene.apple.levers.distrust(certificate.serial_number)
    outcome = await scene.push()
    assert (outcome.verdict, outcome.reason) == (PushVerdict.TOPIC_PAUSED, "BadCertificate")


@pytest.mark.case("AP-09")
async def test_a_renewed_certificate_is_shown_by_the_next_push(scene: Scene) -> None:
    """Without a restart, and on a new connection. (5.6)"""
    await scene.push()
    renewed = await scene.certify(scene.topic)
    # Only the renewed one is distrusted: whoever is refused has shown it.
    scene.apple.levers.distrust(renewed.certificate.serial_number)
    assert (await scene.push()).reason == "BadCertificate"
    assert scene.apple.connections == 2


async def test_a_device_of_another_topic_pauses_the_topic_not_the_token(scene: Scene) -> None:
    """400 DeviceTokenNotForTopic. (5.5, AP-07)"""
    other = await scene.certify()
    outcome = await scene.push(topic=other.topic)
    assert outcome.verdict is PushVerdict.TOPIC_PAUSED
    assert outcome.reason == "DeviceTokenNotForTopic"


async def test_each_topic_is_pushed_with_its_own_certificate(scene: Scene) -> None:
    """Chosen by the enrollment's topic, never "the current one". (5.6)"""
    other = await scene.certify()
    assert (await scene.push()).verdict is PushVerdict.ACCEPTED
    elsewhere = await scene.push(topic=other.topic, token=b"another device's token")
    assert elsewhere.verdict is PushVerdict.ACCEPTED
    shown = [(seen.topic, seen.certificate_topic) for seen in scene.apple.requests]
    assert shown == [(scene.topic, scene.topic), (other.topic, other.topic)]


async def push_a_thousand(scene: Scene) -> list[asyncio.Task[PushOutcome]]:
    """A thousand pushes to as many devices, all of them at Apple's and none answered."""
    await scene.push()
    scene.apple.levers.holding = True
    pushes = [asyncio.ensure_future(scene.push(token=token_of(n))) for n in range(1000)]
    await scene.apple.until_held(1000)
    return pushes


def token_of(number: int) -> bytes:
    return number.to_bytes(32)


def times_taken(scene: Scene) -> Counter[int]:
    """How often Apple took a push to each of the thousand, 200 each time."""
    taken = [seen for seen in scene.apple.requests if seen.token != TOKEN]
    assert {seen.verdict.status for seen in taken} <= {200}
    return Counter(int.from_bytes(seen.token or b"") for seen in taken)


@pytest.mark.case("AP-06")
@pytest.mark.parametrize("answered", [0, 1, 500, 999, 1000])
async def test_goaway_in_the_middle_of_a_thousand_pushes_repeats_exactly_what_was_not_processed(
    scene: Scene, answered: int
) -> None:
    """None is lost, none told twice, none that Apple took reported failed. (5.3)"""
    pushes = await push_a_thousand(scene)
    await scene.apple.leave_amid(answered, how=Break.GOAWAY)
    outcomes = await asyncio.gather(*pushes)
    assert {outcome.verdict for outcome in outcomes} == {PushVerdict.ACCEPTED}
    assert times_taken(scene) == dict.fromkeys(range(1000), 1)
    first = [seen for seen in scene.apple.requests if seen.connection == 1]
    assert len(first) == 1 + answered
    assert len({outcome.apns_id for outcome in outcomes}) == 1000
    assert scene.apple.connections <= 1 + PushLimits().connections_per_topic


@pytest.mark.case("AP-06")
@pytest.mark.parametrize("answered", [0, 500])
async def test_a_connection_reset_under_a_thousand_pushes_loses_none(
    scene: Scene, answered: int
) -> None:
    """Nobody knows what had arrived: those without an answer are sent once more, which does no harm. (5.2, 5.3)"""
    pushes = await push_a_thousand(scene)
    await scene.apple.leave_amid(answered, how=Break.RESET)
    outcomes = await asyncio.gather(*pushes)
    assert {outcome.verdict for outcome in outcomes} == {PushVerdict.ACCEPTED}
    taken = times_taken(scene)
    assert set(taken) == set(range(1000))
    assert max(taken.values()) <= 2
    assert scene.apple.connections <= 1 + 2 * PushLimits().connections_per_topic


async def test_no_more_streams_are_opened_than_apple_allows(tmp_path: Path) -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS holds whatever we would like; the others wait for a stream. (5.3)"""
    async with SimulatedApns(PushAuthority.create(), max_streams=20) as apple:
        limits = PushLimits(connections_per_topic=2)
        scene = await Scene.open(apple, tmp_path, limits)
        await scene.push()
        apple.levers.holding = True
        pushes = [asyncio.ensure_future(scene.push(token=token_of(n))) for n in range(100)]
        await apple.until_held(20)
        assert max(apple.held) == 20, "more at once than Apple allows"
        await apple.release()
        outcomes = await asyncio.gather(*pushes)
        assert {outcome.verdict for outcome in outcomes} == {PushVerdict.ACCEPTED}
        assert set(times_taken(scene).values()) == {1}
        # Streams that a new connection opened before it knew the limit were refused, and went to one more.
        assert apple.connections <= limits.connections_per_topic + 1
        scene.pusher.close()


@pytest.mark.case("AP-09")
async def test_pushes_under_way_end_on_the_old_certificate_while_the_renewed_one_is_shown(
    scene: Scene,
) -> None:
    """A renewal interrupts nobody: the old connection closes once its last push is answered. (5.3, 5.6)"""
    await scene.push()
    scene.apple.levers.holding = True
    slow = asyncio.ensure_future(scene.push("under way"))
    await scene.apple.until_held(1)
    scene.apple.levers.holding = False
    await scene.certify(scene.topic)
    assert (await scene.push("renewed")).verdict is PushVerdict.ACCEPTED
    assert not slow.done()
    await scene.apple.release()
    assert (await slow).verdict is PushVerdict.ACCEPTED
    by_magic = {seen.magic: seen.connection for seen in scene.apple.requests}
    assert by_magic == {"MAGIC": 1, "under way": 1, "renewed": 2}
