"""Why PostgreSQL did not do what it was asked, in our words; and which server and database that was.

Nothing that the server or the driver says is repeated: it may hold a user's name, or part of the URL.
"""

import errno
import socket
import ssl
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg
from asyncpg.exceptions import ClientConfigurationError, TargetServerAttributeNotMatched

from ostiary.ports.storage import StorageFailed

_DEFAULT_PORT: Final = 5432


class DatabaseUnknown(StorageFailed):
    """The server has no database of this name."""

    hint = (
        "Create it there (`createdb --owner=USER NAME`), or mend the name in `database` of ostiary.toml,"
        " or in OSTIARY_DATABASE."
    )


class DatabaseLoginRefused(StorageFailed):
    """The database server does not let this user in."""

    hint = (
        "Mend user and password in `database` of ostiary.toml, or in OSTIARY_DATABASE (a password's :/?#@ are written"
        " %3A%2F%3F%23%40). Does the user exist on the server, and does its pg_hba.conf let it in from here?"
    )


class DatabaseFull(StorageFailed):
    """The database server takes no more connections."""

    hint = (
        "Raise max_connections on the server, or let each process take fewer: ?pool_size= in the database URL."
        " Each node needs pool_size + 3 for each of its processes."
    )


class DatabaseNotReady(StorageFailed):
    """The database server starts or stops just now."""

    hint = (
        "Wait a moment; devices repeat by themselves. If it lasts, the server's own log says why."
    )


class DatabaseOnlyReads(StorageFailed):
    """The database takes no changes: it is a copy of another one, or is set to be read only."""

    hint = (
        "Name the server that takes writes in the database URL, or all of them (postgresql://USER@one,two/NAME);"
        " or undo default_transaction_read_only on the server."
    )


class DatabasePermissionDenied(StorageFailed):
    """The database user may not do what Ostiary has to do."""

    hint = (
        "The user must own the database: `ALTER DATABASE name OWNER TO user`, and its tables, too."
    )


class DatabaseUnreachable(StorageFailed):
    """The database server does not answer."""

    hint = (
        "Does the server run, and does it listen there? Mend host and port in `database` of ostiary.toml, or in"
        " OSTIARY_DATABASE; or open the firewall. Devices repeat by themselves."
    )


class DatabaseUrlRefused(StorageFailed):
    """The database URL holds a parameter that does not exist, or a value that does not fit."""

    hint = "Mend `database` in ostiary.toml, or OSTIARY_DATABASE: what follows `?` means what it means to libpq."


_BY_STATE: Final[Mapping[str, tuple[type[StorageFailed], str]]] = MappingProxyType(
    {
        "3D000": (DatabaseUnknown, "no such database"),
        "28P01": (DatabaseLoginRefused, "wrong password, or no such user"),
        "28000": (DatabaseLoginRefused, "the server does not admit this user from here"),
        "53300": (DatabaseFull, "too many connections"),
        "57P03": (DatabaseNotReady, "it is starting up"),
        "57P01": (DatabaseNotReady, "it is shutting down"),
        "57P02": (DatabaseNotReady, "it crashed and starts again"),
        "25006": (DatabaseOnlyReads, "it only reads"),
        "42501": (DatabasePermissionDenied, "permission denied"),
        "42704": (DatabaseUrlRefused, "unknown parameter"),
        "22023": (DatabaseUrlRefused, "a parameter's value does not fit"),
        "55P02": (DatabaseUrlRefused, "a parameter cannot be set here"),
        "53100": (StorageFailed, "its disk is full"),
    }
)
_ONLY_WHEN_CONNECTING: Final = frozenset({"42704", "22023", "55P02"})
"""In a statement they say that something of ours does not exist."""


def where(url: str) -> dict[str, object]:
    """Host, port and name of the database in a URL; never a user or a password, nor what might be part of one.

    A password whose @, / or # are not percent-encoded ends up in any part of the URL: then nothing is told.
    """
    parts = urlsplit(url)
    if url.count("@") != min(1, parts.netloc.count("@")):
        return {}
    try:
        asked = dict(parse_qsl(parts.query))
        port = int(asked.get("port") or parts.port or _DEFAULT_PORT)
    except ValueError:
        return {}
    told: dict[str, object] = {}
    if host := unquote(parts.hostname or "") or asked.get("host", ""):
        told |= {"host": host, "port": port}
    if name := unquote(parts.path[1:]) or asked.get("dbname", "") or asked.get("database", ""):
        told["database"] = name
    return told


def not_connected(url: str, trouble: BaseException) -> StorageFailed:
    """Why one server did not take us in."""
    kind, reason = _why_not_connected(trouble)
    return kind("the database cannot be reached", **where(url), reason=reason)


def none_connected(troubles: Sequence[StorageFailed]) -> StorageFailed:
    """Why none of several servers took us in: of the kind of the last, with the reasons of all."""
    *_, last = troubles
    if len(troubles) == 1:
        return last
    said = [f"{one.facts.get('host', 'local')}: {one.facts['reason']}" for one in troubles]
    facts = {name: value for name, value in last.facts.items() if name == "database"}
    return type(last)(last.detail, **facts, reason="; ".join(said))


def refused(sqlstate: str, place: Mapping[str, object]) -> StorageFailed:
    """Why the server did not run a statement, once it had taken us in."""
    facts = {**place, "sqlstate": sqlstate}
    known = None if sqlstate in _ONLY_WHEN_CONNECTING else _BY_STATE.get(sqlstate)
    if known is None:
        return StorageFailed("the database refused", **facts)
    kind, reason = known
    return kind("the database refused", **facts, reason=reason)


def _why_not_connected(trouble: BaseException) -> tuple[type[StorageFailed], str]:
    if isinstance(trouble, asyncpg.PostgresError):
        state = trouble.sqlstate or ""
        return _BY_STATE.get(state, (StorageFailed, f"refused, SQLSTATE {state}"))
    for kind, found in _BY_CLASS:
        if isinstance(trouble, kind):
            return found
    # A host with several addresses: the numbers of all errors stand in one text.
    for number, reason in _BY_NUMBER:
        if getattr(trouble, "errno", None) == number or f"[Errno {number}]" in str(trouble):
            return DatabaseUnreachable, reason
    return DatabaseUnreachable, "no connection"


_BY_CLASS: Final[tuple[tuple[type[BaseException], tuple[type[StorageFailed], str]], ...]] = (
    (TargetServerAttributeNotMatched, (DatabaseOnlyReads, "it only reads")),
    (ClientConfigurationError, (DatabaseUrlRefused, "a parameter's value does not fit")),
    (ssl.SSLCertVerificationError, (DatabaseUnreachable, "its TLS certificate is not trusted")),
    (ssl.SSLError, (DatabaseUnreachable, "TLS failed")),
    (socket.gaierror, (DatabaseUnreachable, "no such host")),
    (ConnectionRefusedError, (DatabaseUnreachable, "nobody listens there")),
    (TimeoutError, (DatabaseUnreachable, "timed out")),
    (FileNotFoundError, (DatabaseUnreachable, "no such socket or file")),
    (PermissionError, (DatabaseUnreachable, "this user may not use the socket")),
    (ConnectionResetError, (DatabaseUnreachable, "it hung up")),
)
"""The first that fits."""
_BY_NUMBER: Final = (
    (errno.ECONNREFUSED, "nobody listens there"),
    (errno.EHOSTUNREACH, "no way to that host"),
    (errno.ENETUNREACH, "no way to that host"),
    (errno.ETIMEDOUT, "timed out"),
)
