"""What these tests share: the event loop that serves in production, and an open house."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import httpx
import pytest
import uvloop

from installation import copy_installation, make_installation
from ostiary.app import control_app, front_app
from ostiary.house import House, open_house
from ostiary.settings import load_settings


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ostiary init` makes, once."""
    return make_installation(tmp_path_factory.mktemp("installation"))


@pytest.fixture
async def house(template: Path, tmp_path: Path) -> AsyncIterator[House]:
    """An Ostiary with its store and keys; nothing listens."""
    data = copy_installation(template, tmp_path / "data")
    async with open_house(load_settings(data)) as opened:
        yield opened


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """Programs and devices, at the front door."""
    transport = httpx.ASGITransport(app=front_app(house))
    async with httpx.AsyncClient(transport=transport, base_url="https://mdm.example.org") as opened:
        yield opened


@pytest.fixture
async def operator(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """The command line, at the control socket's routes."""
    transport = httpx.ASGITransport(app=control_app(house))
    async with httpx.AsyncClient(transport=transport, base_url="http://ostiary") as opened:
        yield opened
