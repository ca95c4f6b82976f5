"""What every Signer, Decrypter and Sealer does, whatever holds the key."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ostiary.domain.token import DEFAULT_TENANT, Holder, RecordId
from ostiary.keys.file import write_key_file
from ostiary.keys.sealer import open_sealer
from ostiary.keys.signer import FileSigner, encode_private_key, open_file_signer
from ostiary.ports.sealer import SealBroken, Sealer, SealLabel
from ostiary.ports.signer import (
    Decrypter,
    NotDecipherable,
    SignatureScheme,
    Signer,
    SignerUnavailable,
)
from ostiary.secret import Secret

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def _key(kind: str) -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _in_file(key: Key, folder: Path) -> FileSigner:
    write_key_file(folder / "key.pem", encode_private_key(key))
    return open_file_signer(folder / "key.pem")


SIGNERS: Mapping[str, Callable[[Key, Path], FileSigner]] = {
    "memory": lambda key, _folder: FileSigner(key),
    "file": _in_file,
}


@pytest.fixture(params=SIGNERS)
def make_signer(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], FileSigner]:
    return lambda kind: SIGNERS[request.param](_key(kind), tmp_path)


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("rsa", SignatureScheme.RSA_SHA256), ("ec", SignatureScheme.ECDSA_SHA256)],
)
async def test_a_signature_verifies_under_the_public_key(
    make_signer: Callable[[str], Signer], kind: str, scheme: SignatureScheme
) -> None:
    signer = make_signer(kind)
    signature = await signer.sign(b"hello", scheme)
    match signer.public_key:
        case rsa.RSAPublicKey() as key:
            key.verify(signature, b"hello", padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePublicKey() as key:
            key.verify(signature, b"hello", ec.ECDSA(hashes.SHA256()))


async def test_a_scheme_of_another_kind_of_key_is_refused(
    make_signer: Callable[[str], Signer],
) -> None:
    with pytest.raises(SignerUnavailable):
        await make_signer("rsa").sign(b"hello", SignatureScheme.ECDSA_SHA256)


async def test_what_was_encrypted_to_the_key_opens(
    make_signer: Callable[[str], FileSigner],
) -> None:
    signer = make_signer("rsa")
    decrypter: Decrypter = signer
    public_key = signer.public_key
    assert isinstance(public_key, rsa.RSAPublicKey)
    ciphertext = public_key.encrypt(b"content key", padding.PKCS1v15())
    assert await decrypter.decrypt(ciphertext) == Secret(b"content key")


async def test_garbage_is_refused_or_opens_to_other_garbage(
    make_signer: Callable[[str], Decrypter],
) -> None:
    """Implicit rejection may answer with random bytes; the content key itself never comes out."""
    decrypter = make_signer("rsa")
    for garbage in (b"", b"\1" * 256, b"\xff" * 512):
        try:
            opened = await decrypter.decrypt(garbage)
        except NotDecipherable:
            continue
        assert opened != Secret(b"content key")


async def test_an_elliptic_curve_key_decrypts_nothing(
    make_signer: Callable[[str], Decrypter],
) -> None:
    with pytest.raises(SignerUnavailable):
        await make_signer("ec").decrypt(b"x" * 256)


async def test_a_signer_shows_nothing_of_its_key(make_signer: Callable[[str], Signer]) -> None:
    assert repr(make_signer("rsa")).startswith("<FileSigner")


SEALERS: Mapping[str, Callable[[], Sealer]] = {
    "epoch": lambda: open_sealer(Secret(b"r" * 32), (), now=datetime(2030, 6, 1, tzinfo=UTC))[0],
}


@pytest.mark.parametrize("make_sealer", SEALERS.values(), ids=SEALERS.keys())
def test_a_sealed_value_opens_under_its_own_label_only(make_sealer: Callable[[], Sealer]) -> None:
    """Source: escrowed-secrets.md 4.0.2 rules 3 and 4."""
    sealer = make_sealer()

    def label(record_id: str) -> SealLabel:
        return SealLabel(
            tenant=DEFAULT_TENANT,
            holder=Holder("0000-1111"),
            kind="bootstrap",
            record_id=RecordId(record_id),
        )

    value = Secret(b"a token")
    sealed = sealer.seal(value, label("one"))
    assert sealed != sealer.seal(value, label("one"))
    assert value.reveal() not in bytes(sealed)
    assert sealer.unseal(sealed, label("one")) == value
    with pytest.raises(SealBroken):
        sealer.unseal(sealed, label("two"))
