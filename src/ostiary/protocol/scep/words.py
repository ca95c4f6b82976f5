"""The words of SCEP: message types, statuses, reasons for failure, and how they are spelled in ASN.1."""

from enum import IntEnum, StrEnum
from typing import Final

from ostiary.errors import Malformed, Refused


class MessageType(IntEnum):
    """The two messages that get a certificate; every other number is refused. (users.md 5.4 item 21)"""

    RENEWAL_REQUEST = 17
    CERTIFICATE_REQUEST = 19


CERT_REP: Final = 3


class PkiStatus(IntEnum):
    """What became of a request; nothing of ours ever stays pending."""

    SUCCESS = 0
    FAILURE = 2


class FailInfo(IntEnum):
    """Why a request failed, in the five words that SCEP has."""

    BAD_ALGORITHM = 0
    BAD_MESSAGE_CHECK = 1
    BAD_REQUEST = 2
    BAD_TIME = 3
    BAD_CERTIFICATE_ID = 4


class Capability(StrEnum):
    """What GetCACaps may announce, as it is spelled there."""

    AES = "AES"
    DES3 = "DES3"
    POST = "POSTPKIOperation"
    RENEWAL = "Renewal"
    SHA_256 = "SHA-256"
    SHA_512 = "SHA-512"
    STANDARD = "SCEPStandard"


class NotAScepMessage(Malformed):
    """The body is not a SCEP message that could be answered in SCEP."""


class RequestFailed(Refused):
    """A SCEP request does not get a certificate; the client is told `fail_info`, the log the sentence.

    Everything that could tell a guesser more has the same `fail_info`, BAD_REQUEST.
    """

    def __init__(self, fail_info: FailInfo, reason: str) -> None:
        super().__init__(reason, fail_info=fail_info.name.lower())
        self.fail_info = fail_info


MESSAGE_TYPE: Final = bytes.fromhex("6086480186f845010902")
PKI_STATUS: Final = bytes.fromhex("6086480186f845010903")
FAIL_INFO: Final = bytes.fromhex("6086480186f845010904")
SENDER_NONCE: Final = bytes.fromhex("6086480186f845010905")
RECIPIENT_NONCE: Final = bytes.fromhex("6086480186f845010906")
TRANSACTION_ID: Final = bytes.fromhex("6086480186f845010907")

DATA: Final = bytes.fromhex("2a864886f70d010701")
SIGNED_DATA: Final = bytes.fromhex("2a864886f70d010702")
ENVELOPED_DATA: Final = bytes.fromhex("2a864886f70d010703")
CONTENT_TYPE: Final = bytes.fromhex("2a864886f70d010903")
MESSAGE_DIGEST: Final = bytes.fromhex("2a864886f70d010904")
RSA_ENCRYPTION: Final = bytes.fromhex("2a864886f70d010101")
SHA256: Final = bytes.fromhex("608648016503040201")

CONTEXT_0: Final = 0xA0
CONTEXT_0_PRIMITIVE: Final = 0x80
NULL: Final = 0x05
PRINTABLE_STRING: Final = 0x13
