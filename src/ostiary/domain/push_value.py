"""How a push token and its magic are written into one ledger value."""

import struct
from typing import Final

from ostiary.errors import Malformed

_FORM_1: Final = 1
_HEAD: Final = struct.Struct(">BHH")


class PushValueUnreadable(Malformed):
    """A stored push token does not have the form in which we write them."""

    hint = "The record was written by a newer Ostiary, or altered; `ostiary doctor` says more."


def encode_push_value(token: bytes, magic: bytes) -> bytes:
    """One value for both: a version byte, the two lengths, the token, the magic.

    They travel together because a push needs both and a device replaces both; equal pairs give equal bytes.
    """
    return _HEAD.pack(_FORM_1, len(token), len(magic)) + token + magic


def decode_push_value(value: bytes) -> tuple[bytes, bytes]:
    """The token and the magic.

    Raises:
        PushValueUnreadable: another version, or lengths that do not add up.
    """
    if len(value) < _HEAD.size:
        raise PushValueUnreadable(size=len(value))
    form, token_size, magic_size = _HEAD.unpack_from(value)
    if form != _FORM_1 or len(value) != _HEAD.size + token_size + magic_size:
        raise PushValueUnreadable(form=form, size=len(value))
    end_of_token = _HEAD.size + token_size
    return value[_HEAD.size : end_of_token], value[end_of_token:]
