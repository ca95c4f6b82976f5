"""Configuration profiles: rendered, signed, and read again, signed or plain."""

from collections.abc import Mapping, Sequence

from ostiary.formats import cms, plist
from ostiary.formats.cms import SigningKey
from ostiary.formats.plist import Fields, PlistValue

_SEQUENCE = b"\x30"  # how every signed message begins, and no property list


def render_profile(payload: Mapping[str, PlistValue]) -> bytes:
    """The profile as an XML property list, the same bytes for the same payload. Raises plist.NotEncodable."""
    return plist.encode(payload)


def sign_profile(
    profile: bytes, signer_cert: bytes, signer_key: SigningKey, chain: Sequence[bytes] = ()
) -> bytes:
    """The profile inside a DER signed message, which devices show as verified if they trust `signer_cert`.

    `signer_cert` and `chain`, the intermediates above it, are DER. Raises CertificateMalformed.

    Source: check-in-and-commands.md 6.5.
    """
    return cms.sign_embedded(profile, signer_cert, signer_key, chain)


def read_profile(data: bytes) -> Fields:
    """The top level of a profile, signed or plain.

    A signature is checked against the certificate that came with it, so damage is noticed; who that
    signer is, and whether to trust it, is not asked here (cms.read_embedded tells).

    Raises:
        Malformed, TooLarge, Refused: as plist.read_dict, cms.read_embedded and SignedMessage.verify do.
    """
    if not data.startswith(_SEQUENCE):
        return plist.read_dict(data)
    content, message = cms.read_embedded(data)
    message.verify(content)
    return plist.read_dict(content)
