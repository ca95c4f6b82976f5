"""Signatures of those who have signed before: read by comparing them with their last one."""

from collections import OrderedDict
from datetime import datetime
from typing import Final

from ostiary.formats.cms_reader import Leaves, Parts, SignerInfo, as_signed, read_moment, read_parts
from ostiary.formats.der import OCTET_STRING, Element

_LARGEST_REMEMBERED: Final = 4096
"""Bytes; devices send two to three thousand. What strangers send is remembered as well, for nobody was verified yet."""
_LEAST_NAME_BYTES: Final = 256
_MOST_NAME_BYTES: Final = 1536
_TAIL_BYTES: Final = 768
"""About what a signer's part takes: identifier, attributes, and an RSA signature."""


class KnownSigners:
    """Reads signatures as `read_parts` does, faster where the same signer comes again; one belongs to whoever reads often.

    A device sends its certificate each time, and what it sends differs from its last message in three places only: digest,
    time and signature, whose bytes have no structure. Two messages that agree in every other byte agree in every
    tag and every length, so that taking the second apart could only find what was found in the first. What is
    remembered is a reading, never a verdict: whether the signature is one is asked each time.
    """

    __slots__ = ("_capacity", "_shape_by_name")

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._shape_by_name: OrderedDict[bytes, _Shape] = OrderedDict()

    def __len__(self) -> int:
        return len(self._shape_by_name)

    def read_parts(self, message: bytes, *, allow_sha1: bool) -> Parts:
        """The parts of a DER or BER SignedData. Raises as `cms_reader.read_parts` does."""
        shapes, name = self._shape_by_name, _name(message)
        shape = shapes.get(name)
        if shape is not None and shape.fits(message) and (allow_sha1 or shape.digest != "sha1"):
            shapes.move_to_end(name)
            return shape.read(message)
        parts = read_parts(message, allow_sha1=allow_sha1)
        learned = _learn(message, parts)
        if learned is not None and learned.begins_after(len(name)):
            shapes[name] = learned
            if len(shapes) > self._capacity:
                shapes.popitem(last=False)
        return parts


def _name(message: bytes) -> bytes:
    """The beginning, which holds the certificate's serial number and mostly its key, and ends before what differs."""
    return message[: max(_LEAST_NAME_BYTES, min(len(message) - _TAIL_BYTES, _MOST_NAME_BYTES))]


def _learn(message: bytes, parts: Parts) -> "_Shape | None":
    leaves = parts.signer.leaves
    if leaves is None or parts.content is not None or leaves.signature.tag != OCTET_STRING:
        return None
    if len(message) > _LARGEST_REMEMBERED:
        return None
    return _Shape(message, parts, leaves)


class _Shape:
    """What does not differ between the messages of one signer, and where the rest stands."""

    __slots__ = (
        "_certificate",
        "_certificates",
        "_fixed",
        "_key_kind",
        "_leaves",
        "_size",
        "digest",
    )

    def __init__(self, message: bytes, parts: Parts, leaves: Leaves) -> None:
        signer = parts.signer
        self._size = len(message)
        self._certificates = parts.certificates
        self._certificate = signer.certificate
        self._key_kind = signer.key_kind
        self._leaves = leaves
        self.digest = signer.digest
        fixed, begin = [], 0
        for leaf in sorted(_primitive(leaves), key=lambda leaf: leaf.start):
            fixed.append((begin, leaf.start, message[begin : leaf.start]))
            begin = leaf.stop
        fixed.append((begin, len(message), message[begin:]))
        self._fixed = tuple(fixed)

    def begins_after(self, at: int) -> bool:
        """Whether nothing that differs stands before `at`."""
        return self._fixed[0][1] >= at

    def fits(self, message: bytes) -> bool:
        """Whether a message has this shape."""
        if len(message) != self._size:
            return False
        for begin, end, expected in self._fixed:  # noqa: SIM110 - a generator costs more than the comparison
            if message[begin:end] != expected:
                return False
        return True

    def read(self, message: bytes) -> Parts:
        """The parts of a message that has this shape. Raises NotASignedMessage if its time is none."""
        signature, digest, time, attributes = self._leaves
        signer = SignerInfo(
            certificate=self._certificate,
            digest=self.digest,
            key_kind=self._key_kind,
            signature=message[signature.start : signature.stop],
            attributes=None if attributes is None else as_signed(message, attributes),
            message_digest=None if digest is None else message[digest.start : digest.stop],
            signing_time=_time(message, time),
            leaves=self._leaves,
        )
        return Parts(certificates=self._certificates, content=None, signer=signer)


def _time(message: bytes, time: Element | None) -> datetime | None:
    return None if time is None else read_moment(message, time)


def _primitive(leaves: Leaves) -> list[Element]:
    found = (leaves.signature, leaves.message_digest, leaves.signing_time)
    return [leaf for leaf in found if leaf is not None]
