import ssl
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from ostiary_sim.apns import PushAuthority, PushCredential, SimulatedApns
from ostiary_sim.connections import load_identity
from ostiary_sim.identity import Identity

ClientFor = Callable[[PushCredential | None], httpx.AsyncClient]


@pytest.fixture(scope="session")
def push_authority() -> PushAuthority:
    """One authority for all tests: its keys are slow to make."""
    return PushAuthority.create()


@pytest.fixture(scope="session")
def credential(push_authority: PushAuthority) -> PushCredential:
    return push_authority.issue_push_certificate()


@pytest.fixture
async def apns(push_authority: PushAuthority) -> AsyncIterator[SimulatedApns]:
    """A push service on a free loopback port."""
    async with SimulatedApns(push_authority) as server:
        yield server


@pytest.fixture
def client_for(apns: SimulatedApns) -> ClientFor:
    """Makes an HTTP/2 client that shows a push certificate, or none."""

    def make(credential: PushCredential | None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cadata=apns.authority.ca_pem.decode())
        if credential is not None:
            assert credential.key is not None
            load_identity(context, Identity(key=credential.key, certificate=credential.certificate))
        return httpx.AsyncClient(
            http1=False, http2=True, verify=context, base_url=apns.url, trust_env=False
        )

    return make


@pytest.fixture
async def client(
    client_for: ClientFor, credential: PushCredential
) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(credential) as made:
        yield made
