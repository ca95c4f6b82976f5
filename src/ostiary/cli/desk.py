"""The way from a command to its work: the control socket of a running server, or the same routes in-process."""

import getpass
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from ostiary.app import control_app
from ostiary.cli.background import run_async
from ostiary.cli.current_house import open_current_house
from ostiary.cli.failure import Exit, Failed, failure_of_problem
from ostiary.cli.output import say
from ostiary.settings import load_settings
from ostiary.web.asks import ACTOR_HEADER, MOST_LINES
from ostiary.web.control_socket import is_served, short_address
from ostiary.web.journal import open_journal

TIMEOUT_SECONDS: Final = 60.0
PAGE: Final = MOST_LINES

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

    return run_async(answer())


def ask_all(
    data: Path, path: str, params: Mapping[str, str | int | bool | None], limit: int
) -> list[Any]:
    """Every line of a list, page by page, at most `limit`; says so if that is not all."""

    async def pages() -> list[Any]:
        items: list[Any] = []
        after: str | None = None
        is_more = False
        async with open_desk(data) as desk:
            while len(items) < limit:
                step = min(limit - len(items), PAGE)
                page = await desk.ask("GET", path, params={**params, "limit": step, "after": after})
                items += page["items"]
                is_more = page["more"]
                if (after := page["after"]) is None:
                    break
        if is_more:
            say(f"There is more than these {len(items)}: a larger --limit shows it.")
        return items

    return run_async(pages())


@asynccontextmanager
async def open_desk(data: Path) -> AsyncIterator[Desk]:
    """A desk for the installation in `data`.

    Raises:
        NoInstallation, SettingsFaulty, and what opening the store may raise.
    """
    settings = load_settings(data)
    headers = {ACTOR_HEADER: actor()}
    if is_served(settings.places.control_socket):
        with short_address(settings.places.control_socket) as address:
            transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(uds=address)
            async with _client(transport, headers) as client:
                yield Desk(client)
        return
    open_journal(
        "console", "error"
    )  # the answer says what happened; a log line beside it would repeat it
    async with open_current_house(settings) as house:
        transport = httpx.ASGITransport(app=control_app(house))
        async with _client(transport, headers) as client:
            yield Desk(client)


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
