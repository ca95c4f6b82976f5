"""The encrypted half of an envelope: CBC as EnvelopedData has it, GCM as AuthEnvelopedData has it."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.padding import PKCS7

from ostiary.errors import Malformed

SHORTEST_TAG: Final = 12
"""Bytes of the shortest authentication tag that CMS allows. (RFC 5084 3.2)"""

_Algorithm: TypeAlias = AES | TripleDES


class EnvelopeBroken(Malformed):
    """The envelope is for this key, and does not open with it."""

    # Never with a detail: a wrong key and a wrong padding must look the same, or they would be an oracle.
    hint = "Keep the envelope as it came: another key, or a later version, may open it."


class ContentCipher(Enum):
    """How content is encrypted in blocks: object identifier, key bytes, block bytes."""

    AES_128 = (bytes.fromhex("608648016503040102"), 16, 16)
    AES_192 = (bytes.fromhex("608648016503040116"), 24, 16)
    AES_256 = (bytes.fromhex("60864801650304012a"), 32, 16)
    DES3 = (bytes.fromhex("2a864886f70d0307"), 24, 8)

    def __init__(self, identifier: bytes, key_bytes: int, block_bytes: int) -> None:
        self.identifier = identifier
        self.key_bytes = key_bytes
        self.block_bytes = block_bytes

    def over(self, key: bytes, iv: bytes) -> Cipher[modes.CBC]:
        algorithm: _Algorithm = TripleDES(key) if self is ContentCipher.DES3 else AES(key)
        return Cipher(algorithm, modes.CBC(iv))


CBC_BY_IDENTIFIER: Final = {cipher.identifier: cipher for cipher in ContentCipher}

GCM_KEY_BYTES: Final = {
    bytes.fromhex("608648016503040106"): 16,
    bytes.fromhex("60864801650304011a"): 24,
    bytes.fromhex("60864801650304012e"): 32,
}
"""AES-GCM by object identifier: how long its key is. (RFC 5084 3.2)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CbcContent:
    """What a block cipher in CBC hides. Nothing authenticates it."""

    cipher: ContentCipher
    iv: bytes
    ciphertext: bytes = field(repr=False)

    def open(self, key: bytes) -> bytes:
        """The content. Raises EnvelopeBroken, for wrong keys and wrong paddings alike."""
        if len(key) != self.cipher.key_bytes:
            raise EnvelopeBroken
        try:
            decryptor = self.cipher.over(key, self.iv).decryptor()
            padded = decryptor.update(self.ciphertext) + decryptor.finalize()
            unpadder = PKCS7(self.cipher.block_bytes * 8).unpadder()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            raise EnvelopeBroken from None


@dataclass(frozen=True, slots=True, kw_only=True)
class GcmContent:
    """What AES-GCM hides, and authenticates together with the envelope's attributes."""

    key_bytes: int
    nonce: bytes
    tag: bytes
    associated: bytes
    """The authenticated attributes as a SET OF, nothing without any. (RFC 5083 2.2)"""
    ciphertext: bytes = field(repr=False)

    def open(self, key: bytes) -> bytes:
        """The content. Raises EnvelopeBroken, whatever was wrong."""
        if len(key) != self.key_bytes:
            raise EnvelopeBroken
        try:
            mode = modes.GCM(self.nonce, self.tag, min_tag_length=SHORTEST_TAG)
            decryptor = Cipher(AES(key), mode).decryptor()
            decryptor.authenticate_additional_data(self.associated)
            return decryptor.update(self.ciphertext) + decryptor.finalize()
        except (ValueError, InvalidTag):
            raise EnvelopeBroken from None
