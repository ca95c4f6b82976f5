"""Sealing under tenant epoch keys: what opens, what never opens, and what a start finds wrong."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from ostiary.domain.token import DEFAULT_TENANT, Holder, RecordId, SealedValue, TenantId
from ostiary.errors import Unavailable
from ostiary.keys.sealer import EpochSealer, TenantWithoutKeys, open_sealer
from ostiary.keys.wrapping import EpochKeyDamaged, RootKeyDoesNotMatch, RootKeyring
from ostiary.ports.sealer import SealBroken, SealLabel
from ostiary.secret import Secret

NOW = datetime(2030, 6, 1, tzinfo=UTC)
ROOT = Secret(b"r" * 32)
OTHER = TenantId("other")
LABEL = SealLabel(
    tenant=DEFAULT_TENANT, holder=Holder("0000-1111"), kind="unlock", record_id=RecordId("a" * 32)
)


@pytest.fixture
def sealer() -> EpochSealer:
    return open_sealer(ROOT, (), now=NOW, tenants=(DEFAULT_TENANT, OTHER))[0]


def test_a_value_opens_after_a_restart_from_the_stored_rows() -> None:
    """Source: design.md 2; a new tenant gets a digest key and a first sealing key."""
    first, rows = open_sealer(ROOT, (), now=NOW)
    assert [(row.tenant, row.epoch) for row in rows] == [(DEFAULT_TENANT, 0), (DEFAULT_TENANT, 1)]
    sealed = first.seal(Secret(b"token"), LABEL)
    again, new_rows = open_sealer(ROOT, rows, now=NOW)
    assert new_rows == ()
    assert again.unseal(sealed, LABEL) == Secret(b"token")
    assert again.digest(DEFAULT_TENANT, Secret(b"x")) == first.digest(DEFAULT_TENANT, Secret(b"x"))


def test_the_wrong_root_key_is_named_at_start() -> None:
    """Source: design.md 2, key check value."""
    _, rows = open_sealer(ROOT, (), now=NOW)
    with pytest.raises(RootKeyDoesNotMatch) as caught:
        open_sealer(Secret(b"s" * 32), rows, now=NOW)
    assert isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_tenant_that_lost_one_of_its_keys_gets_no_new_one(kept: int) -> None:
    """A fresh digest key would make every token look changed; a fresh sealing key would hide the loss."""
    _, rows = open_sealer(ROOT, (), now=NOW)
    with pytest.raises(EpochKeyDamaged):
        open_sealer(ROOT, (rows[kept],), now=NOW)


def test_an_altered_or_exchanged_row_does_not_open() -> None:
    _, rows = open_sealer(ROOT, (), now=NOW, tenants=(DEFAULT_TENANT, OTHER))
    bent = replace(rows[1], wrapped=rows[1].wrapped[:-1] + bytes([rows[1].wrapped[-1] ^ 1]))
    short = replace(rows[1], wrapped=b"")
    exchanged = replace(rows[1], wrapped=rows[3].wrapped)
    for row in (bent, short, exchanged):
        with pytest.raises(EpochKeyDamaged):
            open_sealer(ROOT, (rows[0], row), now=NOW)


@pytest.mark.parametrize(
    "moved",
    [
        replace(LABEL, tenant=OTHER),
        replace(LABEL, tenant=TenantId("unknown")),
        replace(LABEL, holder=Holder("0000-2222")),
        replace(LABEL, kind="bootstrap"),
        replace(LABEL, record_id=RecordId("b" * 32)),
        replace(LABEL, holder=Holder("0000-1111unlo"), kind="ck"),
        replace(LABEL, holder=Holder("0000-1111unlock"), kind=""),
    ],
)
def test_a_value_moved_elsewhere_does_not_open(sealer: EpochSealer, moved: SealLabel) -> None:
    """Source: escrowed-secrets.md 4.0.2 rule 3; the labels' borders are part of them."""
    sealed = sealer.seal(Secret(b"token"), LABEL)
    with pytest.raises(SealBroken):
        sealer.unseal(sealed, moved)


@given(st.binary(max_size=90), st.integers(0, 200), st.integers(0, 7))
def test_whatever_the_bytes_only_seal_broken_is_raised(noise: bytes, at: int, bit: int) -> None:
    """Never "no token". Source: escrowed-secrets.md 4.0.2 rule 4."""
    sealer, _ = open_sealer(ROOT, (), now=NOW)
    sealed = bytearray(sealer.seal(Secret(b"token" * 20), LABEL))
    sealed[at % len(sealed)] ^= 1 << bit
    for broken in (bytes(sealed), noise, bytes(sealed[: at % len(sealed)])):
        with pytest.raises(SealBroken) as caught:
            sealer.unseal(SealedValue(broken), LABEL)
        assert "token" not in str(caught.value)


def test_an_older_epoch_still_opens_and_the_newest_seals() -> None:
    """Source: design.md 2: re-sealing old records under a new epoch is a job of its own."""
    old, rows = open_sealer(ROOT, (), now=NOW)
    sealed = old.seal(Secret(b"token"), LABEL)
    second = RootKeyring(ROOT).wrap(DEFAULT_TENANT, 2, b"2" * 32, NOW)
    both, new_rows = open_sealer(ROOT, (*rows, second), now=NOW)
    assert new_rows == ()
    assert both.unseal(sealed, LABEL) == Secret(b"token")
    fresh = both.seal(Secret(b"token"), LABEL)
    assert (sealed[:5], fresh[:5]) == (b"\x01\0\0\0\x01", b"\x01\0\0\0\x02")
    with pytest.raises(SealBroken):
        old.unseal(fresh, LABEL)


def test_the_form_of_a_sealed_value_is_what_an_independent_hkdf_and_gcm_say() -> None:
    """The blob: version, epoch, nonce, AES-256-GCM under HKDF-SHA-256 of epoch key and record id."""
    keys = iter([b"D" * 32, b"n" * 12, b"E" * 32, b"n" * 12, b"N" * 12])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.urandom", lambda _size: next(keys))
        sealer, _ = open_sealer(ROOT, (), now=NOW)
        sealed = sealer.seal(Secret(b"token"), LABEL)
    hkdf = HKDF(hashes.SHA256(), 32, salt=None, info=b"ostiary record\0" + b"a" * 32)
    label = b"7:default9:0000-11116:unlock32:" + b"a" * 32
    associated = b"\x01\0\0\0\x01" + label
    assert sealed[:17] == b"\x01\0\0\0\x01" + b"N" * 12
    opened = AESGCM(hkdf.derive(b"E" * 32)).decrypt(b"N" * 12, sealed[17:], associated)
    assert opened == b"token"


def test_digests_differ_by_tenant_and_tell_equal_from_different(sealer: EpochSealer) -> None:
    value = Secret(b"token")
    assert sealer.digest(DEFAULT_TENANT, value) == sealer.digest(DEFAULT_TENANT, value)
    assert sealer.digest(DEFAULT_TENANT, value) != sealer.digest(OTHER, value)
    assert sealer.digest(DEFAULT_TENANT, value) != sealer.digest(DEFAULT_TENANT, Secret(b"t"))


def test_an_unknown_tenant_seals_nothing(sealer: EpochSealer) -> None:
    nobody = TenantId("nobody")
    with pytest.raises(TenantWithoutKeys):
        sealer.seal(Secret(b"token"), replace(LABEL, tenant=nobody))
    with pytest.raises(TenantWithoutKeys):
        sealer.digest(nobody, Secret(b"token"))


def test_an_empty_value_is_a_value(sealer: EpochSealer) -> None:
    assert sealer.unseal(sealer.seal(Secret(b""), LABEL), LABEL) == Secret(b"")
