"""Private keys that may be used and never seen: signing, decrypting, and the device CA made of both."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ostiary.errors import Malformed, Unavailable
from ostiary.secret import Secret

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class SignatureScheme(StrEnum):
    """How a signature is made; RSA is PKCS#1 v1.5, because X.509 and SCEP clients know no other."""

    RSA_SHA256 = "rsa-sha256"
    ECDSA_SHA256 = "ecdsa-sha256"


class SignerUnavailable(Unavailable):
    """The private key does not answer, or cannot sign in the way that was asked for."""

    hint = "Look at the keys directory, the token or the agent that holds the key."


class NotDecipherable(Malformed):
    """The ciphertext was not made for this key."""


class Signer(Protocol):
    """Holds a private key that we may use and never see."""

    @property
    def public_key(self) -> PublicKey: ...

    async def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """A signature over `message`. Raises SignerUnavailable."""


class Decrypter(Protocol):
    """Opens what was encrypted to its RSA key."""

    async def decrypt(self, ciphertext: bytes) -> Secret:
        """The plaintext under PKCS#1 v1.5, the padding that SCEP clients use.

        A wrong padding may give random bytes instead of an error (implicit rejection), so callers
        must treat both alike. Raises NotDecipherable or SignerUnavailable.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingAuthority:
    """The device CA: its certificate in DER and its key, behind ports."""

    certificate: bytes
    signer: Signer
    decrypter: Decrypter
