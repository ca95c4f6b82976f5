"""A SCEP request as it arrives: who signs, which transaction, and an envelope still closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ostiary.errors import OstiaryError
from ostiary.formats import cms, der
from ostiary.formats.cms_reader import read_parts
from ostiary.protocol.scep.words import (
    MESSAGE_TYPE,
    PRINTABLE_STRING,
    SENDER_NONCE,
    TRANSACTION_ID,
    FailInfo,
    NotAScepMessage,
    RequestFailed,
)

LARGEST_MESSAGE: Final = 64 * 1024
_LONGEST_TRANSACTION_ID: Final = 255
_LONGEST_NONCE: Final = 64
_LONGEST_MESSAGE_TYPE: Final = 3
_MOST_ATTRIBUTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiRequest:
    """One message, read and not verified: everything here is a claim until `verify`."""

    message_type: int
    """As sent; only those of `MessageType` mean anything to us."""
    transaction_id: bytes
    """Contents of a PrintableString, to be echoed."""
    sender_nonce: bytes
    signer: bytes
    """The certificate of whoever signed, DER: the reply is encrypted to its key."""
    envelope: bytes
    """The EnvelopedData inside, DER or BER."""
    _signed: cms.SignedMessage = field(repr=False)

    def verify(self) -> None:
        """Return if the message is signed by `signer`. Raises RequestFailed(BAD_MESSAGE_CHECK)."""
        try:
            self._signed.verify(self.envelope)
        except OstiaryError:
            raise RequestFailed(
                FailInfo.BAD_MESSAGE_CHECK, "the message's signature does not verify"
            ) from None


def decode_request(message: bytes, *, allow_sha1: bool) -> PkiRequest:
    """The SCEP request in a pkiMessage.

    Raises:
        NotAScepMessage: what is missing or broken leaves nothing that a CertRep could answer.
        Malformed, TooLarge, Refused: as formats.cms.read_signed has it: not one signer, an
            algorithm that is not accepted.

    Source: RFC 8894 3.2; check-in-and-commands.md 6.3.
    """
    signed = cms.read_signed(message, allow_sha1=allow_sha1, limit_bytes=LARGEST_MESSAGE)
    # The same bytes a second time, because the signed attributes are SCEP's business alone.
    attributes = read_parts(message, allow_sha1=allow_sha1).signer.attributes
    if attributes is None or signed.content is None:
        raise NotAScepMessage("a SCEP message has signed attributes and a content")
    value_by_name = _attributes(attributes)
    return PkiRequest(
        message_type=_message_type(value_by_name),
        transaction_id=_bounded(
            value_by_name, TRANSACTION_ID, PRINTABLE_STRING, _LONGEST_TRANSACTION_ID
        ),
        sender_nonce=_bounded(value_by_name, SENDER_NONCE, der.OCTET_STRING, _LONGEST_NONCE),
        signer=signed.certificate,
        envelope=signed.content,
        _signed=signed,
    )


def _attributes(encoded: bytes) -> Mapping[bytes, tuple[int, bytes]]:
    """Tag and contents of each attribute that has one value; formats.cms refused repeated ones."""
    outer = der.expect(encoded, 0, len(encoded), der.SET)
    value_by_name: dict[bytes, tuple[int, bytes]] = {}
    for attribute in der.children(encoded, outer.start, outer.stop, at_most=_MOST_ATTRIBUTES):
        name = der.expect(encoded, attribute.start, attribute.stop, der.OBJECT_IDENTIFIER)
        values = der.expect(encoded, name.stop, attribute.stop, der.SET)
        if values.start == values.stop:
            continue
        value = der.read_element(encoded, values.start, values.stop)
        if value.stop == values.stop:
            contents = encoded[value.start : value.stop]
            value_by_name[encoded[name.start : name.stop]] = (value.tag, contents)
    return value_by_name


def _message_type(value_by_name: Mapping[bytes, tuple[int, bytes]]) -> int:
    digits = _bounded(value_by_name, MESSAGE_TYPE, PRINTABLE_STRING, _LONGEST_MESSAGE_TYPE)
    if not digits.isdigit():
        raise NotAScepMessage("the message type is not a number")
    return int(digits)


def _bounded(
    value_by_name: Mapping[bytes, tuple[int, bytes]], name: bytes, tag: int, longest: int
) -> bytes:
    found_tag, contents = value_by_name.get(name, (None, b""))
    if found_tag != tag or not 0 < len(contents) <= longest:
        raise NotAScepMessage("a SCEP attribute is missing, or not what it must be")
    return contents
