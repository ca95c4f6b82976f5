"""Errors as senders see them: rendered once, here, by family; and logged once, as facts."""

import json
from collections.abc import Mapping
from enum import Enum, auto
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import structlog
from starlette.responses import Response

from ostiary.errors import (
    Conflicting,
    Declined,
    Malformed,
    Missing,
    OstiaryError,
    Refused,
    TooLarge,
    Unavailable,
)
from ostiary.ports.storage import StorageFailed
from ostiary.services.api_tokens import ApiTokenExpired, ApiTokenUnknown

RETRY_AFTER_SECONDS: Final = 5
SIGN_IN: Final = {
    "WWW-Authenticate": 'Basic realm="nanomdm"'
}  # the realm that NanoMDM's users know
_WITHOUT_TOKEN: Final = (ApiTokenUnknown, ApiTokenExpired)

_log = structlog.get_logger()


class Door(Enum):
    """Which kind of sender stands there, and so how it is told of an error."""

    DEVICE = auto()
    ENROLLMENT = auto()
    """People and devices before they are managed."""
    NANO = auto()
    """Programs written for NanoMDM's API."""
    API = auto()
    """Programs: application/problem+json."""
    CONTROL = auto()
    """Our own command line, over a socket that nobody else may open; told as programs are, and more."""


_FOR_PROGRAMS: Final[Mapping[type[OstiaryError], HTTPStatus]] = MappingProxyType(
    {
        Malformed: HTTPStatus.BAD_REQUEST,
        TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        Refused: HTTPStatus.FORBIDDEN,
        Declined: HTTPStatus.CONFLICT,
        Missing: HTTPStatus.NOT_FOUND,
        Conflicting: HTTPStatus.CONFLICT,
        Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
_STATUS: Final[Mapping[Door, Mapping[type[OstiaryError], HTTPStatus]]] = MappingProxyType(
    {
        Door.DEVICE: MappingProxyType(
            {
                Malformed: HTTPStatus.BAD_REQUEST,
                TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                Refused: HTTPStatus.BAD_REQUEST,
                Declined: HTTPStatus.GONE,
                Missing: HTTPStatus.BAD_REQUEST,
                Conflicting: HTTPStatus.SERVICE_UNAVAILABLE,
                Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
            }
        ),
        Door.ENROLLMENT: MappingProxyType(
            {
                Malformed: HTTPStatus.BAD_REQUEST,
                TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                Refused: HTTPStatus.FORBIDDEN,
                Declined: HTTPStatus.FORBIDDEN,
                Missing: HTTPStatus.NOT_FOUND,
                Conflicting: HTTPStatus.SERVICE_UNAVAILABLE,
                Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
            }
        ),
        Door.NANO: MappingProxyType(
            {
                Malformed: HTTPStatus.BAD_REQUEST,
                TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                Refused: HTTPStatus.FORBIDDEN,
                Declined: HTTPStatus.CONFLICT,
                Missing: HTTPStatus.INTERNAL_SERVER_ERROR,  # NanoMDM answers 500 where it finds nothing
                Conflicting: HTTPStatus.CONFLICT,
                Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
            }
        ),
        Door.API: _FOR_PROGRAMS,
        Door.CONTROL: _FOR_PROGRAMS,
    }
)

_LEVEL: Final[Mapping[type[OstiaryError], str]] = MappingProxyType(
    {
        Malformed: "warning",
        TooLarge: "warning",
        Refused: "warning",
        Declined: "info",
        Missing: "info",
        Conflicting: "warning",
        Unavailable: "error",
    }
)


def family_of(error: OstiaryError) -> type[OstiaryError] | None:
    """The family an error belongs to; None for one that was raised outside all of them, which is a bug."""
    return next((family for family in _LEVEL if isinstance(error, family)), None)


def status_of(error: Exception, door: Door) -> HTTPStatus:
    """The HTTP status that an error means at a door. For devices never 401 and never 403. (3.7)"""
    family = family_of(error) if isinstance(error, OstiaryError) else None
    if family is None:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, _WITHOUT_TOKEN) and door in {Door.NANO, Door.API}:
        return HTTPStatus.UNAUTHORIZED  # programs sign in; the other doors know no API tokens
    return _STATUS[door][family]


def as_told_outside(error: OstiaryError) -> OstiaryError:
    """The error without where our database is, and why it does not let us in.

    Who asks may not even be recognized yet: that, too, is asked of the database. (style.md 7)
    """
    return StorageFailed() if isinstance(error, StorageFailed) else error


def render_problem(error: Exception, door: Door, *, request_id: str) -> Response:
    """The answer that tells this sender of this error. It holds no detail of a fault of ours.

    Source: style.md 7; check-in-and-commands.md 3.7, the fail-safe rule.
    """
    status = status_of(error, door)
    if isinstance(error, OstiaryError) and door is not Door.CONTROL:
        error = as_told_outside(error)
    headers = {"Cache-Control": "no-store"}
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status is HTTPStatus.UNAUTHORIZED:
        headers |= SIGN_IN
    known = (
        error if isinstance(error, OstiaryError) and family_of(error) else None
    )  # a bug shows nothing
    match door:
        case Door.DEVICE | Door.ENROLLMENT:
            # What does not fit our own records is ours alone.
            told = None if isinstance(known, Conflicting) else known
            return _plain(told, status, headers, request_id)
        case Door.NANO:
            said = str(known) if known else f"internal error, reference {request_id}"
            return nano_json({"error": said}, status, headers)
        case Door.API | Door.CONTROL:
            return _problem_json(known, status, headers, request_id)


def log_problem(error: Exception) -> None:
    """One log line for one error: its class and facts. No body, no locals, no text of foreign exceptions."""
    if isinstance(error, OstiaryError) and (family := family_of(error)) is not None:
        log = getattr(_log, _LEVEL[family])
        log("request_refused", problem=error.code, detail=error.detail or None, **_facts(error))
        return
    # The message of an exception that we did not write may quote its input, so only the places are told.
    _log.error("bug", exception=type(error).__name__, at=places(error))


def places(error: BaseException) -> str:
    """Where an exception passed, innermost last, without a line of its text: `gate.py:52 < …`."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(frames[-8:])


def nano_json(
    content: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON as NanoMDM writes it: indented by tabs, keys as given, a newline at the end."""
    text = json.dumps(content, indent="\t", ensure_ascii=False, separators=(",", ": ")) + "\n"
    return Response(text, status, headers=headers, media_type="application/json")


def _plain(
    error: OstiaryError | None, status: HTTPStatus, headers: dict[str, str], request_id: str
) -> Response:
    said = error.title if error else f"{status.phrase} ({request_id})"
    return Response(said + "\n", status, headers=headers, media_type="text/plain")


def _problem_json(
    error: OstiaryError | None, status: HTTPStatus, headers: dict[str, str], request_id: str
) -> Response:
    content: dict[str, object] = {"status": int(status), "request_id": request_id}
    if error is None:
        content |= {"code": "internal_error", "title": "A fault of ours; the log knows more."}
    else:
        content |= {"code": error.code, "title": error.title, "detail": str(error)}
        content |= {"hint": error.hint, "family": (family_of(error) or OstiaryError).__name__}
        content |= {"facts": {name: str(value) for name, value in error.facts.items()}}
    return Response(
        json.dumps(content), status, headers=headers, media_type="application/problem+json"
    )


_RESERVED: Final = frozenset({"event", "level", "timestamp", "problem", "detail", "request_id"})


def _facts(error: OstiaryError) -> dict[str, object]:
    return {(f"fact_{k}" if k in _RESERVED else k): v for k, v in error.facts.items()}
