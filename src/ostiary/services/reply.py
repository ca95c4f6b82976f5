"""What a device is answered, before anybody says it in HTTP."""

from enum import StrEnum
from typing import ClassVar

from ostiary.errors import Declined
from ostiary.values import dataclass


class Media(StrEnum):
    """What kind of body an answer has."""

    NONE = "none"
    PLIST = "plist"
    COMMAND = "command"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer. `EMPTY` is zero bytes, which is not an empty property list."""

    media: Media
    body: bytes = b""

    EMPTY: ClassVar["Reply"]


Reply.EMPTY = Reply(Media.NONE)


@dataclass(frozen=True, slots=True)
class Farewell:
    """Leave management: ordered by an operator, said only by `services/farewell.py`.

    `body` None is the bare 401; otherwise a property list with the code `com.apple.unrecognized.device`.
    """

    body: bytes | None


class UserIsNotManaged(Declined):
    """This user is not managed here; the device stays silent for them until their next login."""
