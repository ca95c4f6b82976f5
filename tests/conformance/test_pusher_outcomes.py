"""One suite for every Pusher: what it makes of APNs' answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conformance.apns_standin import Answer, ApnsStandIn
from conformance.push_certificates import TOPIC, Authority
from conformance.recording_pusher import RecordingPusher
from ostiary.domain.token import RecordId
from ostiary.outward.apns import ApnsEndpoint, ApnsPusher
from ostiary.ports.push import ClientCertificate, Pusher, PushOutcome, PushVerdict
from ostiary.protocol.apns.outcome import VERDICT_OF_REASON
from ostiary.protocol.mdm.checkin import PushAddress, Topic
from ostiary.secret import Secret

EXPIRES_AT = datetime(2026, 12, 1, tzinfo=UTC)
DIED_AT = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A Pusher, a way to say how APNs answers it, and the bodies that APNs saw."""

    pusher: Pusher
    answer_with: Callable[[int, bytes], None]
    break_connections: Callable[[], None]
    seen: Callable[[], list[bytes]]

    async def push(self, magic: str = "MAGIC", topic: str = TOPIC) -> PushOutcome:
        address = PushAddress(
            topic=Topic(topic), token=Secret(b"\x01\xff"), magic=Secret(magic.encode())
        )
        return await self.pusher.push(address, expires_at=EXPIRES_AT)


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[Candidate]:
    authority, apns = Authority(), ApnsStandIn()
    await apns.open(authority, folder)
    issued = authority.issue_push()

    class Held:
        async def load_client_certificate(self, topic: Topic) -> ClientCertificate:
            del topic
            return ClientCertificate(
                record_id=RecordId("1" * 32), chain_pem=issued.pem, key_pem=Secret(issued.key_pem)
            )

    def answer_with(status: int, body: bytes) -> None:
        apns.script = lambda _push: Answer(status=status, body=body)

    def break_connections() -> None:
        apns.script = lambda _push: Answer(reset=True)

    endpoint = ApnsEndpoint(host="127.0.0.1", port=apns.port, ca_file=folder / "ca.pem")
    pusher = ApnsPusher(Held(), endpoint)
    yield Candidate(
        pusher=pusher,
        answer_with=answer_with,
        break_connections=break_connections,
        seen=lambda: [push.body for push in apns.seen],
    )
    pusher.close()
    await apns.close()


@asynccontextmanager
async def recording(_folder: Path) -> AsyncIterator[Candidate]:
    pusher = RecordingPusher()

    def answer_with(status: int, body: bytes) -> None:
        pusher.reply = lambda _request: (status, body)

    def break_connections() -> None:
        def broken(_request: object) -> tuple[int, bytes]:
            raise ConnectionResetError

        pusher.reply = broken

    yield Candidate(
        pusher=pusher,
        answer_with=answer_with,
        break_connections=break_connections,
        seen=lambda: [request.body.reveal() for request in pusher.requests],
    )


@pytest.fixture(params=[real, recording], ids=["apns", "recording"])
async def candidate(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Candidate]:
    async with request.param(tmp_path) as opened:
        yield opened


async def test_an_accepted_push_has_an_id(candidate: Candidate) -> None:
    """`apns-id` is echoed and logged. (check-in-and-commands.md 5.1)"""
    first, second = await candidate.push(), await candidate.push()
    assert first.verdict is second.verdict is PushVerdict.ACCEPTED
    assert first.apns_id
    assert first.apns_id != second.apns_id
    assert first.status == 200


async def test_every_documented_answer_leads_to_its_verdict(candidate: Candidate) -> None:
    """The whole table. (5.5)"""
    for (status, reason), verdict in VERDICT_OF_REASON.items():
        candidate.answer_with(status, json.dumps({"reason": reason}).encode())
        outcome = await candidate.push()
        assert (outcome.verdict, outcome.reason, outcome.status) == (verdict, reason, status)


async def test_gone_brings_its_moment(candidate: Candidate) -> None:
    """410's timestamp in milliseconds. (5.5)"""
    milliseconds = DIED_AT.timestamp() * 1000 + 250
    body = json.dumps({"reason": "ExpiredToken", "timestamp": int(milliseconds)}).encode()
    candidate.answer_with(410, body)
    outcome = await candidate.push()
    assert outcome.verdict is PushVerdict.TOKEN_DEAD
    assert outcome.unregistered_at == DIED_AT + timedelta(milliseconds=250)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"reason":7}', b"[]", b"\xff\xfe", b"{" * 3000])
async def test_an_answer_of_another_form_is_still_an_outcome(
    candidate: Candidate, body: bytes
) -> None:
    """Whatever stands between Apple and us may answer. (users.md 5.4, 35)"""
    candidate.answer_with(500, body)
    outcome = await candidate.push()
    assert (outcome.verdict, outcome.reason) == (PushVerdict.RETRY, None)


async def test_a_broken_connection_is_an_outcome(candidate: Candidate) -> None:
    candidate.break_connections()
    outcome = await candidate.push()
    assert (outcome.verdict, outcome.status) == (PushVerdict.RETRY, None)
    assert outcome.reason == "connection-lost"


async def test_a_push_that_cannot_be_written_is_an_outcome_and_nothing_is_sent(
    candidate: Candidate,
) -> None:
    too_long = await candidate.push(magic="x" * 5000)
    two_headers = await candidate.push(topic=TOPIC + "\r\napns-topic: other")
    assert too_long.verdict is two_headers.verdict is PushVerdict.OUR_BUG
    assert candidate.seen() == []


async def test_pushes_at_once_each_have_their_answer(candidate: Candidate) -> None:
    magics = [f"magic {number}" for number in range(50)]
    outcomes = await asyncio.gather(*(candidate.push(magic=magic) for magic in magics))
    assert {outcome.verdict for outcome in outcomes} == {PushVerdict.ACCEPTED}
    assert sorted(json.loads(body)["mdm"] for body in candidate.seen()) == sorted(magics)
