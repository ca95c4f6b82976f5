"""One line of ostiary.toml is changed, and everything that people wrote around it is kept."""

import tomllib
from pathlib import Path

import pytest

from ostiary.cli.settings_file import SettingsNotWritable, replaced_settings, with_database
from ostiary.settings import SettingsFaulty

URL = 'postgresql://ann:p%40ss"\\@db/ostiary'


@pytest.mark.parametrize(
    "text",
    [
        'url = "u"\n',
        'url = "u"\n# database = "sqlite:///ostiary.sqlite"\n\n[tls]\nenabled = true\n',
        'url = "u"\n  database="sqlite:///a"  # mine\ntrust_ca = [\n  "a",\n]\n[tls]\n',
        "[tls]\nenabled = true\n",
        'database = "x"',
        "",
    ],
)
def test_only_the_database_is_another_one(text: str) -> None:
    changed = with_database(text, URL)
    assert tomllib.loads(changed) == {**tomllib.loads(text), "database": URL}
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("database")]
    assert [line for line in changed.splitlines() if not line.startswith("database = ")] == kept


@pytest.mark.parametrize(
    "text",
    [
        'database = """\nsqlite:///a"""\n',
        "url = '''\ndatabase = 1'''\n",
        'trust_ca = [\n[]\n]\n"database" = "x"\n',
        "broken",
    ],
)
def test_what_cannot_be_changed_for_sure_is_left_to_people(text: str) -> None:
    with pytest.raises(SettingsFaulty):
        with_database(text, URL)


def test_what_was_there_is_kept_beside(tmp_path: Path) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_text("first")
    with replaced_settings(file, "second") as kept:
        assert kept.read_text() == "first"
    with replaced_settings(file, "third") as kept:
        assert kept.read_text() == "second"
    assert file.read_text() == "third"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_that_cannot_be_changed_is_said(tmp_path: Path) -> None:
    file = tmp_path / "nothing" / "ostiary.toml"
    with pytest.raises(SettingsNotWritable), replaced_settings(file, ""):
        pass


def test_settings_are_as_before_if_what_they_were_changed_for_fails(tmp_path: Path) -> None:
    file = tmp_path / "ostiary.toml"
    file.write_text("first")
    with pytest.raises(ZeroDivisionError), replaced_settings(file, "second"):
        raise ZeroDivisionError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"ostiary.toml": "first"}
