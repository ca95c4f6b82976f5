"""The root key on the disk: replaced so that a start at any instant finds the one that fits. (design.md 2)"""

import errno
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ostiary.keys.file import KeyFileMissing, create_root_key, load_root_key, write_key_file
from ostiary.keys.root_file import RootKeyFile, RootKeyInChange, RootKeyNotReplaced
from ostiary.keys.sealer import open_sealer
from ostiary.keys.wrapping import RootKeyDoesNotMatch, RootKeyring
from ostiary.ports.storage import EpochRow
from ostiary.secret import Secret

NOW = datetime(2030, 6, 1, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> RootKeyFile:
    create_root_key(tmp_path / "root.key")
    return RootKeyFile(tmp_path / "root.key")


def rows_under(root: Secret) -> tuple[EpochRow, ...]:
    return open_sealer(root, (), now=NOW)[1]


def rewrapped(rows: tuple[EpochRow, ...], old: Secret, new: Secret) -> tuple[EpochRow, ...]:
    before, after = RootKeyring(old), RootKeyring(new)
    return tuple(after.wrap(one.tenant, one.epoch, before.unwrap(one), NOW) for one in rows)


def names(file: RootKeyFile) -> set[str]:
    return {one.name for one in file.path.parent.iterdir()}


def test_the_new_key_takes_the_old_ones_place_and_the_old_one_is_kept(file: RootKeyFile) -> None:
    """A backup of the database from before opens with the old one only."""
    old = load_root_key(file.path)
    rows = rows_under(old)
    with file.locked():
        new = file.make_new(rows, NOW)
        assert new != old
        assert stat.S_IMODE(file.new.stat().st_mode) == 0o600
        assert load_root_key(file.path) == old
        aside = file.take_place(NOW)
    assert names(file) == {"root.key", "root.key.2030-06-01"}
    assert load_root_key(file.path) == new
    assert load_root_key(aside) == old
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


def test_several_changes_in_a_day_keep_every_key(file: RootKeyFile) -> None:
    keys = {load_root_key(file.path).reveal()}
    for _ in range(3):
        with file.locked():
            keys.add(file.make_new((), NOW).reveal())
            file.take_place(NOW)
    assert {load_root_key(one).reveal() for one in file.path.parent.iterdir()} == keys
    assert len(keys) == 4


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("instant", ["made", "linked", "renamed"])
def test_a_start_after_any_instant_uses_the_key_that_fits(
    file: RootKeyFile, instant: str, is_stored: bool
) -> None:
    old = load_root_key(file.path)
    rows = rows_under(old)
    with file.locked():
        new = file.make_new(rows, NOW)
        if instant == "linked":
            file._keep_aside(NOW)
        if instant == "renamed":
            if not is_stored:
                return  # the files are renamed only once the rows are stored
            file.take_place(NOW)
    stored = rewrapped(rows, old, new) if is_stored else rows
    expected = new if is_stored else old
    assert file.load(stored) == expected
    file.demand()
    file.finish_interrupted(stored, NOW + timedelta(days=0))
    assert load_root_key(file.path) == expected
    assert file.load(stored) == expected
    if is_stored:
        assert names(file) == {"root.key", "root.key.2030-06-01"}
        assert load_root_key(file.path.with_name("root.key.2030-06-01")) == old
    else:
        assert file.new.exists()


def test_a_key_left_by_an_attempt_that_came_to_nothing_is_used_by_the_next(
    file: RootKeyFile,
) -> None:
    with file.locked():
        first = file.make_new((), NOW)
    with file.locked():
        assert file.make_new(rows_under(load_root_key(file.path)), NOW) == first


def test_half_a_key_is_made_anew(file: RootKeyFile) -> None:
    write_key_file(file.new, b"cut off")
    rows = rows_under(load_root_key(file.path))
    file.finish_interrupted(rows, NOW)
    assert file.load(rows) == load_root_key(file.path)
    with file.locked():
        assert len(file.make_new(rows, NOW)) == 32


def test_a_lost_old_key_is_no_reason_to_lose_the_new_one(file: RootKeyFile) -> None:
    with file.locked():
        new = file.make_new((), NOW)
    file.path.unlink()
    file.demand()
    rows = rows_under(new)
    assert file.load(rows) == new
    file.finish_interrupted(rows, NOW)
    assert load_root_key(file.path) == new


def test_only_one_changes_the_key_of_a_node(file: RootKeyFile) -> None:
    rows = rows_under(load_root_key(file.path))
    with file.locked():
        with pytest.raises(RootKeyInChange), RootKeyFile(file.path).locked():
            pytest.fail("two at once")
        file.make_new(rows, NOW)
        file.finish_interrupted(rows, NOW)  # whoever starts meanwhile lets the other one end it
        assert file.load(rows) == load_root_key(file.path)
    with file.locked():
        pass


def test_a_key_that_does_not_fit_and_one_that_is_missing_are_told_apart(
    file: RootKeyFile,
) -> None:
    strange = rows_under(Secret(b"x" * 32))
    with pytest.raises(RootKeyDoesNotMatch):
        file.load(strange)
    file.path.unlink()
    with pytest.raises(KeyFileMissing):
        file.load(strange)
    with pytest.raises(KeyFileMissing):
        file.demand()


def test_a_directory_that_cannot_be_written_is_told_and_serves_on(
    file: RootKeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys may lie on a volume that is mounted to be read."""
    rows = rows_under(load_root_key(file.path))

    def refuse(*_values: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("ostiary.keys.root_file.create_root_key", refuse)
    with pytest.raises(RootKeyNotReplaced) as caught, file.locked():
        file.make_new(rows, NOW)
    assert "Read-only" in str(caught.value)
    monkeypatch.setattr("fcntl.flock", refuse)
    file.finish_interrupted(rows, NOW)
    assert file.load(rows) == load_root_key(file.path)
