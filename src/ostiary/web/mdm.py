"""The device routes: HTTP to a proven message and back. Nothing here decides; nothing here ever makes up a 401."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import OstiaryError, TooLarge
from ostiary.formats import plist
from ostiary.formats.plist import Fields
from ostiary.ports.meter import Meter
from ostiary.protocol.mdm.checkin import CheckinMessage, DeclarativeManagement, decode_checkin
from ostiary.protocol.mdm.connect import decode_connect
from ostiary.services.checkin import CheckinService
from ostiary.services.connect import CommandChannel
from ostiary.services.declarations import DeclarationMissing
from ostiary.services.gate import DeviceGate
from ostiary.services.reply import Farewell, Media, Reply
from ostiary.web.body import BodyBudget, BodyReader
from ostiary.web.presented import ProxyTrust, read_presented

LARGEST_BODY: Final = 16 * 1024 * 1024
LARGEST_CHECKIN: Final = 1024 * 1024
PARSED_ASIDE: Final = 256 * 1024
"""Bodies beyond this are parsed in a thread: one report must not hold up everybody. (hot-path.md)"""

CHECKIN_TYPE: Final = "application/x-apple-aspen-mdm-checkin"
_MEDIA_TYPE: Final = {
    Media.PLIST: "application/xml; charset=UTF-8",
    Media.COMMAND: "application/xml; charset=UTF-8",
    Media.JSON: "application/json",
}


class CheckinTooLarge(TooLarge):
    """No check-in message but a status report is this large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDoor:
    """What the device routes need."""

    gate: DeviceGate
    checkin: CheckinService
    commands: CommandChannel
    proxies: ProxyTrust
    budget: BodyBudget
    meter: Meter


def mdm_routes(door: DeviceDoor) -> list[Route]:
    """One URL does for both check-in and commands; the others are what profiles in the field name."""

    async def answer(request: Request) -> Response:
        return await _answer(door, request)

    paths = ("/mdm", "/checkin", "/mdm/checkin", "/mdm/connect")
    return [Route(path, answer, methods=["PUT"]) for path in paths]


async def _answer(door: DeviceDoor, request: Request) -> Response:
    began = time.perf_counter()
    kind = "unread"

    def is_kind(name: str) -> None:
        nonlocal kind
        kind = name

    result = "fault"
    try:
        response = await _handle(door, request, is_kind)
        result = "ok"
        return response
    except DeclarationMissing as error:
        result = error.code
        return Response(status_code=HTTPStatus.NOT_FOUND)  # the device removes its copy (7.2)
    except OstiaryError as error:
        result = error.code
        raise
    finally:
        door.meter.checkin(kind, result, time.perf_counter() - began)


async def _handle(door: DeviceDoor, request: Request, is_kind: Callable[[str], None]) -> Response:
    # The certificate is checked before any of the body is read. (3.9)
    visitor = door.gate.recognize(read_presented(request, door.proxies))
    with BodyReader(request, door.budget) as reader:
        body = await reader.rest(LARGEST_BODY)
        identity = visitor.prove(body)
        fields = await _read(body)
        size = len(body)
    if _is_checkin(request, fields):
        message = decode_checkin(fields)
        is_kind(type(message).__name__)
        if size > LARGEST_CHECKIN and not _is_status_report(message):
            raise CheckinTooLarge(limit_bytes=LARGEST_CHECKIN)
        return await _checkin(door, identity, message)
    is_kind("Connect")
    report = decode_connect(fields)
    structlog.contextvars.bind_contextvars(
        enrollment_id=report.channel.id, message="Connect", device_status=report.status.value
    )
    return respond(await door.commands.handle(identity, report))


async def _checkin(door: DeviceDoor, identity: DeviceIdentity, message: CheckinMessage) -> Response:
    structlog.contextvars.bind_contextvars(
        enrollment_id=message.channel.id if message.channel else None,
        message=type(message).__name__,
    )
    return respond(await door.checkin.handle(identity, message))


async def _read(body: bytes) -> Fields:
    if len(body) > PARSED_ASIDE:
        return await asyncio.to_thread(plist.read_dict, body)
    return plist.read_dict(body)


def _is_checkin(request: Request, fields: Fields) -> bool:
    """By content type; where that does not tell, by the body. (1.1)"""
    if request.headers.get("content-type", "").lower().startswith(CHECKIN_TYPE):
        return True
    return fields.has("MessageType") and not fields.has("Status")


def _is_status_report(message: CheckinMessage) -> bool:
    return isinstance(message, DeclarativeManagement) and message.endpoint == "status"


def respond(reply: Reply | Farewell) -> Response:
    """The HTTP answer. The two codes that unenroll are written here for a `Farewell`, and for nothing else. (3.7)"""
    match reply:
        case Farewell(None):
            return Response(status_code=HTTPStatus.UNAUTHORIZED)
        case Farewell(body):
            return Response(body, HTTPStatus.FORBIDDEN, media_type="application/xml")
        case Reply(Media.NONE):
            return Response(status_code=HTTPStatus.OK)
        case Reply(media, body):
            return Response(body, HTTPStatus.OK, media_type=_MEDIA_TYPE[media])
