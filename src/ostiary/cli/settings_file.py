"""`ostiary.toml` as a text: one line of it changed, everything that people wrote around it kept."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ostiary.errors import Unavailable
from ostiary.keys.file import replace_key_file, write_key_file
from ostiary.settings import SettingsFaulty

_KEPT: Final = "before-migrate"
_LINE: Final = re.compile(r"^\s*database\s*=")
_EXAMPLE: Final = re.compile(r"^\s*#\s*database\s*=")
_TABLE: Final = re.compile(r"^\s*\[")


class SettingsNotWritable(Unavailable):
    """The settings file cannot be changed; it is as it was."""

    hint = "Let this user write in the directory, or change `database` in it by hand."


def quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def with_database(text: str, database_url: str) -> str:
    """The settings with another `database`, and nothing else changed.

    Raises:
        SettingsFaulty: they are written in a way in which this cannot be done for sure.
    """
    lines = text.splitlines(keepends=True)
    top = next((number for number, line in enumerate(lines) if _TABLE.match(line)), len(lines))
    said = f"database = {quoted(database_url)}\n"
    if named := [number for number in range(top) if _LINE.match(lines[number])]:
        lines[named[0]] = said
    else:
        examples = [number for number in range(top) if _EXAMPLE.match(lines[number])]
        lines.insert(examples[0] + 1 if examples else 0, said)
    changed = "".join(lines)
    if _read(changed) != {**_read(text), "database": database_url}:
        raise SettingsFaulty(
            "ostiary.toml is written in a way that this command cannot change for you; nothing was done"
        )
    return changed


@contextmanager
def replaced_settings(file: Path, text: str) -> Iterator[Path]:
    """Put new settings in the place of the old ones, all at once; where the old ones are kept.

    If the body raises, the old ones are back in their place.

    Raises:
        SettingsNotWritable: nothing was changed.
    """
    try:
        kept, before = _free_name(file), file.read_bytes()
        write_key_file(kept, before)
        replace_key_file(file, text.encode())
    except OSError as error:
        raise SettingsNotWritable(f"{file} cannot be changed: {error.strerror}") from None
    try:
        yield kept
    except BaseException:
        with suppress(OSError):
            replace_key_file(file, before)
            kept.unlink()
        raise


def _free_name(file: Path) -> Path:
    kept = file.with_name(f"{file.name}.{_KEPT}")
    number = 1
    while kept.exists():
        number += 1
        kept = file.with_name(f"{file.name}.{_KEPT}-{number}")
    return kept


def _read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
