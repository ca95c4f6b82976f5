"""The SCEP client. Source: check-in-and-commands.md 6.2, 6.3; RFC 8894."""

from dataclasses import replace
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import AttributeOID, NameOID

from ostiary_sim.cms import ContentCipher
from ostiary_sim.errors import IdentityNotIssued, ScepRefused
from ostiary_sim.identity import new_rsa_key, self_signed
from ostiary_sim.profile import ScepRequest, read_enrollment_profile
from ostiary_sim.scep import Hostility, ScepClient
from unit.sim.fake_mdm import CHALLENGE, Stage, authority

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registrar")])


def client(stage: Stage, **changes: Any) -> ScepClient:
    profile = read_enrollment_profile(stage.server.profile())
    assert isinstance(profile.identity, ScepRequest)

    async def sleep(seconds: float) -> None:
        stage.pauses.append(seconds)

    return ScepClient(
        request=replace(profile.identity, **changes),
        http=httpx.AsyncClient(transport=stage.server.transport),
        clock=stage.clock,
        sleeper=sleep,
    )


async def test_an_identity_is_issued_for_a_fresh_key(stage: Stage) -> None:
    identity = await client(stage).obtain()
    (csr,) = stage.server.scep.requests
    assert identity.certificate.public_key() == csr.public_key()
    challenge = csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
    assert challenge.value == CHALLENGE.encode()
    assert csr.subject.rfc4514_string() == "CN=a device,O=Example"
    assert stage.server.scep.seen_types == ["19"]
    assert stage.server.scep.methods == ["POST"]


async def test_a_renewal_is_signed_by_the_old_identity(stage: Stage) -> None:
    first = await client(stage).obtain()
    second = await client(stage).obtain(renew=first)
    assert stage.server.scep.seen_types == ["19", "17"]
    assert second.certificate != first.certificate


async def test_a_pending_request_is_polled_as_the_profile_says(stage: Stage) -> None:
    """6.2 Retries and RetryDelay."""
    stage.server.scep.pending_for = 2
    await client(stage).obtain()
    assert stage.server.scep.seen_types == ["19", "20", "20"]
    assert stage.pauses == [7.0, 7.0]
    stage.server.scep.pending_for = 3
    with pytest.raises(IdentityNotIssued):
        await client(stage).obtain()


async def test_a_refusal_names_its_number(stage: Stage) -> None:
    with pytest.raises(ScepRefused) as refusal:
        await client(stage).obtain(hostility=Hostility(challenge="guessed"))
    assert refusal.value.fail_info == 2


async def test_an_ra_receives_what_is_meant_for_it(stage: Stage) -> None:
    """6.3: several certificates as degenerate PKCS#7; the one that is no CA is the RA."""
    stage.server.scep.with_ra = self_signed(new_rsa_key(2048), NAME, stage.clock.now)
    identity = await client(stage).obtain()
    identity.certificate.verify_directly_issued_by(stage.server.ca.certificate)


@pytest.mark.parametrize("lie", ["nonce", "signer"])
async def test_an_answer_that_is_not_for_us_is_refused(stage: Stage, lie: str) -> None:
    if lie == "nonce":
        stage.server.scep.wrong_nonce = True
    else:
        stage.server.scep.wrong_signer = authority("Stranger")
    with pytest.raises(IdentityNotIssued):
        await client(stage).obtain()


async def test_a_ca_with_another_fingerprint_is_refused(stage: Stage) -> None:
    with pytest.raises(IdentityNotIssued):
        await client(stage, ca_fingerprint=bytes(32)).obtain()
    with pytest.raises(IdentityNotIssued):
        await client(stage, ca_fingerprint=b"odd").obtain()


async def test_get_is_used_where_post_is_not_offered(stage: Stage) -> None:
    stage.server.scep.capabilities = ("AES", "SHA-256")
    await client(stage).obtain()
    assert stage.server.scep.methods == ["GET"]


async def test_a_server_without_aes_gets_triple_des(stage: Stage) -> None:
    stage.server.scep.capabilities = ("POSTPKIOperation", "DES3")
    await client(stage).obtain()
    await client(stage).obtain(hostility=Hostility(cipher=ContentCipher.AES_256, use_get=True))
    assert stage.server.scep.methods == ["POST", "GET"]


async def test_hostile_wishes_reach_the_request(stage: Stage) -> None:
    """6.3 server rule 3 needs somebody who asks."""
    wish = Hostility(
        subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]),
        dns_names=("mdm.example",),
        ask_for_ca=True,
    )
    await client(stage).obtain(hostility=wish)
    (csr,) = stage.server.scep.requests
    assert csr.subject == wish.subject
    constraints = csr.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mdm.example"]
    with pytest.raises(ScepRefused):
        await client(stage).obtain(hostility=Hostility(message_type=99))


async def test_the_same_key_makes_the_same_transaction(stage: Stage) -> None:
    """6.3 server rule 2: a device that retries."""
    key = new_rsa_key(1024)
    first = await client(stage).obtain(key=key)
    second = await client(stage).obtain(key=key)
    assert first.certificate.public_key() == second.certificate.public_key()
    assert [csr.public_key() for csr in stage.server.scep.requests] == [key.public_key()] * 2


async def test_a_silent_server_issues_nothing(stage: Stage) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    asking = client(stage)
    asking.http = httpx.AsyncClient(transport=httpx.MockTransport(fail))
    with pytest.raises(IdentityNotIssued):
        await asking.obtain()
    asking.http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404)))
    with pytest.raises(IdentityNotIssued):
        await asking.obtain()
