"""The `Mdm-Signature` header, in the forms that devices send in the field.

iOS, iPadOS and tvOS sign attributes; macOS signs the body itself, older releases with SHA-1; some writers use
indefinite lengths where DER would forbid them.

Source: check-in-and-commands.md 3.8.
"""

from base64 import b64encode
from datetime import datetime
from enum import Enum
from typing import Final

from asn1crypto import cms

from ostiary_sim.cms import Digest, encode_signed
from ostiary_sim.identity import Identity

HEADER: Final = "Mdm-Signature"


class SignatureForm(Enum):
    """How a device builds its detached signature."""

    ATTRIBUTES_SHA256 = "signed attributes with signingTime, SHA-256"
    ATTRIBUTES_SHA1 = "signed attributes with signingTime, SHA-1"
    BARE_SHA1 = "no attributes, SHA-1"
    BARE_SHA256 = "no attributes, SHA-256"
    INDEFINITE_SHA256 = "signed attributes, SHA-256, BER indefinite lengths"

    @property
    def digest(self) -> Digest:
        """The digest of this form."""
        sha1 = (SignatureForm.ATTRIBUTES_SHA1, SignatureForm.BARE_SHA1)
        return Digest.SHA1 if self in sha1 else Digest.SHA256

    @property
    def has_attributes(self) -> bool:
        """Say whether attributes are signed rather than the body."""
        return self not in (SignatureForm.BARE_SHA1, SignatureForm.BARE_SHA256)


def sign_body(body: bytes, identity: Identity, form: SignatureForm, now: datetime) -> bytes:
    """The detached signature over `body`: CMS SignedData, not yet in base64."""
    message = encode_signed(
        body,
        identity,
        digest=form.digest,
        attributes={} if form.has_attributes else None,
        signed_at=now,
        attached=False,
    )
    return _indefinite(message) if form is SignatureForm.INDEFINITE_SHA256 else message


def render_header(body: bytes, identity: Identity, form: SignatureForm, now: datetime) -> str:
    """The value of the `Mdm-Signature` header for `body`."""
    return b64encode(sign_body(body, identity, form, now)).decode("ascii")


_END: Final = b"\x00\x00"
_SEQUENCE: Final = b"\x30\x80"
_EXPLICIT_0: Final = b"\xa0\x80"


def _indefinite(message: bytes) -> bytes:
    """The same message with its outer containers in indefinite length; what is signed stays DER."""
    outer = cms.ContentInfo.load(message)
    signed = outer["content"]
    inside = _SEQUENCE + signed["encap_content_info"]["content_type"].dump() + _END
    parts = (
        signed["version"].dump(),
        signed["digest_algorithms"].dump(),
        inside,
        signed["certificates"].dump(),
        signed["signer_infos"].dump(),
    )
    body = _SEQUENCE + b"".join(parts) + _END
    return bytes(
        _SEQUENCE + outer["content_type"].dump() + _EXPLICIT_0 + body + _END + _END,
    )
