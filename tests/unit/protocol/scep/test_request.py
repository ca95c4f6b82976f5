"""SCEP messages as they arrive: the attributes that must be there, and their bounds."""

import pytest

from fuzz.pki import issue, openssl_sign
from fuzz.pki import rsa_key as signing_key
from fuzz.scep_client import Requester, der, rsa_key
from ostiary.errors import OstiaryError
from ostiary.formats.cms import AlgorithmNotAllowed, SignedMessageTooLarge
from ostiary.protocol.scep.request import LARGEST_MESSAGE, decode_request
from ostiary.protocol.scep.words import NotAScepMessage, RequestFailed

CA = issue("a CA", key=signing_key(1), authority=True)


def requester(**changes: object) -> Requester:
    return Requester(ca=CA.der, key=rsa_key("device"), **changes)  # type: ignore[arg-type]  # fields by name


def test_a_message_says_type_transaction_nonce_and_signer() -> None:
    """Source: RFC 8894 3.2.1."""
    device = requester(transaction_id="0A1B", nonce=b"n" * 16)
    request = decode_request(device.sign(b"an envelope", message_type="17"), allow_sha1=False)
    assert (request.message_type, request.transaction_id) == (17, b"0A1B")
    assert (request.sender_nonce, request.envelope) == (b"n" * 16, b"an envelope")
    assert device.signer is not None
    assert request.signer == der(device.signer)
    request.verify()


def test_reading_is_not_verifying() -> None:
    message = requester().sign(b"an envelope").replace(b"an envelope", b"another one")
    request = decode_request(message, allow_sha1=False)
    with pytest.raises(RequestFailed):
        request.verify()


@pytest.mark.parametrize(
    "changes",
    [
        {"transaction_id": ""},
        {"transaction_id": "x" * 256},
        {"nonce": b""},
        {"nonce": b"n" * 65},
    ],
    ids=str,
)
def test_attributes_have_bounds(changes: dict[str, object]) -> None:
    with pytest.raises(NotAScepMessage):
        decode_request(requester(**changes).sign(b"an envelope"), allow_sha1=True)


@pytest.mark.parametrize("message_type", ["", "x", "-1", "1234", "1 9"])
def test_a_message_type_is_a_small_number(message_type: str) -> None:
    with pytest.raises(OstiaryError):
        decode_request(requester().sign(b"an envelope", message_type=message_type), allow_sha1=True)


def test_plain_signed_messages_are_not_scep() -> None:
    signer = issue("signer", key=signing_key())
    for options in ((), ("-noattr",), ("-nodetach",), ("-nodetach", "-noattr")):
        with pytest.raises(NotAScepMessage):
            decode_request(openssl_sign(signer, b"body", *options), allow_sha1=True)


def test_sha1_can_be_switched_off() -> None:
    message = requester().sign(b"an envelope", digest="sha1")
    assert decode_request(message, allow_sha1=True).envelope == b"an envelope"
    with pytest.raises(AlgorithmNotAllowed):
        decode_request(message, allow_sha1=False)


def test_large_messages_are_not_read() -> None:
    with pytest.raises(SignedMessageTooLarge):
        decode_request(requester().sign(b"x" * LARGEST_MESSAGE), allow_sha1=True)
