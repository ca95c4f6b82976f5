"""The look of an UnlockToken. Source: escrowed-secrets.md 4.1."""

import random

from ostiary_sim.unlock_token import draw_unlock_token


def records(content: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while content:
        length = int.from_bytes(content[4:8], "big")
        found.append((content[:4], content[8 : 8 + length]))
        content = content[8 + length :]
    return found


def test_a_token_is_1288_bytes_of_nested_records() -> None:
    token = draw_unlock_token(random.Random(1))
    assert len(token) == 1288
    (first, inside), (second, signature) = records(token)
    assert (first, second, len(signature)) == (b"DATA", b"SIGN", 20)
    named = dict(records(inside))
    assert named[b"VERS"] == b"\x00\x00\x00\x04"
    assert named[b"TYPE"] == b"\x00\x00\x00\x02"
    assert b"SALT" in named


def test_tokens_differ_unless_the_seed_is_the_same() -> None:
    assert draw_unlock_token(random.Random(1)) == draw_unlock_token(random.Random(1))
    assert draw_unlock_token(random.Random(1)) != draw_unlock_token(random.Random(2))
