"""`ostiary init`: a new installation, without a question where flags answer all of them."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from ostiary.cli.background import run_async
from ostiary.cli.failure import Exit, Failed
from ostiary.cli.output import say
from ostiary.cli.settings_file import quoted
from ostiary.errors import Conflicting, Unavailable
from ostiary.house import SystemClock, open_house
from ostiary.keys.authority import create_device_authority
from ostiary.keys.file import create_root_key, write_key_file
from ostiary.keys.tls import create_tls_authority, issue_server_certificate
from ostiary.keys.wrapping import RootKeyDoesNotMatch
from ostiary.services.authorities import load_authorities
from ostiary.services.caller import Scope
from ostiary.settings import (
    Places,
    Settings,
    SettingsFaulty,
    check_settings,
    host_and_port,
    load_settings,
)
from ostiary.web.journal import open_journal


class InstallationExists(Conflicting):
    """There is an installation in this directory already; nothing was changed."""

    hint = "Keep it: its keys cannot be made again. Choose another --data for a new one."


class DatabaseInUse(Conflicting):
    """The database belongs to another installation: its keys are not the ones that were made here."""

    hint = (
        "Name an empty database with --database. If this is to be one more node of that installation, copy the data"
        " directory of one that runs, keys and all, in place of `ostiary init`."
    )


class DirectoryInUse(Conflicting):
    """The directory for a new installation holds other files; nothing was changed."""

    hint = "Name a new or an empty directory with --data."


class DirectoryUnusable(Unavailable):
    """The directory for a new installation cannot be made or written."""

    hint = "Name another with --data, or let this user write there."


_NO_MATTER: Final = frozenset({"lost+found", "keys"})
"""What an empty directory may hold: a volume's own, and what an attempt leaves that was killed at its start."""
_FILE: Final = Template(
    """\
# Ostiary's settings. A flag wins over an environment variable (OSTIARY_LISTEN; OSTIARY_APNS__HOST, two
# underscores for a table; OSTIARY_DATABASE_FILE for a secret in a file), and that wins over this file.
# Policies are not here: `ostiary policy list`.

# The address that devices know this server by. Never change it: enrolled devices keep it for life.
url = $url

# Where to listen, HOST:PORT.
listen = $listen

# Where the data lies; relative to this directory. Default: ostiary.sqlite beside this file.
$database

# Foreign authorities whose certificates devices may hold (external SCEP or ACME).
trust_ca = $trust_ca

# Network users of Macs, in a file made by Apache's htdigest with the realm Ostiary.
# network_users = "network-users"

[tls]
# false: a proxy before us ends TLS.
enabled = $tls
# Your own certificate chain and key instead of the built-in ones:
# certificate = "/etc/ssl/mdm.pem"
# key = "/etc/ssl/mdm.key"

[apns]
# Apple's push service. Another host is for a simulated one.
# host = "api.push.apple.com"
# port = 443
# ca = "apple-simulator.pem"
# Repeated pushes a second, of each node that pushes; first pushes for new commands do not count, or wait.
# repeats_per_second = 100

[proxy]
# Proxies (addresses or networks) that are believed, and the header in which they hand over a device's
# certificate. They must remove that header from what clients send.
# trusted = ["127.0.0.1"]
# certificate_header = "Client-Cert"

[log]
# auto (for people on a terminal, JSON elsewhere), json or console; debug, info, warning or error.
# format = "auto"
# level = "info"

[bounds]
# connections = 4096
# body_budget_bytes = 67108864
# header_timeout_seconds = 15
# body_idle_seconds = 15
# keep_alive_seconds = 75
# drain_seconds = 20
"""
)


def init(
    data: Annotated[
        Path | None,
        typer.Option(
            help="The directory for settings, keys and database; new, or empty.", file_okay=False
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The address that devices will know: https://mdm.example.org")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="A database URL; SQLite in the directory by default.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT to listen on; by default 127.0.0.1:8443, or the port of a --url on this machine."
        ),
    ] = None,
    no_tls: Annotated[bool, typer.Option("--no-tls", help="A proxy before us ends TLS.")] = False,
    trust_ca: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A foreign CA whose certificates devices may hold, in PEM; may be given again.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Make a new installation: settings, keys (0600), the device CA, TLS, the database, and an API token.

    Asks for what it needs when called bare on a terminal.

    Example: ostiary init --data /var/lib/ostiary --url https://mdm.example.org
    """
    if data is None or url is None:
        data, url, listen = _ask(data, url, listen)
    places = Places(data.absolute())
    _demand_free(places)
    contents = _contents(places, url, database, listen, trust_ca or [], tls=not no_tls)
    for file in trust_ca or []:
        load_authorities(file)  # says now, before anything is made, that a file holds no authority
    try:
        with _all_or_nothing(places):
            _make(places, contents, trust_ca or [])
    except OSError as error:
        raise DirectoryUnusable(
            f"{error.filename or data} cannot be written: {error.strerror}"
        ) from None
    _report(load_settings(places.data))


def _demand_free(places: Places) -> None:
    """Raises InstallationExists, DirectoryInUse, DirectoryUnusable."""
    try:
        if places.settings_file.exists() or places.root_key.exists():
            raise InstallationExists(path=places.data)
        held = sorted(path.name for path in places.data.iterdir() if path.name not in _NO_MATTER)
        held += sorted(path.name for path in places.keys.glob("*"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise DirectoryUnusable(f"{places.data} cannot be read: {error.strerror}") from None
    if held:
        raise DirectoryInUse(path=places.data, holds=held[0])


def _ask(data: Path | None, url: str | None, listen: str | None) -> tuple[Path, str, str | None]:
    """The wizard; a pipe is told what is missing instead."""
    if not sys.stdin.isatty():
        missing = [flag for flag, value in (("--data", data), ("--url", url)) if value is None]
        raise Failed(
            f"without a terminal to ask on, {' and '.join(missing)} must be given",
            "See `ostiary init --help`.",
            Exit.USAGE,
        )
    say("A new Ostiary. Three questions; everything else can be changed later in ostiary.toml.")
    data = data or Path(
        typer.prompt("Directory for settings, keys and database", default="./ostiary-data")
    )
    while url is None:
        answer = str(
            typer.prompt("Address that devices will know, for ever (https://mdm.example.org)")
        )
        url = _accepted(data, answer, url=answer)
    default = _loopback_listen(data, url) or "0.0.0.0:8443"
    while listen is None:
        answer = str(typer.prompt("Listen on", default=default))
        listen = _accepted(data, answer, url=url, listen=answer)
    return data, url, listen


def _accepted(data: Path, answer: str, **contents: str) -> str | None:
    """The answer if the settings take it; otherwise what is wrong is said, and it is asked again."""
    try:
        check_settings(data, contents, {})
    except SettingsFaulty as fault:
        say(str(fault))
        return None
    return answer


def _loopback_listen(data: Path, url: str, *, tls: bool = True) -> str | None:
    """Where to listen for a URL that leads to this very machine, if it does. Raises SettingsFaulty."""
    settings = check_settings(data, {"url": url, "tls": {"enabled": tls}}, {})
    chosen = "listen" in settings.model_fields_set  # by OSTIARY_LISTEN
    if chosen or settings.loopback_address is None or urlsplit(settings.url).port is None:
        return None
    return host_and_port(*settings.loopback_address)


def _contents(
    places: Places,
    url: str,
    database: str | None,
    listen: str | None,
    trust_ca: list[Path],
    *,
    tls: bool,
) -> str:
    """The settings file; checked as the server will check it. Raises SettingsFaulty."""
    listen = listen or _loopback_listen(places.data, url, tls=tls)
    trusted = [_copy_name(number, file) for number, file in enumerate(trust_ca)]
    checked = {"url": url, "listen": listen, "database": database}
    settings = check_settings(places.data, {k: v for k, v in checked.items() if v is not None}, {})
    line = '# database = "sqlite:///ostiary.sqlite"'
    return _FILE.substitute(
        url=quoted(settings.url),
        listen=quoted(settings.listen),
        database=line if database is None else f"database = {quoted(database)}",
        trust_ca=f"[{', '.join(quoted(name) for name in trusted)}]",
        tls="true" if tls else "false",
    )


def _make(places: Places, contents: str, trust_ca: list[Path]) -> None:
    now = SystemClock().now()
    for directory in (places.data, places.keys):
        directory.mkdir(mode=0o700, parents=directory is places.data, exist_ok=True)
    create_root_key(places.root_key)
    create_device_authority(*places.device_ca, now=now)
    write_key_file(
        places.settings_file, contents.encode()
    )  # 0600: a database URL may hold a password
    settings = load_settings(places.data)
    create_tls_authority(*places.tls_ca, hosts=settings.hosts, now=now)
    issue_server_certificate(places.tls_ca, places.tls, hosts=settings.hosts, now=now)
    for number, file in enumerate(trust_ca):
        shutil.copyfile(file, places.data / _copy_name(number, file))
    authorities = [places.device_ca, *([places.tls_ca] if settings.tls.enabled else [])]
    places.ca_bundle.write_bytes(
        b"".join(certificate.read_bytes() for certificate, _ in authorities)
    )
    run_async(_make_api_token(settings))


async def _make_api_token(settings: Settings) -> None:
    open_journal("console", "error")
    try:
        async with open_house(settings, create=True) as house:
            token = await house.tokens.create("first", list(Scope), actor="ostiary init")
    except RootKeyDoesNotMatch:
        raise DatabaseInUse from None
    write_key_file(settings.places.api_token, token.reveal() + b"\n")


@contextmanager
def _all_or_nothing(places: Places) -> Iterator[None]:
    """Take away what a failed attempt made, so that the next one finds what this one found."""
    before = set(places.data.iterdir()) if places.data.is_dir() else None
    try:
        yield
    except BaseException:
        if before is None:
            shutil.rmtree(places.data, ignore_errors=True)
        else:
            for path in set(places.data.iterdir()) - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _report(settings: Settings) -> None:
    places = settings.places
    say(f"A new Ostiary is in {places.data}.")
    say(
        "  ostiary.toml  settings    keys/  keep a copy in a safe place: without it the database stays shut"
    )
    say("  ca.pem        what clients may trust    api-token  for programs, all scopes")
    say(f"Next: ostiary serve --data {places.data}")
    say(
        f"Then: ostiary apns csr --data {places.data}, and ostiary enroll invite --data {places.data}"
    )


def _copy_name(number: int, file: Path) -> str:
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in file.stem)[:40]
    return f"trusted-{number + 1}-{stem}.pem"
