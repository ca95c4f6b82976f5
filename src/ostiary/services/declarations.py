"""Declarative management without declarations: valid empty documents, so that a device which asks is content. (7.2)"""

import hashlib
import json
from typing import Final

from ostiary.errors import Malformed, Missing
from ostiary.protocol.mdm.checkin import DeclarativeManagement
from ostiary.services.reply import Media, Reply

_KINDS: Final = frozenset({"activation", "asset", "configuration", "management"})
_EMPTY_SET: Final = hashlib.sha256(b"no declarations").hexdigest()
_SINCE: Final = "2020-01-01T00:00:00Z"
"""The set has been empty for as long as there has been one: the token and its time never change."""


class DeclarationMissing(Missing):
    """There is no such declaration; the device removes its copy. (7.2)"""


class UnknownEndpoint(Malformed):
    """Declarative management has no such endpoint."""


class StatusReportUnreadable(Malformed):
    """The status report is not a JSON object."""


def answer_declarative_management(message: DeclarativeManagement) -> Reply:
    """The answer for a channel that has no declarations.

    Raises:
        DeclarationMissing: answered 404. (DM-04)
        UnknownEndpoint, StatusReportUnreadable: answered 400. (DM-07)
    """
    match message.endpoint.split("/", 2):
        case ["tokens"]:
            sync = {"DeclarationsToken": _EMPTY_SET, "Timestamp": _SINCE}
            return _json({"SyncTokens": sync})
        case ["declaration-items"]:
            arrays: dict[str, list[object]] = {
                "Activations": [],
                "Assets": [],
                "Configurations": [],
                "Management": [],
            }
            return _json({"Declarations": arrays, "DeclarationsToken": _EMPTY_SET})
        case ["declaration", kind, _] if kind in _KINDS:
            raise DeclarationMissing
        case ["status"]:
            _require_object(message.status_report)
            return Reply.EMPTY
        case _:
            raise UnknownEndpoint


def _json(document: dict[str, object]) -> Reply:
    return Reply(Media.JSON, json.dumps(document).encode())


def _require_object(report: bytes | None) -> None:
    try:
        document = json.loads(report or b"")
    except (ValueError, RecursionError):
        raise StatusReportUnreadable from None
    if not isinstance(document, dict):
        raise StatusReportUnreadable
