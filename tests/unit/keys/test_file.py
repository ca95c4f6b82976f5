"""Key files: written once, never shown to others, never overwritten."""

import stat
from pathlib import Path

import pytest

from ostiary.keys.file import (
    KeyFileDamaged,
    KeyFileExists,
    KeyFileExposed,
    KeyFileMissing,
    create_root_key,
    load_root_key,
    replace_key_file,
    write_key_file,
)


def test_a_root_key_is_32_random_bytes_that_only_we_may_read(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    key = create_root_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(key) == 32
    assert load_root_key(path) == key
    assert create_root_key(tmp_path / "another") != key


def test_a_root_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    key = create_root_key(path)
    with pytest.raises(KeyFileExists):
        create_root_key(path)
    assert load_root_key(path) == key


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620, 0o610])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "root.key"
    create_root_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileExposed) as caught:
        load_root_key(path)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("contents", [b"", b"short", b"x" * 33])
def test_what_is_no_root_key_is_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "root.key"
    write_key_file(path, contents)
    with pytest.raises(KeyFileDamaged):
        load_root_key(path)


def test_a_missing_key_and_a_directory_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(KeyFileMissing):
        load_root_key(tmp_path / "none")
    with pytest.raises(KeyFileDamaged):
        load_root_key(tmp_path)


def test_a_link_put_in_the_way_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "root.key").symlink_to(elsewhere)
    with pytest.raises(KeyFileExists):
        create_root_key(tmp_path / "root.key")
    assert not elsewhere.exists()


def test_a_replaced_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "tls.key"
    for contents in (b"one", b"two"):
        replace_key_file(path, contents)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["tls.key"]
