"""`ostiary migrate`: the data of an installation into another database, from SQLite to PostgreSQL and back."""

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ostiary.cli.background import run_async
from ostiary.cli.desk import DEFAULT_DATA, DataOption
from ostiary.cli.output import OUTPUT, Form, print_list, say
from ostiary.cli.settings_file import quoted, replaced_settings, with_database
from ostiary.errors import Malformed, Unavailable
from ostiary.house import SystemClock
from ostiary.ports.trace import Trace, no_trace
from ostiary.settings import ENV_PREFIX, Settings, load_settings
from ostiary.storage.errors import UnusableDatabaseUrl
from ostiary.storage.postgres.address import SCHEMES, decode_address
from ostiary.storage.transfer.move import Moved, Progress, marked, move
from ostiary.storage.transfer.words import describe, dropping, is_postgres, masked
from ostiary.web.control_socket import is_served

_COLUMNS: Final = {"table": "TABLE", "rows": "ROWS"}
_SQLITE: Final = "sqlite:///"
_OWN_FILE: Final = "sqlite:///ostiary.sqlite"
_VARIABLES: Final = frozenset({f"{ENV_PREFIX}DATABASE", f"{ENV_PREFIX}DATABASE_FILE"})


class ServerRuns(Unavailable):
    """A server runs on this data directory; what devices bring it meanwhile would be lost."""

    hint = "Stop it, and on PostgreSQL the other nodes too; devices come back by themselves. Then start again."


class NoSuchTarget(Malformed):
    """`--to` is one bare word, which names neither an engine nor clearly a file."""

    hint = (
        "Write postgresql://user@host/name for PostgreSQL, sqlite for the file in the data directory,"
        " or a path with a slash in it (./name) for another file."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done, settled before anything is."""

    settings: Settings
    target: str
    """The URL, as it will stand in the settings."""
    new_settings: str | None
    """The settings file's next text; None if it is not to be changed."""

    @property
    def source_url(self) -> str:
        return self.settings.database_url

    @property
    def target_url(self) -> str:
        """As the server would read it from the settings."""
        database = SecretStr(self.target)
        return self.settings.model_copy(update={"database": database}).database_url


def migrate(
    to: Annotated[
        str,
        typer.Option(
            envvar="OSTIARY_MIGRATE_TO",
            metavar="DATABASE",
            show_envvar=True,
            show_default=False,
            help="postgresql://user@host/name, or sqlite for the file in the data directory, or a path for another.",
        ),
    ],
    data: DataOption = DEFAULT_DATA,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Say what would be moved, and move nothing; servers may run meanwhile."
        ),
    ] = False,
    keep_settings: Annotated[
        bool, typer.Option("--keep-settings", help="Leave ostiary.toml as it is.")
    ] = False,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Move everything into another, empty database: from SQLite to PostgreSQL, or back.

    Stop all servers first; devices are patient. Every row is copied, read back and compared; then ostiary.toml names
    the new database. The old one stays as it was; beside a SQLite file a mark says that it is not to be served. If anything goes wrong before the end, the new database is as
    empty as before, and the same command can be given again.

    A password in the address is seen by others in the list of processes: put it into OSTIARY_MIGRATE_TO instead.

    Example: ostiary migrate --data /var/lib/ostiary --to postgresql://ostiary@db.example.org/ostiary
    """
    plan = make_plan(load_settings(data), to, keep_settings=keep_settings)
    with _bar() as progress:
        moved, kept = carry_out(plan, progress, dry=check)
    rows = [{"table": table, "rows": number} for table, number in sorted(moved.rows.items())]
    print_list(rows, _COLUMNS, output)
    if check:
        _say_what_would(plan, moved)
    else:
        _say_what_was(plan, moved, kept)


def make_plan(settings: Settings, to: str, *, keep_settings: bool) -> Plan:
    """Raises UnusableDatabaseUrl, NoSuchTarget, SettingsFaulty."""
    target = _as_url(to)
    keeps = keep_settings or _is_named_elsewhere()
    file = settings.places.settings_file
    return Plan(
        settings=settings,
        target=target,
        new_settings=None if keeps else with_database(file.read_text(), target),
    )


def carry_out(
    plan: Plan, progress: Progress, *, dry: bool, trace: Trace = no_trace
) -> tuple[Moved, Path | None]:
    """Move the data, then change the settings; what was moved, and where the old settings are if they were changed.

    Raises:
        ServerRuns, SettingsNotWritable, and what the transfer raises.
    """
    places = plan.settings.places
    if not dry and is_served(places.control_socket):
        raise ServerRuns
    clock = SystemClock()
    kept: Path | None = None

    @contextmanager
    def settle() -> Iterator[None]:
        nonlocal kept
        with ExitStack() as stack:
            # Cut off between the two, a server is refused, and the same command given again goes on.
            stack.enter_context(marked(plan.source_url, plan.target_url, clock))
            if plan.new_settings is not None:
                file = places.settings_file
                kept = stack.enter_context(replaced_settings(file, plan.new_settings))
                trace("settings-changed")
            yield

    moved = run_async(
        move(
            plan.source_url,
            plan.target_url,
            clock=clock,
            progress=progress,
            dry=dry,
            trace=trace,
            settle=settle,
        )
    )
    return moved, kept


class Hearing:
    """Hears how far it has come, and shows it where somebody looks."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def begin(self, rows: int) -> None:
        self._task = self._bar.add_task("rows copied and compared", total=rows)

    def advance(self, rows: int) -> None:
        if self._task is not None:
            self._bar.advance(self._task, rows)


@contextmanager
def _bar() -> Iterator[Hearing]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield Hearing(bar)


def _as_url(to: str) -> str:
    """The URL that `--to` means: a word, a path as shells have them, or a URL.

    Raises:
        UnusableDatabaseUrl, NoSuchTarget: it means none.
    """
    if to == "sqlite":
        return _OWN_FILE
    if to.partition(":")[0] in SCHEMES:
        decode_address(to)
        return to
    if to.startswith(_SQLITE):
        return to
    if "://" in to or not to:
        raise UnusableDatabaseUrl
    if "/" not in to and not Path(to).suffix:
        raise NoSuchTarget(to=to)
    return f"{_SQLITE}{Path(to).absolute()}"


def _is_named_elsewhere() -> bool:
    """Whether the environment says where the database is, over what the file says."""
    return any(name.upper() in _VARIABLES for name in os.environ)


def _say_what_would(plan: Plan, moved: Moved) -> None:
    there = " All of it is there already." if moved.was_there else ""
    say(
        f"Would move {sum(moved.rows.values()):,} rows from {describe(plan.source_url)}"
        f" to {describe(plan.target_url)}.{there} Nothing was changed."
    )
    if is_served(plan.settings.places.control_socket):
        say("A server runs here: stop it, and all other nodes, before you move.")


def _say_what_was(plan: Plan, moved: Moved, kept: Path | None) -> None:
    data, old, new = plan.settings.data, describe(plan.source_url), describe(plan.target_url)
    done = "had been moved before" if moved.was_there else "moved"
    say(f"{sum(moved.rows.values()):,} rows {done} from {old} to {new}, each compared.")
    file = plan.settings.places.settings_file
    if kept is not None:
        say(f"{file} names the new database; as it was before: {kept.name}")
    else:
        where = "OSTIARY_DATABASE" if _is_named_elsewhere() else str(file)
        say(f"{where} still names the old database: change it before a server starts. It is to say")
        say(
            f"  OSTIARY_DATABASE={shlex.quote(masked(plan.target))}"
            if _is_named_elsewhere()
            else f"  database = {quoted(masked(plan.target))}"
        )
    if moved.aside is not None:
        say(f"What lay there, moved away once, is now {moved.aside}.")
    say("Left to do:")
    say(f"  ostiary doctor --data {shlex.quote(str(data))}, then ostiary serve")
    if is_postgres(plan.target_url):
        say("  on every other node: the same `database` in its ostiary.toml")
    elif is_postgres(plan.source_url):
        say("  retire the other nodes: SQLite is served by this one alone")
    say("  The old database is as it was. Never serve it again: it misses what devices bring now.")
    if not is_postgres(plan.source_url):
        say(
            f"  {old}.moved keeps servers from it; only if you go back on purpose, remove that file."
        )
    say(f"  When the new one has proven itself, and is in your backups: {_removal(plan)}")


def _removal(plan: Plan) -> str:
    """How to be rid of the old database."""
    old = describe(plan.source_url)
    if is_postgres(plan.source_url):
        return dropping(plan.source_url)
    files = (Path(f"{old}{end}") for end in ("", "-wal", "-shm", ".lock", ".moved"))
    return f"rm {shlex.join(str(file) for file in files if file.exists())}"
