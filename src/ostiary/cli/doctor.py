"""`ostiary doctor`: everything that can be looked at, and one exit code for a monitor."""

import shutil
import stat
from typing import Annotated, Any, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.failure import Exit, Failed, failure_of
from ostiary.cli.output import OUTPUT, Form, print_list
from ostiary.errors import OstiaryError
from ostiary.house import examine_closed
from ostiary.ports.storage import StorageBusy, StorageFailed
from ostiary.services.health import Finding, database_finding
from ostiary.settings import Places, Settings, host_and_port, load_settings
from ostiary.web.control_socket import is_served

_COLUMNS: Final = {"severity": "", "subject": "WHAT", "sentence": "FOUND", "todo": "TO DO"}
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_LITTLE_SPACE: Final = 1024**3
_TOO_LITTLE_SPACE: Final = 100 * 1024**2

Row = dict[str, Any]


def doctor(data: DataOption = DEFAULT_DATA, output: Annotated[Form, OUTPUT] = Form.TABLE) -> None:
    """Look at files and their modes, keys, database, disk, clock, certificates, pushes and alerts.

    Exit code 0: all is well; 4: something to look at; 5: something fails, or soon will.

    Example: ostiary doctor --data /var/lib/ostiary -o json
    """
    settings = load_settings(data)
    rows = [*_files(settings.places), _disk(settings.places), _server(settings.places)]
    rows += _address(settings)
    rows += _house(settings)
    print_list(rows, _COLUMNS, output)
    severities = {row["severity"] for row in rows}
    if "critical" in severities:
        raise typer.Exit(Exit.HEALTH_CRITICAL)
    if "warning" in severities:
        raise typer.Exit(Exit.HEALTH_WARNING)


def _house(settings: Settings) -> list[Row]:
    """What only an open house can tell; that it does not open is the finding then."""
    try:
        inside: list[Row] = ask(settings.data, "GET", "/health")
    except (StorageBusy, StorageFailed) as error:
        return [*_closed(settings), _found(database_finding(error))]
    except OstiaryError as error:
        failure = failure_of(error)
        closed = _row("critical", "database and keys", failure.sentence, failure.hint)
        return [*_closed(settings), closed]
    except Failed as failure:
        return [*_closed(settings), _row("critical", "server", failure.sentence, failure.hint)]
    return [_row("ok", "database and keys", "Open, and the root key fits."), *inside]


def _closed(settings: Settings) -> list[Row]:
    """What can be told all the same. A key that is missing or damaged is told of by whoever looks at the files."""
    try:
        return [_found(finding) for finding in examine_closed(settings)]
    except OstiaryError:
        return []


def _found(finding: Finding) -> Row:
    return _row(finding.severity.name.lower(), finding.subject, finding.sentence, finding.todo)


def _files(places: Places) -> list[Row]:
    rows = []
    private = [
        places.data,
        places.keys,
        places.api_token,
        places.settings_file,
        *(key for _, key in (places.device_ca, places.tls_ca, places.tls)),
        places.root_key,
        *places.keys.glob(f"{places.root_key.name}.*"),  # replaced ones open backups
    ]
    for path in private:
        try:
            mode = path.stat().st_mode
        except OSError:
            if path != places.api_token:  # once handed over, it need not stay here
                rows.append(
                    _row("critical", str(path), "It is missing.", "Restore it from a copy.")
                )
            continue
        if mode & _OTHERS:
            said = f"Others on this machine may read it (mode {stat.S_IMODE(mode):o})."
            rows.append(_row("critical", str(path), said, f"chmod go= {path}"))
    return rows or [_row("ok", "files", "All there, and private.")]


def _disk(places: Places) -> Row:
    free = shutil.disk_usage(places.data).free
    said = f"{free // 1024**2:,} MiB free."
    if free < _TOO_LITTLE_SPACE:
        return _row(
            "critical", "disk", said, "Devices are answered 503 once it is full: make room."
        )
    if free < _LITTLE_SPACE:
        return _row("warning", "disk", said, "Make room.")
    return _row("ok", "disk", said)


def _server(places: Places) -> Row:
    if is_served(places.control_socket):
        return _row("ok", "server", "Running.")
    return _row("warning", "server", "Not running.", "ostiary serve")


def _address(settings: Settings) -> list[Row]:
    """A URL on this machine leads nowhere unless the server listens on its port."""
    address = settings.loopback_address
    if address is None or address[1] == settings.listen_address[1]:
        return []
    said = f"Devices are told {settings.url}, but the server listens on {settings.listen}."
    todo = f'Set listen = "{host_and_port(*address)}" in {settings.places.settings_file}.'
    return [_row("warning", "address", said, todo)]


def _row(severity: str, subject: str, sentence: str, todo: str = "") -> Row:
    return {"severity": severity, "subject": subject, "sentence": sentence, "todo": todo}
