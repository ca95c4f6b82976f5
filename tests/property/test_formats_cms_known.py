"""A signature that is read by comparing it with its signer's last one says what taking it apart would say."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from fuzz.pki import Issued, ec_key, issue, openssl_sign, rsa_key, sign_by_hand, to_indefinite
from ostiary.errors import OstiaryError
from ostiary.formats.cms import AlgorithmNotAllowed, SignatureDoesNotVerify, read_signed
from ostiary.formats.cms_known import KnownSigners
from ostiary.formats.cms_reader import Parts, read_parts

FORMS: Sequence[tuple[str, ...]] = (
    (),
    ("-noattr",),
    ("-keyid",),
    ("-md", "sha1"),
    ("-md", "sha512", "-noattr"),
    ("-stream",),
    ("-nodetach",),
)


@lru_cache
def signer(kind: str) -> Issued:
    keys = {"rsa": rsa_key, "ec": ec_key}
    return issue(f"{kind} device", key=keys[kind]())


@lru_cache
def messages(kind: str, form: tuple[str, ...]) -> tuple[bytes, ...]:
    """Three messages of one signer, in one form, each over another body."""
    return tuple(openssl_sign(signer(kind), bytes([number]), *form) for number in range(3))


def outcome(read: Any, message: bytes, *, allow_sha1: bool = True) -> object:
    try:
        parts: Parts = read(message, allow_sha1=allow_sha1)
    except OstiaryError as error:
        return type(error), error.detail
    return asdict(parts)


@st.composite
def bent(draw: st.DrawFn, message: bytes) -> bytes:
    """The message with a few bytes changed, cut out or put in; mostly near its end, where what differs stands."""
    mutable = bytearray(message)
    for _ in range(draw(st.integers(0, 3))):
        end = draw(st.sampled_from([len(mutable), 420, 64]))
        at = len(mutable) - 1 - draw(st.integers(0, min(end, len(mutable)) - 1))
        match draw(st.sampled_from(["change", "change", "change", "cut", "put"])):
            case "change":
                mutable[at] = draw(st.integers(0, 255))
            case "cut":
                del mutable[at]
            case _:
                mutable.insert(at, draw(st.integers(0, 255)))
    return bytes(mutable)


@given(st.data())
def test_who_is_known_is_read_as_who_is_not(data: st.DataObject) -> None:
    """Whatever came before, and whatever is wrong with what comes now."""
    known = KnownSigners(capacity=3)
    for _ in range(data.draw(st.integers(2, 5), label="messages")):
        kind = data.draw(st.sampled_from(["rsa", "ec"]))
        form = data.draw(st.sampled_from(FORMS))
        message = data.draw(bent(data.draw(st.sampled_from(messages(kind, form)))))
        allow_sha1 = data.draw(st.booleans())
        before = len(known)
        found = outcome(known.read_parts, message, allow_sha1=allow_sha1)
        assert found == outcome(read_parts, message, allow_sha1=allow_sha1)
        event("learned" if len(known) > before else "known, or not to be learned")


@pytest.mark.parametrize("form", FORMS[:5], ids=" ".join)
def test_a_signer_is_known_after_its_first_message(
    form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is not taken apart, and says its own digest, time and signature."""
    first, second, _ = messages("rsa", form)
    known = KnownSigners()
    known.read_parts(first, allow_sha1=True)
    expected = read_parts(second, allow_sha1=True)
    monkeypatch.setattr("ostiary.formats.cms_known.read_parts", _refuse)
    assert known.read_parts(second, allow_sha1=True) == expected


def _refuse(*_: object, **__: object) -> Parts:
    raise AssertionError("taken apart once more")


def test_being_known_proves_nothing() -> None:
    """A signature is asked for each body, from whoever it is: what is remembered is a reading, not a verdict."""
    known = KnownSigners()
    first, second, _ = messages("rsa", ("-noattr",))
    read_signed(first, known=known).verify(bytes([0]))
    with pytest.raises(SignatureDoesNotVerify):
        read_signed(second, known=known).verify(bytes([0]))
    forged = second[:-1] + bytes([second[-1] ^ 1])
    with pytest.raises(SignatureDoesNotVerify):
        read_signed(forged, known=known).verify(bytes([1]))


def test_a_digest_that_is_switched_off_is_refused_to_who_is_known_with_it() -> None:
    known = KnownSigners()
    first, second, _ = messages("rsa", ("-md", "sha1"))
    read_signed(first, known=known)
    with pytest.raises(AlgorithmNotAllowed):
        read_signed(second, known=known, allow_sha1=False)


def test_no_more_signers_are_remembered_than_there_is_room_for() -> None:
    known = KnownSigners(capacity=2)
    for number in range(5):
        device = issue(f"device {number}", key=rsa_key())
        known.read_parts(openssl_sign(device, b"", "-noattr"), allow_sha1=True)
    assert len(known) == 2


@pytest.mark.parametrize("form", [("-stream",), ("-nodetach",)], ids=" ".join)
def test_what_was_rewritten_or_holds_its_content_is_not_remembered(form: tuple[str, ...]) -> None:
    known = KnownSigners()
    known.read_parts(messages("rsa", form)[0], allow_sha1=True)
    known.read_parts(to_indefinite(messages("rsa", ())[0]), allow_sha1=True)
    assert len(known) == 0


def test_what_no_device_would_send_is_not_remembered() -> None:
    """Strangers may send four thousand of those before anybody looks at their certificates."""
    known = KnownSigners()
    device = signer("rsa")
    others = [issue(f"one of a chain {number}", key=rsa_key()).der for number in range(6)]
    message = sign_by_hand(device, b"", certificates=[device.der, *others])
    assert len(message) > 4096
    assert known.read_parts(message, allow_sha1=True).certificates
    assert len(known) == 0
