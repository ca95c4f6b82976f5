"""The password hash for accounts of a Mac: the number, and the property list inside a property list."""

import hashlib
import plistlib

import pytest

from ostiary.protocol.mdm.password_hash import (
    ITERATIONS,
    UnusableIterations,
    UnusableSalt,
    salted_sha512_pbkdf2,
)
from ostiary.secret import Secret

PASSWORD, SALT = Secret(b"ostiary-test"), bytes(range(32))
ENTROPY = (
    "838175a0ee4802816910264763d26c77df0ce027af3b9ea0bc4b82fcf88f743ee01a4ca574d404737ba2e1283e3d959e"
    "1ac68eae98789e7735ca247a8bc9524b644eb238379ea2778743d195e747576fc6e806763fde43c3b956d4c1b03f1f2d"
    "7aca202b3812acddbc88648c887880d1c851e7143cca116abdf1d883f0982fcc"
)


@pytest.mark.case("AA-01")
def test_the_vector_is_hashed_into_a_dictionary_of_three_typed_members() -> None:
    """escrowed-secrets.md 4.8: read by another parser than ours."""
    hashed = salted_sha512_pbkdf2(PASSWORD, salt=SALT, iterations=20_000).reveal()
    outer = plistlib.loads(hashed)
    assert list(outer) == ["SALTED-SHA512-PBKDF2"]
    inner = outer["SALTED-SHA512-PBKDF2"]
    assert inner == {"entropy": bytes.fromhex(ENTROPY), "salt": SALT, "iterations": 20_000}
    assert type(inner["iterations"]) is int


def test_the_password_is_hashed_as_utf_8_in_the_most_rounds_that_are_allowed() -> None:
    """escrowed-secrets.md 4.8."""
    password = "pâssword, 20 or more"
    inner = plistlib.loads(salted_sha512_pbkdf2(Secret(password.encode()), salt=SALT).reveal())[
        "SALTED-SHA512-PBKDF2"
    ]
    assert inner["iterations"] == ITERATIONS
    assert inner["entropy"] == hashlib.pbkdf2_hmac(
        "sha512", password.encode(), SALT, ITERATIONS, 128
    )


def test_a_hash_is_a_secret_of_its_own() -> None:
    """escrowed-secrets.md 4.8: it can be guessed at offline."""
    hashed = salted_sha512_pbkdf2(PASSWORD, salt=SALT, iterations=20_000)
    assert f"{hashed}" == "***"


def test_a_wrong_salt_or_number_of_rounds_is_refused() -> None:
    with pytest.raises(UnusableSalt):
        salted_sha512_pbkdf2(PASSWORD, salt=bytes(16))
    for iterations in (19_999, 40_001):
        with pytest.raises(UnusableIterations):
            salted_sha512_pbkdf2(PASSWORD, salt=SALT, iterations=iterations)
