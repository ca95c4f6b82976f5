"""Databases in words for people, and in commands for them to give; none of them holds a password."""

import shlex
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from ostiary.storage.postgres.address import SCHEMES

_SQLITE: Final = "sqlite:///"
_HIDDEN: Final = "***"


def is_postgres(url: str) -> bool:
    """Whether the URL is PostgreSQL's."""
    return url.partition(":")[0] in SCHEMES


def describe(database_url: str) -> str:
    """The database in words that hold no password."""
    if database_url.startswith(_SQLITE):
        return database_url.removeprefix(_SQLITE)
    parts = urlsplit(database_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def masked(database_url: str) -> str:
    """The URL, with stars where it holds a password."""
    if not is_postgres(database_url):
        return database_url
    parts = urlsplit(database_url)
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    asked = parse_qsl(parts.query, keep_blank_values=True)
    said = [(key, _HIDDEN if "password" in key else value) for key, value in asked]
    netloc = f"{name}{colon and f':{_HIDDEN}'}{at}{hosts}"
    return parts._replace(netloc=netloc, query=urlencode(said, safe="*/,")).geturl()


def dropping(database_url: str) -> str:
    """The command that removes a PostgreSQL database."""
    parts = urlsplit(database_url)
    user, _, hosts = parts.netloc.rpartition("@")
    asked = dict(parse_qsl(parts.query))
    found = [urlsplit(f"//{host}") for host in hosts.split(",")]
    given = {
        "host": asked.get("host") or ",".join(one.hostname or "" for one in found),
        "port": asked.get("port") or ",".join(str(one.port or "") for one in found).strip(","),
        "username": asked.get("user") or unquote(user.partition(":")[0]),
    }
    options = [f"--{option}={value}" for option, value in given.items() if value]
    return shlex.join(["dropdb", *options, unquote(parts.path.lstrip("/"))])
