"""The command channel: what a device reports, and the one command it is handed in return."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.formats.plist import Fields, PlistValue
from ostiary.protocol.mdm.checkin import auth_token
from ostiary.protocol.mdm.identity import Channel, resolve_channel
from ostiary.secret import Secret
from ostiary.values import dataclass

CommandUuid = NewType("CommandUuid", str)

LONGEST_COMMAND_UUID: Final = 127
_DERIVED: Final = 5
"""The version of UUIDs that are made of a name."""


class Status(StrEnum):
    """What became of the command, in the device's words. (check-in-and-commands.md 3.3)"""

    IDLE = "Idle"
    ACKNOWLEDGED = "Acknowledged"
    ERROR = "Error"
    COMMAND_FORMAT_ERROR = "CommandFormatError"
    NOT_NOW = "NotNow"


class UnknownStatus(Malformed):
    """The report's Status is none that Apple documents."""


class UnusableCommandUuid(Malformed):
    """The report names no command, or names it with something that no server would have sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLink:
    """One link of an ErrorChain; the first is the top level. Codes may change between releases."""

    code: int
    domain: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectReport:
    """One request on the command channel: a poll, or what became of the command handed out before."""

    channel: Channel
    status: Status
    command_uuid: CommandUuid | None
    """None exactly when the status is Idle."""
    error_chain: tuple[ErrorLink, ...]
    needs_sync_response: bool
    user_configuration: bool
    not_on_console: bool | None
    auth_token: Secret | None
    result: Fields
    """The whole report, for the facts that a known command's answer carries. It may hold secrets."""


def decode_connect(fields: Fields) -> ConnectReport:
    """The typed report that a command-channel body holds.

    Raises:
        UnknownStatus: absent statuses are `FieldMissing`, unknown ones this.
        UnusableCommandUuid: a report other than Idle without a usable CommandUUID.

    Source: check-in-and-commands.md 3.1.
    """
    try:
        status = Status(fields.text("Status"))
    except ValueError:
        raise UnknownStatus from None
    return ConnectReport(
        channel=resolve_channel(fields),
        status=status,
        command_uuid=None if status is Status.IDLE else _command_uuid(fields),
        error_chain=_error_chain(fields),
        needs_sync_response=fields.flag("NeedSyncResponse", default=False),
        user_configuration=fields.flag("UserConfiguration", default=False),
        not_on_console=fields.optional_flag("NotOnConsole"),
        auth_token=auth_token(fields),
        result=fields,
    )


def is_derived(uuid: CommandUuid) -> bool:
    """Whether it is a name as this server gives to what follows from something else: a UUID of version 5.

    Such a name can be worked out beforehand, and a channel holds each name once: nobody else may choose one, or a report
    whose follow-up finds its name taken could not be booked. (3.4)
    """
    try:
        return UUID(uuid).version == _DERIVED
    except ValueError:
        return False


def encode_command(uuid: CommandUuid, command: Mapping[str, PlistValue]) -> bytes:
    """The body that hands one command to a device: a plist of CommandUUID and Command. (3.2)"""
    return plist.encode({"CommandUUID": uuid, "Command": dict(command)})


def _command_uuid(fields: Fields) -> CommandUuid:
    uuid = fields.optional_text("CommandUUID")
    if not uuid or len(uuid) > LONGEST_COMMAND_UUID or not uuid.isprintable():
        raise UnusableCommandUuid(field="CommandUUID")
    return CommandUuid(uuid)


def _error_chain(fields: Fields) -> tuple[ErrorLink, ...]:
    return tuple(
        ErrorLink(
            code=link.optional_integer("ErrorCode") or 0,
            domain=link.optional_text("ErrorDomain") or "",
            description=link.optional_text("USEnglishDescription")
            or link.optional_text("LocalizedDescription")
            or "",
        )
        for link in fields.list_of_dicts("ErrorChain") or ()
    )
