"""A database URL, taken apart: what the driver needs, and what it does not know."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from asyncpg.connect_utils import SessionAttribute
from typing_extensions import override

from ostiary.storage.errors import UnusableDatabaseUrl

SCHEMES: Final = ("postgresql", "postgres")
_MOST_CONNECTIONS: Final = 100
_SWITCH: Final = {"on": True, "off": False}
_ROLES: Final = {
    "primary": SessionAttribute.primary,
    "read-write": SessionAttribute.primary,
    "any": SessionAttribute.any,
}
"""Nothing of ours works on a server that only reads, whatever else libpq can ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """Where the database is, and how to treat it.

    The URL may hold a password: it is never shown.
    """

    url: str
    """Where the only server is, or the first of several."""
    others: tuple[str, ...] = ()
    """Where the database may be instead: `postgresql://one,two/name`, as libpq has it. Tried one after the other by us,
    because the driver has one time limit for all, and a machine that is off would use it up."""
    role: SessionAttribute = SessionAttribute.primary
    """Which server will do: one that takes writes, unless `?target_session_attrs=any` says otherwise."""
    pool_size: int = 8
    """Connections of one node: `?pool_size=8`."""
    is_direct: bool = True
    """False behind a transaction pooler, `?prepared=off`: a statement may meet another server process each time, so
    nothing is prepared, set for a session, or listened to."""

    _answered: list[str] = field(default_factory=list, compare=False)

    @property
    def urls(self) -> tuple[str, ...]:
        """Every server: the one that answered last, then the others in the order given."""
        given = (self.url, *self.others)
        return tuple(sorted(given, key=lambda url: url not in self._answered))

    def note_answer(self, url: str) -> None:
        """This one took us in. The one before may be a machine that is off, for which to wait each time."""
        self._answered[:] = [url]

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(pool_size={self.pool_size}, is_direct={self.is_direct})"


def decode_address(database_url: str) -> PostgresAddress:
    """The address in `postgresql://user@host/name?pool_size=8&prepared=on`.

    Every other parameter (`sslmode`, `host` for a socket's directory, …) means what it means to libpq; so do several
    hosts, `postgresql://user@one:5432,two:5432/name`, of which the one that takes writes is used.

    Raises:
        UnusableDatabaseUrl: it is no such URL; what it says is not repeated.
    """
    try:
        parts = urlsplit(database_url)
        asked = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        pool_size = int(asked.pop("pool_size", "8"))
        is_direct = _SWITCH[asked.pop("prepared", "on")]
        role = _ROLES[asked.pop("target_session_attrs", "primary")]
        first, *others = _one_by_one(parts.netloc, asked)
    except (ValueError, KeyError):
        raise UnusableDatabaseUrl from None
    if parts.scheme not in SCHEMES or not 1 <= pool_size <= _MOST_CONNECTIONS:
        raise UnusableDatabaseUrl
    urls = [
        f"{parts.scheme}://{netloc}{parts.path}" + (f"?{urlencode(query)}" if query else "")
        for netloc, query in (first, *others)
    ]
    return PostgresAddress(
        url=urls[0], others=tuple(urls[1:]), role=role, pool_size=pool_size, is_direct=is_direct
    )


def _one_by_one(netloc: str, asked: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Network location and parameters for each host alone. Raises ValueError where hosts and ports do not go together."""
    user, at, hosts = netloc.rpartition("@")
    if hosts or "host" not in asked:
        ports = _shared(asked, "port", len(hosts.split(",")))
        return [
            (user + at + host, asked if port is None else asked | {"port": port})
            for host, port in zip(hosts.split(","), ports, strict=True)
        ]
    named = asked["host"].split(",")
    ports = _shared(asked, "port", len(named))
    return [
        (netloc, asked | {"host": host} | ({} if port is None else {"port": port}))
        for host, port in zip(named, ports, strict=True)
    ]


def _shared(asked: dict[str, str], name: str, count: int) -> list[str | None]:
    """A parameter for each of several hosts: its own, or one for all."""
    if name not in asked:
        return [None] * count
    values = asked[name].split(",")
    return [*(values * count if len(values) == 1 else values)]
