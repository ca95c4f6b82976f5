"""The way from a command to its work: the control socket of a running server, or the same routes in-process."""

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from ostiary.app import control_app, open_house
from ostiary.cli.failure import Exit, Failed, failure_of_problem
from ostiary.settings import Places, load_settings
from ostiary.web.control import ACTOR_HEADER
from ostiary.web.journal import open_journal

TIMEOUT_SECONDS: Final = 60.0

DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="OSTIARY_DATA",
        help="The directory that `ostiary init` made.",
        file_okay=False,
        show_default=False,
    ),
]
DEFAULT_DATA: Final = Path()


class Desk:
    """Asks things of an Ostiary, wherever it runs."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | bool | None] | None = None,
        content: Any = None,
    ) -> Any:
        """The JSON answer. Raises Failed with the server's own words."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        response = await self._client.request(method, path, params=given, json=content)
        if response.is_success:
            return response.json()
        if response.headers.get("content-type", "").startswith("application/problem+json"):
            raise failure_of_problem(response.json())
        raise Failed(
            f"the server answered {response.status_code}",
            "Is it of the same version as this command?",
            Exit.UNAVAILABLE,
        )


def ask(
    data: Path,
    method: str,
    path: str,
    *,
    params: Mapping[str, str | int | bool | None] | None = None,
    content: Any = None,
) -> Any:
    """One question, one answer: through the running server, or on the store itself if none runs."""

    async def answer() -> Any:
        async with open_desk(data) as desk:
            return await desk.ask(method, path, params=params, content=content)

    return asyncio.run(answer())


@asynccontextmanager
async def open_desk(data: Path) -> AsyncIterator[Desk]:
    """A desk for the installation in `data`.

    Raises:
        NoInstallation, SettingsFaulty, and what opening the store may raise.
    """
    settings = load_settings(data)
    headers = {ACTOR_HEADER: actor()}
    if is_served(settings.places):
        transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(
            uds=str(settings.places.control_socket)
        )
        async with _client(transport, headers) as client:
            yield Desk(client)
        return
    open_journal(
        "console", "error"
    )  # the answer says what happened; a log line beside it would repeat it
    async with open_house(settings) as house:
        transport = httpx.ASGITransport(app=control_app(house))
        async with _client(transport, headers) as client:
            yield Desk(client)


def is_served(places: Places) -> bool:
    """Whether a server listens at the control socket; a socket that nobody listens at is stale."""
    try:
        with httpx.HTTPTransport(uds=str(places.control_socket)) as transport:
            httpx.Client(transport=transport, timeout=TIMEOUT_SECONDS).get("http://ostiary/status")
    except httpx.ConnectError:
        return False
    return True


def actor() -> str:
    """Who gives the command, for the audit: the person behind sudo, if there is one."""
    if user := os.environ.get("SUDO_USER"):
        return user
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def _client(transport: httpx.AsyncBaseTransport, headers: dict[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport, base_url="http://ostiary", headers=headers, timeout=TIMEOUT_SECONDS
    )
