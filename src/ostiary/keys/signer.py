"""A private key in a file, used through the ports: signing and decrypting in a thread, out of the loop's way."""

import asyncio
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from typing_extensions import override

from ostiary.keys.file import KeyFileDamaged, read_key_file
from ostiary.ports.signer import NotDecipherable, PublicKey, SignatureScheme, SignerUnavailable
from ostiary.secret import Secret

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_PKCS1: Final = padding.PKCS1v15()


class FileSigner:
    """Implements ports.signer.Signer and Decrypter with a key held in memory."""

    __slots__ = ("_key",)

    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    @override
    def __repr__(self) -> str:
        return f"<FileSigner: {type(self._key).__name__}>"

    @property
    def public_key(self) -> PublicKey:
        return self._key.public_key()

    async def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """A signature over `message`. Raises SignerUnavailable if the key is of another kind."""
        # An RSA signature takes a millisecond or two: in a thread it delays no device's request.
        return await asyncio.to_thread(self._sign, message, scheme)

    async def decrypt(self, ciphertext: bytes) -> Secret:
        """The plaintext. Raises NotDecipherable, or SignerUnavailable if the key cannot decrypt."""
        if not isinstance(self._key, rsa.RSAPrivateKey):
            raise SignerUnavailable("an elliptic curve key cannot decrypt")
        try:
            return Secret(await asyncio.to_thread(self._key.decrypt, ciphertext, _PKCS1))
        except ValueError:
            raise NotDecipherable from None

    def _sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        match self._key, scheme:
            case rsa.RSAPrivateKey() as key, SignatureScheme.RSA_SHA256:
                return key.sign(message, _PKCS1, hashes.SHA256())
            case ec.EllipticCurvePrivateKey() as key, SignatureScheme.ECDSA_SHA256:
                return key.sign(message, ec.ECDSA(hashes.SHA256()))
            case _:
                raise SignerUnavailable("the key is of another kind", scheme=scheme.value)


def open_file_signer(path: Path) -> FileSigner:
    """The signer over the PEM key at `path`. Raises as `load_private_key` does."""
    return FileSigner(load_private_key(path))


def load_private_key(path: Path) -> PrivateKey:
    """The RSA or elliptic curve key in the PEM file at `path`, mode 0600.

    Raises:
        KeyFileMissing, KeyFileExposed: as read_key_file.
        KeyFileDamaged: no key that we can use.
    """
    pem = read_key_file(path).reveal()
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileDamaged(path=path) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise KeyFileDamaged(path=path)
    return key


def encode_private_key(key: PrivateKey) -> bytes:
    """PKCS#8 in PEM, in clear: for a file of mode 0600 only."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
