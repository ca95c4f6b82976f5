"""The device routes: HTTP to a proven message and back. Nothing here decides; nothing here ever makes up a 401."""

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import OstiaryError, TooLarge
from ostiary.formats import plist
from ostiary.formats.plist import Fields
from ostiary.ports.meter import Meter
from ostiary.protocol.mdm.checkin import (
    CheckinMessage,
    DeclarativeManagement,
    TokenUpdate,
    decode_checkin,
)
from ostiary.protocol.mdm.connect import decode_connect
from ostiary.services.checkin import CheckinService
from ostiary.services.connect import CommandChannel
from ostiary.services.declarations import DeclarationMissing
from ostiary.services.gate import DeviceGate
from ostiary.services.renewal_channel import IdentityEnded, RenewalChannel
from ostiary.services.reply import Farewell, Media, Reply
from ostiary.web.body import BodyBudget, BodyReader
from ostiary.web.journal import tell
from ostiary.web.presented import ProxyTrust, read_head

LARGEST_BODY: Final = 16 * 1024 * 1024
LARGEST_CHECKIN: Final = 1024 * 1024
PARSED_ASIDE: Final = 256 * 1024
"""Bodies beyond this are parsed in a thread: one report must not hold up everybody. (hot-path.md)"""

Answer = tuple[Message, Message]
"""Head and body, as ASGI takes them."""

_MEDIA_TYPE: Final = {
    Media.PLIST: b"application/xml; charset=UTF-8",
    Media.COMMAND: b"application/xml; charset=UTF-8",
    Media.JSON: b"application/json",
}


class CheckinTooLarge(TooLarge):
    """No check-in message but a status report is this large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDoor:
    """What the device routes need."""

    gate: DeviceGate
    checkin: CheckinService
    commands: CommandChannel
    renewals: RenewalChannel
    """For identities that have ended: their renewal, and nothing else."""
    proxies: ProxyTrust
    budget: BodyBudget
    meter: Meter


def mdm_routes(door: DeviceDoor) -> list[Route]:
    """One URL does for both check-in and commands; the others are what profiles in the field name."""
    paths = ("/mdm", "/checkin", "/mdm/checkin", "/mdm/connect")
    return [Route(path, DeviceRoute(door), methods=["PUT"]) for path in paths]


class DeviceRoute:
    """Plain ASGI: this is where half of all requests are polls with nothing to say. (docs/decisions/0001)"""

    def __init__(self, door: DeviceDoor) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one message, and count it by its kind and result."""
        began = time.perf_counter()
        visit = _Visit(self._door)
        result = "fault"
        try:
            answer = await visit.handle(scope, receive)
            result = "ok"
        except DeclarationMissing as error:
            result = error.code
            answer = NOT_FOUND  # the device removes its copy (7.2)
        except OstiaryError as error:
            result = error.code
            raise
        finally:
            self._door.meter.checkin(visit.kind, result, time.perf_counter() - began)
        start, body = answer
        await send(start)
        await send(body)


class _Visit:
    """One request of a device."""

    __slots__ = ("_door", "kind")

    def __init__(self, door: DeviceDoor) -> None:
        self._door = door
        self.kind = "unread"
        """The message's type, once it is known; for the figures."""

    async def handle(self, scope: Scope, receive: Receive) -> Answer:
        """The answer to it, from a certificate that turned out to be its sender's."""
        door = self._door
        head = read_head(scope, door.proxies)
        # The certificate is checked before any of the body is read. (3.9)
        visitor = door.gate.recognize(head.presented)
        with BodyReader(receive, door.budget, announced_bytes=head.announced_bytes) as reader:
            body = await reader.rest(LARGEST_BODY)
            identity = visitor.prove(body)
            fields = await _read(body)
        # By content type; where that does not tell, by the body. (1.1)
        if head.is_checkin or (fields.has("MessageType") and not fields.has("Status")):
            return await self._checkin(identity, fields, len(body), has_ended=visitor.has_ended)
        return await self._report(identity, fields, has_ended=visitor.has_ended)

    async def _checkin(
        self, identity: DeviceIdentity, fields: Fields, size: int, *, has_ended: bool
    ) -> Answer:
        message = decode_checkin(fields)
        self.kind = type(message).__name__
        if has_ended and not isinstance(message, TokenUpdate):
            # A TokenUpdate that is refused is repeated before anything else is asked, and may come only once. (TU-5, TU-7)
            raise IdentityEnded(fingerprint=identity.fingerprint)
        if size > LARGEST_CHECKIN and not _is_status_report(message):
            raise CheckinTooLarge(limit_bytes=LARGEST_CHECKIN)
        tell(
            enrollment_id=message.channel.id if message.channel else None,
            message=self.kind,
        )
        return respond(await self._door.checkin.handle(identity, message))

    async def _report(self, identity: DeviceIdentity, fields: Fields, *, has_ended: bool) -> Answer:
        self.kind = "Connect"
        report = decode_connect(fields)
        tell(enrollment_id=report.channel.id, message="Connect", device_status=report.status.value)
        commands = self._door.renewals if has_ended else self._door.commands
        return respond(await commands.handle(identity, report))


async def _read(body: bytes) -> Fields:
    if len(body) > PARSED_ASIDE:
        return await asyncio.to_thread(plist.read_dict, body)
    return plist.read_dict(body)


def _is_status_report(message: CheckinMessage) -> bool:
    return isinstance(message, DeclarativeManagement) and message.endpoint == "status"


def respond(reply: Reply | Farewell) -> Answer:
    """The HTTP answer. The two codes that unenroll are written here for a `Farewell`, and for nothing else. (3.7)"""
    match reply:
        case Reply(Media.NONE):
            return NOTHING_TO_SAY
        case Reply(media, body):
            return _answer(HTTPStatus.OK, body, _MEDIA_TYPE[media])
        case Farewell(body):
            if body is None:
                return _answer(HTTPStatus.UNAUTHORIZED)
            return _answer(HTTPStatus.FORBIDDEN, body, b"application/xml")


def _answer(status: HTTPStatus, body: bytes = b"", media_type: bytes | None = None) -> Answer:
    headers = [(b"content-length", b"%d" % len(body))]
    if media_type is not None:
        headers.append((b"content-type", media_type))
    return (
        {"type": "http.response.start", "status": int(status), "headers": headers},
        {"type": "http.response.body", "body": body},
    )


NOTHING_TO_SAY: Final = _answer(HTTPStatus.OK)
NOT_FOUND: Final = _answer(HTTPStatus.NOT_FOUND)
