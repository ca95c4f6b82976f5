"""The push service over real HTTP/2 and TLS. Source: check-in-and-commands.md 5."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from ostiary_sim.apns import Break, PushAuthority, PushCredential, SimulatedApns
from unit.sim.apns.conftest import ClientFor

TOKEN = bytes(range(32))


def headers(topic: str | None, **changes: str | None) -> dict[str, str]:
    wished = {
        "apns-topic": topic,
        "apns-push-type": "mdm",
        "apns-priority": "10",
        "apns-expiration": "4102444800",
    } | {f"apns-{name.replace('_', '-')}": value for name, value in changes.items()}
    return {name: value for name, value in wished.items() if value is not None}


async def push(
    client: httpx.AsyncClient, topic: str, token: bytes = TOKEN, magic: str = "MAGIC"
) -> httpx.Response:
    return await client.post(
        f"/3/device/{token.hex()}", json={"mdm": magic}, headers=headers(topic)
    )


class Inbox:
    """A device that only notes what reaches it."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []

    async def deliver(self, topic: str, magic: str) -> None:
        self.received.append((topic, magic))


async def test_a_good_push_is_accepted_recorded_and_delivered(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    inbox = Inbox()
    await apns.connect(TOKEN, credential.topic, inbox.deliver)
    apns_id = str(uuid4())
    answer = await client.post(
        f"/3/device/{TOKEN.hex()}",
        json={"mdm": "MAGIC"},
        headers=headers(credential.topic, id=apns_id),
    )
    assert answer.status_code == 200
    assert answer.http_version == "HTTP/2"
    assert answer.headers["apns-id"] == apns_id
    assert answer.content == b""
    await apns.settle()
    assert inbox.received == [(credential.topic, "MAGIC")]
    (request,) = apns.requests
    assert request.token == TOKEN
    assert request.magic == "MAGIC"
    assert request.headers["apns-push-type"] == "mdm"
    assert "MAGIC" not in repr(request)


async def test_the_topic_may_be_left_to_the_certificate(
    client: httpx.AsyncClient, credential: PushCredential
) -> None:
    assert credential.topic
    wished = headers(None)
    answer = await client.post(f"/3/device/{TOKEN.hex()}", json={"mdm": "M"}, headers=wished)
    assert answer.status_code == 200


async def test_without_a_client_certificate_there_is_no_connection(client_for: ClientFor) -> None:
    async with client_for(None) as stranger:
        with pytest.raises(httpx.HTTPError):
            await push(stranger, "com.apple.mgmt.External.x")


async def test_a_certificate_of_another_authority_or_an_old_one_is_refused(
    push_authority: PushAuthority, client_for: ClientFor
) -> None:
    expired = push_authority.issue_push_certificate(
        not_before=datetime.now(UTC) - timedelta(days=400)  # noqa: TID251 (TLS looks at the real clock)
    )
    foreign = PushAuthority.create().issue_push_certificate()
    for credential in (expired, foreign):
        async with client_for(credential) as client:
            with pytest.raises(httpx.HTTPError):
                await push(client, credential.topic)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"topic": "com.apple.mgmt.External.other"}, "TopicDisallowed"),
        ({"topic": "com.example.app"}, "BadTopic"),
        ({"push_type": "alert"}, "InvalidPushType"),
        ({"push_type": None}, "InvalidPushType"),
        ({"priority": "7"}, "BadPriority"),
        ({"expiration": "soon"}, "BadExpirationDate"),
        ({"id": "1"}, "BadMessageId"),
        ({"collapse_id": "x" * 65}, "BadCollapseId"),
    ],
)
async def test_bad_headers_have_their_reasons(
    client: httpx.AsyncClient,
    credential: PushCredential,
    changes: dict[str, str | None],
    reason: str,
) -> None:
    """5.1, 5.5."""
    answer = await client.post(
        f"/3/device/{TOKEN.hex()}",
        json={"mdm": "M"},
        headers=headers(**({"topic": credential.topic} | changes)),
    )
    assert answer.status_code == 400
    assert answer.json() == {"reason": reason}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", f"/3/device/{TOKEN.hex()}", b"", 405, "MethodNotAllowed"),
        ("POST", "/2/device/00", b"x", 404, "BadPath"),
        ("POST", "/3/device/", b"x", 400, "MissingDeviceToken"),
        ("POST", "/3/device/xyz", b"x", 400, "BadDeviceToken"),
        ("POST", f"/3/device/{TOKEN.hex()}", b"", 400, "PayloadEmpty"),
        ("POST", f"/3/device/{TOKEN.hex()}", b'{"mdm":"M","aps":{}}', 400, "PayloadEmpty"),
        ("POST", f"/3/device/{TOKEN.hex()}", b" " * 5000, 413, "PayloadTooLarge"),
    ],
)
async def test_bad_requests_have_their_reasons(
    client: httpx.AsyncClient,
    credential: PushCredential,
    method: str,
    path: str,
    body: bytes,
    status: int,
    reason: str,
) -> None:
    answer = await client.request(method, path, content=body, headers=headers(credential.topic))
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


async def test_a_token_of_another_topic_is_told_apart(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    await apns.connect(TOKEN, "com.apple.mgmt.External.other", Inbox().deliver)
    answer = await push(client, credential.topic)
    assert answer.json() == {"reason": "DeviceTokenNotForTopic"}


async def test_the_last_push_waits_for_an_absent_device(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    """5.2."""
    assert (await push(client, credential.topic, magic="FIRST")).status_code == 200
    assert (await push(client, credential.topic, magic="LAST")).status_code == 200
    inbox = Inbox()
    await apns.connect(TOKEN, credential.topic, inbox.deliver)
    await apns.settle()
    assert inbox.received == [(credential.topic, "LAST")]


async def test_expiration_zero_is_not_kept(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    wished = headers(credential.topic, expiration="0")
    await client.post(f"/3/device/{TOKEN.hex()}", json={"mdm": "M"}, headers=wished)
    inbox = Inbox()
    await apns.connect(TOKEN, credential.topic, inbox.deliver)
    await apns.settle()
    assert inbox.received == []


async def test_ordered_failures_come_in_order_and_end(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    apns.levers.throttle()
    apns.levers.fail_next(503, "ServiceUnavailable", token=TOKEN)
    statuses = [(await push(client, credential.topic)).status_code for _ in range(3)]
    assert statuses == [503, 429, 200]


async def test_a_dead_token_says_since_when(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    """5.5: milliseconds."""
    apns.levers.kill(TOKEN, datetime(2026, 1, 2, tzinfo=UTC))
    answer = await push(client, credential.topic)
    assert answer.status_code == 410
    assert answer.json() == {"reason": "Unregistered", "timestamp": 1767312000000}
    assert (await push(client, credential.topic, token=b"other")).status_code == 200
    apns.levers.revive(TOKEN)
    assert (await push(client, credential.topic)).status_code == 200


async def test_a_reset_connection_is_followed_by_a_new_one(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    assert (await push(client, credential.topic)).status_code == 200
    apns.levers.break_next(Break.RESET)
    with pytest.raises(httpx.HTTPError):
        await push(client, credential.topic)
    assert (await push(client, credential.topic)).status_code == 200
    assert apns.connections == 2
    assert len(apns.requests) == 2


async def test_goaway_names_the_request_as_not_processed_so_that_it_may_be_repeated(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    """5.3; this client repeats by itself what the server declared untouched."""
    assert (await push(client, credential.topic)).status_code == 200
    apns.levers.break_next(Break.GOAWAY)
    assert (await push(client, credential.topic)).status_code == 200
    assert apns.connections == 2
    assert [request.connection for request in apns.requests] == [1, 2]


async def test_goaway_to_everybody_makes_clients_reconnect(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    await push(client, credential.topic)
    await apns.close_connections()
    try:
        answer = await push(client, credential.topic)
    except httpx.HTTPError:  # this client may notice the end only when it writes
        answer = await push(client, credential.topic)
    assert answer.status_code == 200
    assert apns.connections == 2


async def test_a_distrusted_certificate_is_told_so(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    apns.levers.distrust(credential.certificate.serial_number)
    answer = await push(client, credential.topic)
    assert (answer.status_code, answer.json()["reason"]) == (403, "BadCertificate")
    apns.levers.heal()
    assert (await push(client, credential.topic)).status_code == 200


async def test_strict_and_silent_do_as_they_say(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    apns.levers.strict_tokens = True
    assert (await push(client, credential.topic)).json() == {"reason": "BadDeviceToken"}
    inbox = Inbox()
    await apns.connect(TOKEN, credential.topic, inbox.deliver)
    apns.levers.silent = True
    assert (await push(client, credential.topic)).status_code == 200
    await apns.settle()
    assert inbox.received == []


async def test_settle_hears_what_went_wrong_on_a_device(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    async def fail(_topic: str, _magic: str) -> None:
        raise RuntimeError("out of battery")

    await apns.connect(TOKEN, credential.topic, fail)
    await push(client, credential.topic)
    with pytest.raises(BaseExceptionGroup):
        await apns.settle()


async def test_many_streams_share_one_connection(
    apns: SimulatedApns, client: httpx.AsyncClient, credential: PushCredential
) -> None:
    answers = await asyncio.gather(
        *(push(client, credential.topic, token=bytes([n]) * 32) for n in range(40))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert apns.connections == 1
