"""Fuzz read_envelope and open_envelope: only our errors, and asn1crypto reads the same; GCM opens to nothing but the truth.

python tests/fuzz/fuzz_cms_envelope.py -runs=100000
"""

from contextlib import suppress

from asn1crypto import cms as asn1_cms
from asn1crypto import core, parser
from envelopes import OAEP_SHA256, gcm_envelope, openssl_envelope
from harness import fuzz
from pki import issue, rsa_key, to_definite, to_indefinite

from ostiary.formats.cms_envelope import (
    CipherNotKnown,
    Envelope,
    EnvelopeBroken,
    EnvelopeUnreadable,
    NotForThisKey,
    open_envelope,
    read_envelope,
)
from ostiary.formats.encrypted_content import GcmContent

_KEY = rsa_key()
_OURS = issue("a recovery key's escrow", key=_KEY).der
_OTHER = issue("another escrow", key=rsa_key(1)).der
_CONTENT = b"ABCD-EFGH-JKLM-NPQR-STUV-WX23"
SEEDS = [
    openssl_envelope(_CONTENT, _OTHER, _OURS, cipher="-aes128"),
    openssl_envelope(_CONTENT, _OURS, cipher="-des3", options=["-keyid"]),
    openssl_envelope(_CONTENT, _OURS, cipher="-aes192", key_options=OAEP_SHA256),
    openssl_envelope(_CONTENT, _OURS, options=["-stream", "-indef"]),
    openssl_envelope(_CONTENT, _OURS, cipher="-aes-256-gcm"),
    to_definite(openssl_envelope(_CONTENT, _OURS, options=["-stream", "-indef"])),
    gcm_envelope(_CONTENT, _OURS, attributes=3),
    to_indefinite(gcm_envelope(_CONTENT, _OURS, tag_bytes=12)),
]


def check(raw: bytes) -> None:
    """What we read, asn1crypto reads; what opens under GCM is what was closed."""
    try:
        envelope = read_envelope(raw)
    except EnvelopeUnreadable:
        return
    if not _agrees(envelope, _in_one_piece(to_definite(raw))):
        raise AssertionError("asn1crypto reads another envelope")
    try:
        opened = open_envelope(envelope, _KEY, _OURS)
    except (NotForThisKey, EnvelopeBroken, CipherNotKnown):
        return
    if isinstance(envelope.content, GcmContent) and opened != _CONTENT:
        raise AssertionError("a forged content was accepted")


def _agrees(envelope: Envelope, raw: bytes) -> bool:
    """Whether asn1crypto reads the same ciphertext, tag and recipients."""
    encrypted = envelope.content
    authenticated = isinstance(encrypted, GcmContent)
    field = "auth_encrypted_content_info" if authenticated else "encrypted_content_info"
    theirs = asn1_cms.ContentInfo.load(raw)["content"]
    infos = [one.chosen for one in theirs["recipient_infos"] if one.name == "ktri"]
    said = [theirs[field]["encrypted_content"].native or b""]
    said += [theirs["mac"].native] if authenticated else []
    said += [one["encrypted_key"].native for one in infos]
    ours = [encrypted.ciphertext, *([encrypted.tag] if isinstance(encrypted, GcmContent) else [])]
    return said == ours + [one.encrypted_key for one in envelope.recipients]


def _in_one_piece(encoded: bytes) -> bytes:
    """Definite BER with the pieces of octet strings joined, which asn1crypto would refuse."""
    rewritten = b""
    while encoded:
        _, _, _, header, contents, _ = parser.parse(encoded)
        encoded = encoded[len(header + contents) :]
        if header[0] & 0x20 and header[0] & 0x1F != 0x1F:
            with suppress(ValueError):  # what nobody reads need not be BER inside
                contents = _in_one_piece(contents)
            tag = header[0]
            # Octets under a tag of their own are known by their pieces; nothing else here begins with octets.
            if tag == 0x24 or (tag == 0xA0 and contents[:1] in (b"", b"\x04")):
                contents, tag = _joined(contents), tag & ~0x20
            header = bytes((tag,)) + core.OctetString(contents).dump()[1 : -len(contents) or None]
        rewritten += header + contents
    return rewritten


def _joined(pieces: bytes) -> bytes:
    joined = b""
    while pieces:
        _, _, _, header, contents, _ = parser.parse(pieces)
        joined += contents
        pieces = pieces[len(header + contents) :]
    return joined


if __name__ == "__main__":
    fuzz(check, SEEDS)
