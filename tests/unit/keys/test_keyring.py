"""The keys of one process: new epochs open at once, and seal once every other process must have read them."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.keys.file import create_root_key, load_root_key
from ostiary.keys.keyring import FileKeyring
from ostiary.keys.root_file import RootKeyFile
from ostiary.keys.sealer import EpochSealer, open_sealer
from ostiary.keys.wrapping import RootKeyDoesNotMatch
from ostiary.ports.keyring import TenantUnknown
from ostiary.ports.sealer import EpochUnknown, SealBroken
from ostiary.ports.storage import EpochRow
from ostiary.secret import Secret
from unit.keys.test_sealer import LABEL

NOW = datetime(2030, 6, 1, tzinfo=UTC)
REST = timedelta(seconds=30)
Rows = tuple[EpochRow, ...]


@pytest.fixture
def file(tmp_path: Path) -> RootKeyFile:
    create_root_key(tmp_path / "root.key")
    return RootKeyFile(tmp_path / "root.key")


def process(
    file: RootKeyFile, rows: Rows, now: datetime, rest: timedelta = REST
) -> tuple[EpochSealer, FileKeyring]:
    """One that starts on these rows."""
    sealer, new = open_sealer(file.load(rows), rows, now=now)
    assert not new
    return sealer, FileKeyring(file, sealer, rows, now, rest=rest)


@pytest.fixture
def rows(file: RootKeyFile) -> Rows:
    return open_sealer(load_root_key(file.path), (), now=NOW - timedelta(days=9))[1]


def current(sealer: EpochSealer) -> int:
    return sealer.current_epoch(DEFAULT_TENANT)


def test_a_new_epoch_opens_at_once_and_seals_after_its_rest(file: RootKeyFile, rows: Rows) -> None:
    sealer, keyring = process(file, rows, NOW)
    both = (*rows, keyring.make_epoch(rows, DEFAULT_TENANT, NOW))
    keyring.adopt(both, NOW)
    assert (current(sealer), sealer.newest_epoch(DEFAULT_TENANT)) == (1, 2)
    keyring.adopt(both, NOW + REST - timedelta(seconds=1))
    assert current(sealer) == 1
    keyring.adopt(both, NOW + REST)
    assert current(sealer) == 2


def test_whatever_one_process_seals_another_opens_though_their_clocks_differ(
    file: RootKeyFile, rows: Rows
) -> None:
    """Each looks every five seconds; the one whose clock is an hour ahead does not seal earlier for that."""
    ahead = timedelta(hours=1, minutes=7)
    (first, one), (second, two) = process(file, rows, NOW), process(file, rows, NOW + ahead)
    old = first.seal(Secret(b"old"), LABEL)
    both = (*rows, one.make_epoch(rows, DEFAULT_TENANT, NOW))
    late, restarted = process(file, both, NOW + ahead)
    for second_of_time in range(0, 60, 5):
        now = NOW + timedelta(seconds=second_of_time)
        one.adopt(both, now)
        two.adopt(both, now + ahead)
        restarted.adopt(both, now + ahead)
        for sealing in (first, second, late):
            fresh = sealing.seal(Secret(b"new"), LABEL)
            for opening in (first, second, late):
                assert opening.unseal(fresh, LABEL) == Secret(b"new")
                assert opening.unseal(old, LABEL) == Secret(b"old")
    assert [current(each) for each in (first, second, late)] == [2, 2, 2]


def test_a_process_that_starts_long_afterwards_seals_under_it_at_once(
    file: RootKeyFile, rows: Rows
) -> None:
    _, keyring = process(file, rows, NOW)
    both = (*rows, keyring.make_epoch(rows, DEFAULT_TENANT, NOW))
    assert current(process(file, both, NOW + timedelta(seconds=5))[0]) == 1
    assert current(process(file, both, NOW + timedelta(hours=2))[0]) == 2
    assert current(process(file, both, NOW, rest=timedelta(0))[0]) == 2


def test_a_clock_that_is_put_back_takes_nothing_out_of_force(file: RootKeyFile, rows: Rows) -> None:
    sealer, keyring = process(file, rows, NOW)
    both = (*rows, keyring.make_epoch(rows, DEFAULT_TENANT, NOW))
    keyring.adopt(both, NOW)
    back = NOW - timedelta(days=400)
    keyring.adopt(both, back)
    keyring.adopt(both, back + REST)
    assert current(sealer) == 2
    keyring.adopt(both, back - REST)
    assert current(sealer) == 2


def test_a_value_of_an_unknown_epoch_asks_for_a_look_and_opens_after_it(
    file: RootKeyFile, rows: Rows
) -> None:
    """Should a process have missed five looks: an error that says so, never "no token"."""
    quick, one = process(file, rows, NOW, rest=timedelta(0))
    slow, two = process(file, rows, NOW)
    asked: list[str] = []
    slow.when_unknown = lambda: asked.append("look")
    both = (*rows, one.make_epoch(rows, DEFAULT_TENANT, NOW))
    one.adopt(both, NOW)
    fresh = quick.seal(Secret(b"new"), LABEL)
    with pytest.raises(EpochUnknown) as caught:
        slow.unseal(fresh, LABEL)
    assert isinstance(caught.value, SealBroken)
    assert asked == ["look"]
    two.adopt(both, NOW)
    assert slow.unseal(fresh, LABEL) == Secret(b"new")


def test_digests_do_not_change_with_a_rotation(file: RootKeyFile, rows: Rows) -> None:
    """A fresh digest key would make every token look changed. (design.md 2)"""
    sealer, keyring = process(file, rows, NOW, rest=timedelta(0))
    before = sealer.digest(DEFAULT_TENANT, Secret(b"token"))
    keyring.adopt((*rows, keyring.make_epoch(rows, DEFAULT_TENANT, NOW)), NOW)
    assert sealer.digest(DEFAULT_TENANT, Secret(b"token")) == before


def test_a_node_without_the_new_root_key_goes_on_with_what_it_has(
    file: RootKeyFile, rows: Rows, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    os.link(file.path, copy / "root.key")
    sealer, elsewhere = process(RootKeyFile(copy / "root.key"), rows, NOW)
    _, keyring = process(file, rows, NOW)
    with keyring.changing_root(rows, NOW) as change:
        rewrapped = change.rows
        change.finish()
    elsewhere.adopt(rewrapped, NOW)  # nothing in it is new
    assert not any(look.fits for look in elsewhere.examine(rewrapped))
    both = (*rewrapped, keyring.make_epoch(rewrapped, DEFAULT_TENANT, NOW))
    with pytest.raises(RootKeyDoesNotMatch):
        elsewhere.adopt(both, NOW)
    assert sealer.unseal(sealer.seal(Secret(b"x"), LABEL), LABEL) == Secret(b"x")
    (copy / "root.key").unlink()
    os.link(file.path, copy / "root.key")
    elsewhere.adopt(both, NOW)
    assert sealer.newest_epoch(DEFAULT_TENANT) == 2


def test_a_new_root_key_opens_what_the_old_one_did(file: RootKeyFile, rows: Rows) -> None:
    sealer, keyring = process(file, rows, NOW)
    sealed = sealer.seal(Secret(b"token"), LABEL)
    with keyring.changing_root(rows, NOW) as change:
        assert {one.created_at for one in change.rows} == {one.created_at for one in rows}
        change.finish()
    again, _ = process(file, change.rows, NOW)
    assert again.unseal(sealed, LABEL) == Secret(b"token")
    with pytest.raises(RootKeyDoesNotMatch):
        file.load(rows)
    assert all(look.fits and look.opens for look in keyring.examine(change.rows))


def test_each_key_is_looked_at_by_itself(file: RootKeyFile, rows: Rows) -> None:
    _, keyring = process(file, rows, NOW)
    bent = EpochRow(
        tenant=rows[1].tenant,
        epoch=1,
        wrapped=rows[1].wrapped[:-1] + b"?",
        check=rows[1].check,
        created_at=NOW,
    )
    looks = keyring.examine((rows[0], bent))
    assert [(look.fits, look.opens) for look in looks] == [(True, True), (True, False)]
    file.path.unlink()
    assert not any(look.fits or look.opens for look in keyring.examine(rows))


def test_nobody_gets_an_epoch_who_is_no_tenant(file: RootKeyFile, rows: Rows) -> None:
    _, keyring = process(file, rows, NOW)
    with pytest.raises(TenantUnknown):
        keyring.make_epoch(rows, TenantId("nobody"), NOW)


def test_the_head_of_a_value_tells_its_epoch(file: RootKeyFile, rows: Rows) -> None:
    sealer, _ = process(file, rows, NOW)
    assert sealer.epoch_of(sealer.seal(Secret(b"x"), LABEL)[:5]) == 1
    for nonsense in (b"", b"\x01\x00", b"\x02\x00\x00\x00\x07"):
        assert sealer.epoch_of(nonsense) == 0
