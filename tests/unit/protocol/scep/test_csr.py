"""Certificate requests: a key, proof of it, a challenge, and bounds on each."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fuzz.scep_client import ec_key, key_pem, make_csr, openssl, rsa_key
from ostiary.protocol.scep.csr import decode_csr, key_digest
from ostiary.protocol.scep.words import FailInfo, RequestFailed
from ostiary.secret import Secret


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_keys_within_the_bounds_are_read(bits: int) -> None:
    key = rsa_key("device", bits)
    request = decode_csr(make_csr(key, b"challenge"))
    assert request.public_key == key.public_key()
    assert request.key_digest == key_digest(key.public_key())
    assert request.challenge == Secret(b"challenge")
    assert "challenge=***" in repr(request)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda one: one.name)
def test_two_curves_are_read(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert decode_csr(make_csr(key, None)).challenge is None


def test_a_request_made_by_openssl_is_read() -> None:
    """The challenge as a PrintableString or UTF8String, as OpenSSL writes it."""
    config = (
        b"[req]\ndistinguished_name=dn\nattributes=attrs\nprompt=no\n"
        b"[dn]\nCN=device\n[attrs]\nchallengePassword=words of a challenge\n"
    )
    encoded = openssl(
        *("req", "-new", "-key", "own.key", "-config", "req.cnf", "-outform", "DER", "-out", "out"),
        files={"own.key": key_pem(rsa_key("device")), "req.cnf": config},
    )
    assert decode_csr(encoded).challenge == Secret(b"words of a challenge")


def test_a_key_of_another_kind_is_refused_by_its_algorithm() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    encoded = openssl(
        *("req", "-new", "-subj", "/CN=device", "-key", "own.key", "-outform", "DER"),
        *("-out", "out"),
        files={"own.key": key_pem(key)},  # type: ignore[arg-type]  # only its encoding is needed
    )
    with pytest.raises(RequestFailed) as caught:
        decode_csr(encoded)
    assert caught.value.fail_info is FailInfo.BAD_ALGORITHM


@pytest.mark.parametrize(
    "encoded", [b"", b"\x30\x00", b"\x30\x80", make_csr(ec_key("device"), None)[:-1]]
)
def test_what_is_no_request_is_refused(encoded: bytes) -> None:
    with pytest.raises(RequestFailed) as caught:
        decode_csr(encoded)
    assert caught.value.fail_info is FailInfo.BAD_REQUEST


def test_a_challenge_longer_than_ours_is_refused() -> None:
    with pytest.raises(RequestFailed):
        decode_csr(make_csr(ec_key("device"), b"x" * 256))
