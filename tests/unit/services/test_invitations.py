"""Invitations: codes that people can type, and that tell a guesser nothing."""

from datetime import timedelta

import pytest

from fuzz.scep_client import NOW
from ostiary.domain.enrollment import Bound
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.secret import Secret
from ostiary.services.allowance import FailureAllowance, TooManyFailures
from ostiary.services.invitations import (
    CODE_LENGTH,
    CODE_LETTERS,
    InvitationRefused,
    InvitationService,
    InvitationUnusable,
)
from unit.services.enrollment_world import ChallengesInMemory, MovedClock, make_sealer

DAY = timedelta(days=1)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def challenges() -> ChallengesInMemory:
    return ChallengesInMemory()


@pytest.fixture
def service(clock: MovedClock, challenges: ChallengesInMemory) -> InvitationService:
    return InvitationService(challenges=challenges, sealer=make_sealer(), clock=clock)


async def _invite(service: InvitationService, bound: Bound | None = None, uses: int = 1) -> Secret:
    _, code = await service.invite(
        DEFAULT_TENANT, bound or Bound(), valid_for=DAY, uses=uses, actor="ada"
    )
    return code


async def test_a_code_opens_its_invitation_and_only_its_digest_is_kept(
    service: InvitationService, challenges: ChallengesInMemory
) -> None:
    bound = Bound(serial_number="C02TEST")
    code = await _invite(service, bound)
    text = code.reveal().decode()
    assert len(text) == 24
    assert text[4::5] == "----"
    assert 5 * CODE_LENGTH >= 100
    assert set(text) <= {*CODE_LETTERS, "-"}
    found = await service.find(code)
    assert (found.bound, found.valid_until, found.created_by) == (bound, NOW + DAY, "ada")
    plain = text.replace("-", "")
    assert plain not in repr(challenges.store.tables)
    assert (challenges.audits[0].actor, challenges.audits[0].verb) == ("ada", "enroll.invite")


async def test_people_may_type_a_code_as_they_read_it(service: InvitationService) -> None:
    code = (await _invite(service)).reveal().decode()
    sloppy = " " + code.lower().replace("-", " ").replace("0", "o").replace("1", "l") + "\n"
    assert await service.find(Secret(sloppy.encode()))


@pytest.mark.parametrize("why", ["unknown", "old", "used up", "empty", "long", "strange"])
async def test_every_code_that_does_not_open_is_refused_alike(
    service: InvitationService, clock: MovedClock, challenges: ChallengesInMemory, why: str
) -> None:
    """Source: users.md 5.4 item 23: no oracle."""
    code = await _invite(service)
    match why:
        case "old":
            clock.advance(DAY + timedelta(seconds=1))
        case "used up":
            challenges.use_up()
        case _:
            code = Secret(
                {
                    "unknown": b"0000-0000-0000-0000-0000",
                    "empty": b"",
                    "long": b"0" * 10_000,
                    "strange": "ÄÖÜ\0".encode(),
                }[why]
            )
    with pytest.raises(InvitationRefused) as caught:
        await service.find(code)
    assert str(caught.value) == str(InvitationRefused())


async def test_guessing_runs_into_a_bound(
    clock: MovedClock, challenges: ChallengesInMemory
) -> None:
    service = InvitationService(
        challenges=challenges,
        sealer=make_sealer(),
        clock=clock,
        allowance=FailureAllowance(at_once=3, per_second=1.0),
    )
    code = await _invite(service)
    for _ in range(3):
        with pytest.raises(InvitationRefused):
            await service.find(Secret(b"guess"))
    with pytest.raises(TooManyFailures):
        await service.find(Secret(b"guess"))
    assert await service.find(code), "whoever guesses must not shut others out"
    clock.advance(timedelta(seconds=2))
    with pytest.raises(InvitationRefused):
        await service.find(Secret(b"guess"))


async def test_an_invitation_of_another_tenant_opens_there(
    clock: MovedClock, challenges: ChallengesInMemory
) -> None:
    other = TenantId("other")
    service = InvitationService(
        challenges=challenges,
        sealer=make_sealer(DEFAULT_TENANT, other),
        clock=clock,
        tenants=(DEFAULT_TENANT, other),
    )
    _, code = await service.invite(other, Bound(), valid_for=DAY, uses=1, actor="ada")
    assert (await service.find(code)).tenant == other


@pytest.mark.parametrize(
    ("bound", "valid_for", "uses"),
    [
        (Bound(), timedelta(0), 1),
        (Bound(), timedelta(days=400), 1),
        (Bound(), DAY, 0),
        (Bound(), DAY, 10**6),
        (Bound(serial_number=""), DAY, 1),
        (Bound(serial_number="C02; DROP"), DAY, 1),
        (Bound(user="a\nb"), DAY, 1),
    ],
)
async def test_what_makes_no_sense_is_not_stored(
    service: InvitationService,
    challenges: ChallengesInMemory,
    bound: Bound,
    valid_for: timedelta,
    uses: int,
) -> None:
    with pytest.raises(InvitationUnusable):
        await service.invite(DEFAULT_TENANT, bound, valid_for=valid_for, uses=uses, actor="ada")
    assert not challenges.invitations
