"""The simulator, which knows nothing of ours, reads our profile and asks our `/scep` over HTTP."""

from collections.abc import AsyncIterator

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from fuzz.scep_client import NOW, der, rsa_key
from ostiary.domain.token import Fingerprint
from ostiary.formats.x509 import fingerprint
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.enrollment_profile import (
    EnrollmentOffer,
    decode_url,
    render_enrollment_profile,
)
from ostiary.secret import Secret
from ostiary.web.body import BodyBudget
from ostiary.web.front import FrontDoor, Wing
from ostiary.web.problems import Door
from ostiary.web.scep import scep_routes
from ostiary_sim.errors import ScepRefused
from ostiary_sim.profile import ScepRequest, read_enrollment_profile
from ostiary_sim.scep import Hostility, ScepClient
from unit.services.enrollment_world import World, make_enrollment

BAD_REQUEST = 2
OFFER = EnrollmentOffer(
    urls=decode_url("https://mdm.example.org"),
    topic=Topic("com.apple.mgmt.External.0b1c"),
    challenge=Secret(b"once"),
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[ScepClient]:
    routes = scep_routes(world.scep(), BodyBudget(1024 * 1024))
    transport = httpx.ASGITransport(app=FrontDoor([Wing(door=Door.DEVICE, routes=routes)]))
    profile = read_enrollment_profile(render_enrollment_profile(OFFER))
    request = profile.identity
    assert isinstance(request, ScepRequest)
    async with httpx.AsyncClient(transport=transport) as http:
        yield ScepClient(
            request=request,
            http=http,
            clock=lambda: NOW,
            new_key=lambda bits: rsa_key("simulated", bits),
        )


async def test_it_obtains_an_identity_and_then_renews_it(world: World, client: ScepClient) -> None:
    await world.add_challenge(b"once")
    first = await client.obtain()
    assert client.request.key_bits == 2048
    bound = Fingerprint(fingerprint(der(first.certificate)))
    world.challenges.renewable[bound] = make_enrollment()
    renewed = await client.obtain(key=rsa_key("fresh"), renew=first)
    assert renewed.certificate.subject == first.certificate.subject
    assert renewed.certificate.serial_number != first.certificate.serial_number


async def test_by_get_it_gets_the_same_one_again(world: World, client: ScepClient) -> None:
    await world.add_challenge(b"once")
    first = await client.obtain(key=rsa_key("simulated"))
    again = await client.obtain(key=rsa_key("simulated"), hostility=Hostility(use_get=True))
    assert again.certificate == first.certificate


@pytest.mark.parametrize(
    "hostility",
    [
        Hostility(challenge="guess"),
        Hostility(omit_challenge=True),
        Hostility(message_type=20),
        Hostility(message_type=3),
    ],
    ids=["guess", "none", "poll", "reply"],
)
async def test_it_understands_our_refusals(
    world: World, client: ScepClient, hostility: Hostility
) -> None:
    await world.add_challenge(b"once")
    with pytest.raises(ScepRefused) as caught:
        await client.obtain(hostility=hostility)
    assert str(BAD_REQUEST) in str(caught.value) or "badRequest" in str(caught.value)


async def test_its_wishes_are_not_heard(world: World, client: ScepClient) -> None:
    """Source: check-in-and-commands.md 6.3 rule 3."""
    await world.add_challenge(b"once")
    wishes = Hostility(
        subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]),
        dns_names=("mdm.example.org",),
        ask_for_ca=True,
    )
    certificate = (await client.obtain(hostility=wishes)).certificate
    assert "admin" not in certificate.subject.rfc4514_string()
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
