"""Envelopes, closed by openssl and asn1crypto, opened by us."""

from collections.abc import Sequence

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.envelopes import OAEP, OAEP_SHA256, gcm_envelope, openssl_envelope
from fuzz.pki import NOW, issue, rsa_key, to_indefinite
from ostiary.errors import OstiaryError
from ostiary.formats.cms_envelope import (
    CipherNotKnown,
    EnvelopeBroken,
    EnvelopeUnreadable,
    NotForThisKey,
    find_recipient,
    open_envelope,
    read_envelope,
)
from ostiary.formats.cms_envelope_reader import LIMIT_BYTES
from ostiary.formats.encrypted_content import CbcContent
from ostiary.formats.signing_keys import CertificateMalformed

KEY = rsa_key()
OURS = issue("escrow", key=KEY).der
OTHER = issue("another escrow", key=rsa_key(1)).der
CONTENT = b"ABCD-EFGH-JKLM-NPQR-STUV-WX23"
CBC = ("-aes128", "-aes192", "-aes256", "-des3")
GCM = ("-aes-128-gcm", "-aes-192-gcm", "-aes-256-gcm")
STREAM = ("-stream", "-indef")
FORMS: Sequence[tuple[tuple[str, ...], tuple[str, ...]]] = (
    ((), ()),
    (("-keyid",), ()),
    (STREAM, ()),
    (("-keyid", *STREAM), OAEP_SHA256),
    ((), OAEP),
    ((), (*OAEP_SHA256, "rsa_mgf1_md:sha1")),
    ((), (*OAEP, "rsa_oaep_md:sha512", "rsa_oaep_label:6f737469617279")),
)
ENVELOPES = (
    openssl_envelope(CONTENT, OTHER, OURS, cipher="-aes128"),
    openssl_envelope(CONTENT, OURS, cipher="-des3", options=["-keyid"], key_options=OAEP),
    openssl_envelope(CONTENT, OURS, options=STREAM),
    gcm_envelope(CONTENT, OURS, attributes=2),
)


def open_ours(message: bytes) -> bytes:
    return open_envelope(read_envelope(message), KEY, OURS)


@pytest.mark.parametrize("cipher", [*CBC, *GCM])
@pytest.mark.parametrize(("options", "key_options"), FORMS, ids=str)
def test_what_openssl_closes_we_open(
    cipher: str, options: tuple[str, ...], key_options: tuple[str, ...]
) -> None:
    """Every cipher, both ways to name a recipient, both paddings, BER as it is streamed. (escrowed-secrets.md 4.3)"""
    closed = openssl_envelope(
        CONTENT, OURS, cipher=cipher, options=options, key_options=key_options
    )
    assert open_ours(closed) == CONTENT


def test_the_forms_above_contain_indefinite_lengths_and_pieces() -> None:
    content = CONTENT * 1000
    closed = openssl_envelope(content, OURS, options=STREAM)
    assert closed[1] == 0x80
    assert open_ours(closed) == content


@pytest.mark.parametrize("cipher", ["-aes256", "-aes-256-gcm"])
def test_indefinite_lengths_throughout_change_nothing(cipher: str) -> None:
    """Source: users.md 5.4 item 2."""
    assert open_ours(to_indefinite(openssl_envelope(CONTENT, OURS, cipher=cipher))) == CONTENT


@pytest.mark.parametrize("tag_bytes", [12, 13, 16])
@pytest.mark.parametrize("attributes", [0, 1, 12])
def test_authenticated_attributes_are_part_of_what_gcm_authenticates(
    attributes: int, tag_bytes: int
) -> None:
    """As a SET OF, not under the tag they are sent with. (RFC 5083 2.2; RFC 5084 3.2)"""
    closed = gcm_envelope(CONTENT, OURS, attributes=attributes, tag_bytes=tag_bytes)
    assert open_ours(closed) == CONTENT
    assert open_ours(to_indefinite(closed)) == CONTENT
    if attributes:
        with pytest.raises(EnvelopeBroken):
            open_ours(closed.replace(b"\x06\x03\x2a\x03\x00", b"\x06\x03\x2a\x04\x00"))


def test_ours_is_found_among_several_recipients_of_several_kinds() -> None:
    """Key agreement and passwords are other ways than ours, and stand beside it. (RFC 5652 6.2)"""
    elliptic = issue("elliptic").der
    closed = openssl_envelope(CONTENT, OTHER, elliptic, OURS, options=["-pwri_password", "p"])
    envelope = read_envelope(closed)
    assert len(envelope.recipients) == 2
    assert open_envelope(envelope, KEY, OURS) == CONTENT
    assert open_envelope(envelope, rsa_key(1), OTHER) == CONTENT
    with pytest.raises(NotForThisKey):
        find_recipient(envelope, elliptic)


def test_an_issuer_spelled_in_another_way_is_still_ours() -> None:
    """Names are compared by meaning, and a writer may use another string type. (RFC 5280 7.1)"""
    parsed = asn1_x509.Certificate.load(OURS)
    upper = asn1_x509.Name.build({"common_name": "ESCROW"}, use_printable=True)
    assert upper.dump() != parsed.issuer.dump()
    assert open_ours(gcm_envelope(CONTENT, OURS, issuer=upper)) == CONTENT


def test_a_certificate_without_a_key_identifier_has_the_usual_one() -> None:
    """Source: RFC 5280 4.2.1.2 (1)."""
    parsed = x509.load_der_x509_certificate(OURS)
    bare = (
        x509.CertificateBuilder()
        .subject_name(parsed.subject)
        .issuer_name(parsed.issuer)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(parsed.not_valid_after_utc)
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    closed = openssl_envelope(CONTENT, OURS, options=["-keyid"])
    assert open_envelope(read_envelope(closed), KEY, bare) == CONTENT


@pytest.mark.parametrize("options", [(), ("-keyid",)], ids=str)
def test_an_envelope_for_others_says_so(options: tuple[str, ...]) -> None:
    """FV-03 begins with this: an unknown certificate is another fact than a broken envelope."""
    envelope = read_envelope(openssl_envelope(CONTENT, OTHER, options=options))
    with pytest.raises(NotForThisKey):
        open_envelope(envelope, KEY, OURS)


def broken(message: bytes, *, wrong_key: bool = False) -> tuple[str, ...]:
    """Everything that somebody can learn from a refusal."""
    with pytest.raises(EnvelopeBroken) as caught:
        open_envelope(read_envelope(message), rsa_key(1) if wrong_key else KEY, OURS)
    error = caught.value
    return (type(error).__name__, str(error), repr(error.facts), repr(error.__cause__), error.hint)


def test_wrong_keys_and_wrong_paddings_look_the_same() -> None:
    """Two sentences would be an oracle for whoever can send envelopes."""
    cbc, gcm = openssl_envelope(CONTENT, OURS), openssl_envelope(CONTENT, OURS, cipher=GCM[2])
    oaep = openssl_envelope(CONTENT, OURS, cipher=GCM[0], key_options=OAEP)
    envelope = read_envelope(cbc)
    assert isinstance(envelope.content, CbcContent)
    last = envelope.content.ciphertext
    # The block before the last is what the last one's padding is mixed with: its length becomes 131.
    bent = last[:-17] + bytes((last[-17] ^ 0x80,)) + last[-16:]
    key = envelope.recipients[0].encrypted_key
    said = {
        broken(cbc.replace(last, bent)),
        broken(cbc.replace(key, b"\xff" * len(key))),
        broken(gcm, wrong_key=True),
        broken(oaep, wrong_key=True),
        broken(gcm[:-1] + bytes((gcm[-1] ^ 1,))),
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x30\x80\0\0",
        b"\x30" * 5000,
        b"\x30\x80" * 30_000,
        b"\x30\x80" + b"\x05\0" * 20_000 + b"\0\0",
        ENVELOPES[0] + b"\0",
        ENVELOPES[0][:-1],
        ENVELOPES[0].replace(
            bytes.fromhex("2a864886f70d010703"), bytes.fromhex("2a864886f70d010702")
        ),
        gcm_envelope(CONTENT, OURS, tag_bytes=11),
        gcm_envelope(CONTENT, OURS, tag_bytes=4),
        gcm_envelope(b"x" * LIMIT_BYTES, OURS),
    ],
    ids=range(11),
)
def test_what_is_no_envelope_is_unreadable(message: bytes) -> None:
    with pytest.raises(EnvelopeUnreadable):
        read_envelope(message)


def test_a_cipher_that_we_do_not_speak_is_a_fact_of_its_own() -> None:
    with pytest.raises(CipherNotKnown):
        read_envelope(openssl_envelope(CONTENT, OURS, cipher="-camellia256"))
    closed = openssl_envelope(CONTENT, OURS, key_options=OAEP_SHA256)
    # OAEP, its mask, and its hash.
    for known in ("2a864886f70d010107", "2a864886f70d010108", "608648016503040201"):
        unknown = closed.replace(bytes.fromhex(known), bytes.fromhex(known)[:-1] + b"\x7f")
        with pytest.raises(CipherNotKnown):
            open_ours(unknown)


def test_a_certificate_that_cannot_be_read_is_our_own_fault_and_said_so() -> None:
    with pytest.raises(CertificateMalformed):
        open_envelope(read_envelope(ENVELOPES[0]), KEY, b"no certificate")


def test_no_secret_of_an_envelope_is_printed() -> None:
    envelope = read_envelope(ENVELOPES[0])
    assert repr(envelope.recipients[0].encrypted_key) not in repr(envelope)
    assert repr(envelope.content.ciphertext) not in repr(envelope)


@pytest.mark.parametrize("message", ENVELOPES, ids=range(len(ENVELOPES)))
def test_an_envelope_cut_anywhere_is_unreadable(message: bytes) -> None:
    """Hostile or damaged, it never raises anything but our own facts."""
    for length in range(len(message)):
        with pytest.raises(EnvelopeUnreadable):
            read_envelope(message[:length])


@given(
    message=st.sampled_from(ENVELOPES),
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4), st.integers(0, 4)),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=200, deadline=None)
def test_a_bent_envelope_raises_only_the_named_facts(
    message: bytes, edits: list[tuple[float, bytes, int]]
) -> None:
    """Whoever stores an envelope needs to catch three facts and no more. (FV-03)"""
    for where, put, length in edits:
        at = int(where * len(message))
        message = message[:at] + put + message[at + length :]
    try:
        open_ours(message)
    except OstiaryError as error:
        assert isinstance(error, EnvelopeUnreadable | NotForThisKey | EnvelopeBroken)  # noqa: PT017  # none at all is fine, too


@given(message=st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_no_bytes_at_all_raise_anything_else(message: bytes) -> None:
    with pytest.raises(EnvelopeUnreadable):
        read_envelope(message)
