"""Why the database does not let us in: said by name and with what to do, and without user, password or URL."""

import socket
import traceback
from urllib.parse import urlsplit, urlunsplit

import pytest

from conformance.storage_values import MovedClock
from ostiary.errors import Unavailable
from ostiary.ports.storage import StorageFailed
from ostiary.storage.postgres.address import decode_address
from ostiary.storage.postgres.pool import HOT, open_session
from ostiary.storage.postgres.refusals import (
    DatabaseFull,
    DatabaseLoginRefused,
    DatabaseNotReady,
    DatabaseOnlyReads,
    DatabasePermissionDenied,
    DatabaseUnknown,
    DatabaseUnreachable,
    DatabaseUrlRefused,
    refused,
    where,
)
from ostiary.storage.postgres.storage import open_postgres
from postgres_server import PostgresServer

HIDDEN = ("canary-user", "canary-word")


async def failure(url: str) -> StorageFailed:
    """What asking at this URL comes to; nothing of the URL's secrets is in it."""
    with pytest.raises(StorageFailed) as caught:
        await open_session(decode_address(url), HOT, timeout_seconds=5)
    told = "".join(traceback.format_exception(caught.value, chain=False))
    assert not [word for word in HIDDEN if word in told + str(caught.value.facts)]
    assert caught.value.hint != StorageFailed.hint
    return caught.value


def at(postgres_url: str, *, user: str = "postgres", name: str = "", query: str = "") -> str:
    parts = urlsplit(postgres_url)
    path = f"/{name}" if name else parts.path
    return urlunsplit((parts.scheme, f"{user}@", path, f"{parts.query}{query}", ""))


async def test_a_database_that_does_not_exist_is_named(postgres_url: str) -> None:
    said = await failure(at(postgres_url, name="elsewhere"))
    assert type(said) is DatabaseUnknown
    assert said.facts["database"] == "elsewhere"
    assert said.facts["reason"] == "no such database"
    assert "createdb" in said.hint


async def test_a_user_whom_the_server_does_not_know_is_not_named(postgres_url: str) -> None:
    said = await failure(at(postgres_url, user="canary-user:canary-word"))
    assert type(said) is DatabaseLoginRefused
    assert "pg_hba.conf" in said.hint


@pytest.mark.parametrize("query", ["&nonsense=canary-word", "&sslmode=canary-word"])
async def test_a_parameter_that_does_not_fit_is_told_from_a_server_that_is_away(
    postgres_url: str, query: str
) -> None:
    assert type(await failure(at(postgres_url, query=query))) is DatabaseUrlRefused


async def test_a_port_where_nobody_listens_is_named_with_its_host() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        said = await failure(f"postgresql://canary-user:canary-word@127.0.0.1:{port}/mdm")
    assert type(said) is DatabaseUnreachable
    assert said.facts == {
        "host": "127.0.0.1", "port": port, "database": "mdm", "reason": "nobody listens there",
    }  # fmt: skip
    assert str(said).startswith("the database cannot be reached (host=127.0.0.1, port=")


async def test_a_socket_that_is_not_there_is_told() -> None:
    said = await failure("postgresql://canary-user@/mdm?host=/nowhere")
    assert said.facts["reason"] == "no such socket or file"


async def test_a_host_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    said = await failure("postgresql://canary-user:canary-word@db.example.org/mdm")
    assert (said.facts["host"], said.facts["reason"]) == ("db.example.org", "no such host")


async def test_of_several_servers_each_has_its_reason(postgres_url: str) -> None:
    folder = dict(part.split("=") for part in urlsplit(postgres_url).query.split("&"))["host"]
    url = f"postgresql://canary-user:canary-word@/elsewhere?host=%2Fnowhere,{folder}"
    said = await failure(url)
    assert type(said) is DatabaseLoginRefused
    assert "/nowhere: no such socket or file; " in str(said.facts["reason"])


async def test_a_database_that_only_reads_is_not_said_to_be_away(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = urlsplit(postgres_url).path[1:]
    await postgres_server.command(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        async with open_postgres(postgres_url, clock=MovedClock()) as storage:
            await storage.check()
            with pytest.raises(DatabaseOnlyReads) as caught:
                await storage.retention.save_place("walk", "here")
        assert caught.value.facts["reason"] == "it only reads"
    finally:
        await postgres_server.command(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("28P01", DatabaseLoginRefused),
        ("53300", DatabaseFull),
        ("57P03", DatabaseNotReady),
        ("25006", DatabaseOnlyReads),
        ("42501", DatabasePermissionDenied),
        ("42704", StorageFailed),
        ("XX000", StorageFailed),
    ],
)
def test_each_state_has_its_own_words(sqlstate: str, kind: type[StorageFailed]) -> None:
    """All of them are Unavailable: a device is told 503, and nothing else. (3.7)"""
    said = refused(sqlstate, {"host": "db"})
    assert type(said) is kind
    assert isinstance(said, Unavailable)
    assert said.facts["sqlstate"] == sqlstate
    assert said.facts["host"] == "db"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:p@db/mdm", {"host": "db", "port": 5432, "database": "mdm"}),
        ("postgresql://u:p@[::1]:7/mdm", {"host": "::1", "port": 7, "database": "mdm"}),
        ("postgresql://u@/mdm?host=%2Frun", {"host": "/run", "port": 5432, "database": "mdm"}),
        ("postgresql://u@/?dbname=mdm&host=a&port=6", {"host": "a", "port": 6, "database": "mdm"}),
        ("postgres:///mdm", {"database": "mdm"}),
        ("postgresql://u:p/w@db/mdm", {}),
        ("postgresql://u:12#w@db/mdm", {}),
        ("postgresql://u:12?w@db/mdm", {}),
        ("postgresql://u:p@w@db/mdm", {}),
        ("postgresql://u:pass", {}),
    ],
)
def test_what_may_be_part_of_a_password_is_never_told(url: str, told: dict[str, object]) -> None:
    """A password is often pasted as it is, with characters that end the part of a URL that it stands in."""
    assert where(url) == told
