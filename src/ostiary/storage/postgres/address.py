"""A database URL, taken apart: what the driver needs, and what it does not know."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from typing_extensions import override

from ostiary.storage.errors import UnusableDatabaseUrl

SCHEMES: Final = ("postgresql", "postgres")
_MOST_CONNECTIONS: Final = 100
_SWITCH: Final = {"on": True, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """Where the database is, and how to treat it.

    The URL may hold a password: it is never shown.
    """

    url: str
    pool_size: int = 8
    """Connections of one node: `?pool_size=8`."""
    is_direct: bool = True
    """False behind a transaction pooler, `?prepared=off`: a statement may meet another server process each time, so
    nothing is prepared, set for a session, or listened to."""

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(pool_size={self.pool_size}, is_direct={self.is_direct})"


def decode_address(database_url: str) -> PostgresAddress:
    """The address in `postgresql://user@host/name?pool_size=8&prepared=on`.

    Every other parameter (`sslmode`, `host` for a socket's directory, …) means what it means to libpq.

    Raises:
        UnusableDatabaseUrl: it is no such URL; what it says is not repeated.
    """
    try:
        parts = urlsplit(database_url)
        asked = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        pool_size = int(asked.pop("pool_size", "8"))
        is_direct = _SWITCH[asked.pop("prepared", "on")]
    except (ValueError, KeyError):
        raise UnusableDatabaseUrl from None
    if parts.scheme not in SCHEMES or not 1 <= pool_size <= _MOST_CONNECTIONS:
        raise UnusableDatabaseUrl
    url = urlunsplit(parts._replace(query=urlencode(asked)))
    return PostgresAddress(url=url, pool_size=pool_size, is_direct=is_direct)
