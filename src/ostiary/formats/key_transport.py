"""How an envelope's content key is encrypted to an RSA key: PKCS#1 v1.5, or OAEP with its parameters."""

from typing import Final, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, PKCS1v15

from ostiary.formats import der
from ostiary.formats.der import Element, NotDer, children, expect
from ostiary.formats.signing_keys import HASHES

KeyTransport: TypeAlias = PKCS1v15 | OAEP

RSA_ENCRYPTION: Final = bytes.fromhex("2a864886f70d010101")
_RSAES_OAEP: Final = bytes.fromhex("2a864886f70d010107")
_MGF1: Final = bytes.fromhex("2a864886f70d010108")
_SPECIFIED: Final = bytes.fromhex("2a864886f70d010109")  # the label stands in the parameters
_HASHES: Final = {
    bytes.fromhex("2b0e03021a"): HASHES["sha1"],
    bytes.fromhex("608648016503040201"): HASHES["sha256"],
    bytes.fromhex("608648016503040202"): HASHES["sha384"],
    bytes.fromhex("608648016503040203"): HASHES["sha512"],
}
_HASH, _MASK, _LABEL = 0xA0, 0xA1, 0xA2


def decode_key_transport(message: bytes, algorithm: Element) -> KeyTransport | None:
    """The padding that an AlgorithmIdentifier names; None for one that we do not speak.

    Raises:
        NotDer: it is no AlgorithmIdentifier, or OAEP's parameters are malformed.

    Source: RFC 8017 A.2.1, C; RFC 4055 4.1.
    """
    name, parameters = _algorithm(message, algorithm)
    if name == RSA_ENCRYPTION:
        return PKCS1v15()
    if name == _RSAES_OAEP:
        return _oaep(message, parameters)
    return None


def _oaep(message: bytes, parameters: Element | None) -> OAEP | None:
    """OAEP as its parameters say; what they leave out is SHA-1 and no label."""
    chosen: hashes.HashAlgorithm | None = HASHES["sha1"]
    masking: hashes.HashAlgorithm | None = HASHES["sha1"]
    label: bytes | None = b""
    if parameters is not None and parameters.tag == der.SEQUENCE:
        for wrapper in children(message, parameters.start, parameters.stop, at_most=3):
            inside = expect(message, wrapper.start, wrapper.stop, der.SEQUENCE)
            if wrapper.tag == _HASH:
                chosen = _hash(message, inside)
            elif wrapper.tag == _MASK:
                masking = _mask(message, inside)
            elif wrapper.tag == _LABEL:
                label = _label(message, inside)
            else:
                raise NotDer("OAEP has parameters that it must not have")
    if chosen is None or masking is None or label is None:
        return None
    return OAEP(mgf=MGF1(masking), algorithm=chosen, label=label)


def _hash(message: bytes, algorithm: Element) -> hashes.HashAlgorithm | None:
    return _HASHES.get(_algorithm(message, algorithm)[0])


def _mask(message: bytes, algorithm: Element) -> hashes.HashAlgorithm | None:
    name, parameters = _algorithm(message, algorithm)
    if name != _MGF1 or parameters is None:
        return None
    return _hash(message, parameters)


def _label(message: bytes, algorithm: Element) -> bytes | None:
    name, parameters = _algorithm(message, algorithm)
    if name != _SPECIFIED or parameters is None or parameters.tag != der.OCTET_STRING:
        return None
    return message[parameters.start : parameters.stop]


def _algorithm(message: bytes, field: Element) -> tuple[bytes, Element | None]:
    """Name and parameters of an AlgorithmIdentifier."""
    if field.tag != der.SEQUENCE:
        raise NotDer("an algorithm is not a sequence")
    parts = children(message, field.start, field.stop, at_most=2)
    if not parts or parts[0].tag != der.OBJECT_IDENTIFIER:
        raise NotDer("an algorithm has no name")
    name = message[parts[0].start : parts[0].stop]
    return name, parts[1] if len(parts) > 1 else None
