"""The race for a challenge where it is really decided: in the database, many requests in one commit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from fuzz.scep_client import rsa_key
from ostiary.domain.enrollment import Bound, Purpose
from ostiary.domain.invitation import Challenge, Invitation
from ostiary.domain.token import DEFAULT_TENANT, RecordId
from ostiary.secret import Secret
from ostiary.services.certificates import CertificateService
from ostiary.services.invitations import InvitationService
from ostiary.services.scep import ScepService
from ostiary.storage.sqlite.storage import SqliteStorage, open_sqlite
from unit.services.enrollment_world import PROFILE, MovedClock, World


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with open_sqlite(tmp_path / "ostiary.db", clock=MovedClock()) as opened:
        yield opened


async def _invite(world: World, storage: SqliteStorage, uses: int) -> Invitation:
    service = InvitationService(
        challenges=storage.challenges, sealer=world.sealer, clock=world.clock
    )
    invitation, _ = await service.invite(
        DEFAULT_TENANT, Bound(), valid_for=timedelta(hours=1), uses=uses, actor="test"
    )
    return invitation


async def _add_challenge(
    world: World, storage: SqliteStorage, text: bytes, invitation: Invitation
) -> None:
    await storage.challenges.add_challenge(
        Challenge(
            id=RecordId(text.hex().rjust(32, "0")),
            tenant=DEFAULT_TENANT,
            digest=world.sealer.digest(DEFAULT_TENANT, Secret(text)),
            purpose=Purpose.ENROLL,
            bound=invitation.bound,
            profile=PROFILE,
            invitation_id=invitation.id,
            valid_until=invitation.valid_until,
            created_at=world.clock.now(),
        )
    )


def _scep(world: World, storage: SqliteStorage) -> ScepService:
    return ScepService(
        authority=world.authority,
        certificates=CertificateService(world.authority, world.clock),
        challenges=storage.challenges,
        sealer=world.sealer,
        clock=world.clock,
    )


async def test_of_many_keys_one_gets_the_certificate(storage: SqliteStorage) -> None:
    """Source: users.md 5.4 item 23, parallel use of one challenge."""
    world = World()
    await _add_challenge(world, storage, b"once", await _invite(world, storage, uses=9))
    scep = _scep(world, storage)
    devices = [world.requester(key=rsa_key(f"device {number}")) for number in range(4)]
    answers = await asyncio.gather(*(scep.answer(one.request(b"once")) for one in devices))
    replies = [one.open(answer) for one, answer in zip(devices, answers, strict=True)]
    assert sorted(reply.status for reply in replies) == ["0", "2", "2", "2"]
    winner = next(one for one, reply in zip(devices, replies, strict=True) if reply.certificates)
    again = winner.open(await scep.answer(winner.request(b"once")))
    assert again.certificates == next(r.certificates for r in replies if r.certificates)


async def test_of_many_challenges_the_last_use_of_an_invitation_goes_to_one(
    storage: SqliteStorage,
) -> None:
    """`uses_left` is decided with the certificate, not at the download."""
    world = World()
    invitation = await _invite(world, storage, uses=1)
    for text in (b"one", b"two", b"three"):
        await _add_challenge(world, storage, text, invitation)
    scep = _scep(world, storage)
    devices = [world.requester(key=rsa_key(f"device {number}")) for number in range(3)]
    messages = [
        device.request(text)
        for device, text in zip(devices, (b"one", b"two", b"three"), strict=True)
    ]
    answers = await asyncio.gather(*(scep.answer(message) for message in messages))
    statuses = [one.open(answer).status for one, answer in zip(devices, answers, strict=True)]
    assert sorted(statuses) == ["0", "2", "2"]
