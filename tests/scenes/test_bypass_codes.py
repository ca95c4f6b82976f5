"""Activation Lock bypass codes: fetched before anybody may lock, replaced by nothing less than another. (4.9)"""

import base64
from typing import Any

import pytest

from escrowed import escrow_values
from ostiary.domain.bypass_codes import CodeNoLongerTold
from ostiary.domain.escrow import EscrowState
from ostiary.domain.escrow_booking import STRAYS
from ostiary.domain.escrow_view import SecretView, view_secrets
from ostiary.domain.suitability import CommandNotForThisEnrollment, CommandNotForThisPlatform
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind, TokenState
from ostiary.formats import plist
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.web.typed_commands import build_command
from scenes.house import APPLE_TV, BYOD_IPHONE, IPHONE, OPERATOR, Device, House, Model

CODE, SERVER_CODE = TokenKind.BYPASS_DEVICE, TokenKind.BYPASS_SERVER
FETCH, SETTINGS = "ActivationLockBypassCode", "Settings"
D1, D2 = "3UM43-PUYVY-QYD1-UVCC-HEHJ-FKA4", "8LNYD-DVNKU-GYRC-E6GU-3YFD-CT86"
S1 = b"TF27L-31WN1-E6FH-DMAM-52X5-NFV0"
ALLOW: Command = build_command("allow-activation-lock", {})


def told(code: str) -> dict[str, Any]:
    return {FETCH: code}


def supervised() -> dict[str, Any]:
    return {"QueryResponses": {"IsSupervised": True, "ModelName": "iPhone"}}


async def allow(house: House, device: Device) -> None:
    """As `ostiary enqueue ID allow-activation-lock` asks."""
    await house.enqueue(device.id, SETTINGS, Settings=ALLOW["Settings"])


async def fetched(house: House, device: Device, code: str) -> None:
    """The device was asked, and told its code."""
    await house.change(device.id, CODE)
    assert await device.work_off(**{FETCH: told(code)}) == [FETCH]


async def shown(house: House, device: Device) -> SecretView:
    """What an operator sees of the code."""
    views = view_secrets(
        await device.row(),
        await house.storage.escrows.find(DEFAULT_TENANT, Holder(device.id)),
        await house.history(device.id, CODE),
        (),
        house.clock.now(),
    )
    (view,) = [one for one in views if one.kind is CODE]
    return view


@pytest.mark.case("AL-01", "AK-16")
@pytest.mark.parametrize("answer", [{}, told(""), told("  "), {FETCH: None}])
async def test_an_answer_without_a_code_changes_nothing(
    house: House, answer: dict[str, Any]
) -> None:
    """4.9, the replace rule."""
    phone = await house.enrolled(IPHONE)
    await fetched(house, phone, D1)
    await house.change(phone.id, CODE)
    await phone.work_off(**{FETCH: {key: value for key, value in answer.items() if value}})
    assert await house.believed(phone.id, CODE) == [D1.encode()]
    (record,) = await house.history(phone.id, CODE)
    assert record.state is TokenState.OK


@pytest.mark.case("AL-01")
async def test_an_error_changes_nothing(house: House) -> None:
    """4.9; a device that tells no code any more says Error."""
    phone = await house.enrolled(IPHONE)
    await fetched(house, phone, D1)
    uuid = await house.change(phone.id, CODE)
    await phone.report()
    await phone.report("Error", uuid, ErrorChain=[])
    stands = await house.stands(phone.id, CODE)
    assert stands is not None
    assert stands.state is EscrowState.SETTLED
    assert await house.believed(phone.id, CODE) == [D1.encode()]


@pytest.mark.case("AL-02", "AK-17")
async def test_another_code_is_current_and_the_one_before_is_kept(house: House) -> None:
    """4.9; the same one again is no new generation."""
    phone = await house.enrolled(IPHONE)
    for code in (D1, D1, D2):
        await fetched(house, phone, code)
    assert await house.believed(phone.id, CODE) == [D2.encode()]
    assert await house.generations(phone.id, CODE) == [D1.encode(), D2.encode()]
    before, after = await house.history(phone.id, CODE)
    assert (before.state, after.state) == (TokenState.SUPERSEDED, TokenState.OK)


@pytest.mark.case("AL-03")
async def test_a_user_lock_is_allowed_only_after_the_code_was_fetched(house: House) -> None:
    """4.9: fetch the code first, allow second."""
    phone = await house.enrolled(IPHONE)
    await allow(house, phone)
    assert [name for name, state in await house.queue(phone.id) if state == "queued"] == [
        FETCH,
        SETTINGS,
    ]
    asked = await phone.report()
    assert asked is not None
    assert asked["Command"]["RequestType"] == FETCH
    assert await phone.report("NotNow", asked["CommandUUID"]) is None, "the setting waits"
    again = await phone.report()
    assert again is not None
    assert again["CommandUUID"] == asked["CommandUUID"]
    setting = await phone.report("Acknowledged", asked["CommandUUID"], **told(D1))
    assert setting is not None
    assert setting["Command"] == dict(ALLOW)
    assert await house.believed(phone.id, CODE) == [D1.encode()]


@pytest.mark.case("AL-03")
@pytest.mark.parametrize("status", ["Error", "Acknowledged"])
async def test_without_a_code_the_setting_never_goes_out(house: House, status: str) -> None:
    """4.9: else whoever turns on Find My could keep the device for himself."""
    phone = await house.enrolled(IPHONE)
    await allow(house, phone)
    asked = await phone.report()
    assert asked is not None
    assert await phone.report(status, asked["CommandUUID"]) is None
    assert (SETTINGS, "cancelled") in await house.queue(phone.id)
    assert await phone.report() is None


@pytest.mark.case("AL-03")
async def test_a_setting_that_somebody_wrote_waits_for_the_code_as_well(house: House) -> None:
    """4.9: every door; a setting of other things waits for nothing."""
    phone = await house.enrolled(IPHONE)
    for keys in (ALLOW["Settings"], [{"Item": "Wallpaper"}]):
        body = plist.encode({"Command": {"RequestType": SETTINGS, "Settings": keys}})
        await house.desk.enqueue_raw([EnrollmentId(phone.id)], body, OPERATOR, pushes=False)
    asked = await phone.report()
    assert asked is not None
    assert asked["Command"]["RequestType"] == FETCH
    other = await phone.report("NotNow", asked["CommandUUID"])
    assert other is not None
    assert other["Command"]["Settings"] == [{"Item": "Wallpaper"}]


async def test_a_setting_goes_out_at_once_where_the_code_is_held(house: House) -> None:
    phone = await house.enrolled(IPHONE)
    await fetched(house, phone, D1)
    await allow(house, phone)
    assert await phone.work_off() == [SETTINGS]


@pytest.mark.parametrize(
    ("model", "error"),
    [(BYOD_IPHONE, CommandNotForThisEnrollment), (APPLE_TV, CommandNotForThisPlatform)],
    ids=["user-enrollment", "apple-tv"],
)
async def test_a_device_that_has_no_code_is_not_allowed_to_be_locked(
    house: House, model: Model, error: type[Exception]
) -> None:
    """4.9: supervised iPhones, iPads, Macs and Vision Pros have one."""
    device = await house.enrolled(model)
    with pytest.raises(error):
        await allow(house, device)


@pytest.mark.case("AK-15")
async def test_a_supervised_device_is_asked_for_its_code_before_any_setting_allows_a_lock(
    house: House,
) -> None:
    """activation-lock.md 5, items 2 to 4: at enrollment, by itself."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    await phone.token_update()
    done = await phone.work_off(DeviceInformation=supervised())
    assert FETCH not in done
    await house.escrow_watch.tend()
    await allow(house, phone)
    assert await phone.work_off(**{FETCH: told(D1)}) == [FETCH, SETTINGS]


async def test_the_code_is_asked_for_each_day_of_the_first_fifteen(house: House) -> None:
    """activation-lock.md 5, item 6: it was reported to change when Find My is turned on."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    await phone.token_update()
    await phone.work_off(DeviceInformation=supervised())
    asked = []
    for day in range(20):
        await house.escrow_watch.tend()
        code = D1 if day < 3 else D2
        asked += [day for name in await phone.work_off(**{FETCH: told(code)}) if name == FETCH]
        house.clock.advance(days=1)
    assert asked == list(range(16))
    assert await house.generations(phone.id, CODE) == [D1.encode(), D2.encode()]


@pytest.mark.case("AK-18")
async def test_after_fifteen_days_without_a_code_no_user_lock_is_allowed(house: House) -> None:
    """activation-lock.md 5, item 5."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    await phone.token_update()
    await phone.work_off(DeviceInformation=supervised())
    house.clock.advance(days=14)
    assert not [note for note in (await shown(house, phone)).notes if "no longer" in note]
    house.clock.advance(days=2)
    assert any(
        "code can no longer be fetched" in note and "No user lock is allowed" in note
        for note in (await shown(house, phone)).notes
    )
    with pytest.raises(CodeNoLongerTold):
        await allow(house, phone)
    assert SETTINGS not in [name for name, _ in await house.queue(phone.id)]


@pytest.mark.case("AL-04")
async def test_both_codes_outlive_an_erase(house: House) -> None:
    """4.9, 4.13 column D: keep until another comes; the device is asked again."""
    phone = await house.enrolled(IPHONE)
    await fetched(house, phone, D1)
    await escrow_values(
        house.storage.enrollments, house.sealer, phone.id, SERVER_CODE, [S1], house.clock.now()
    )
    await phone.authenticate()
    await phone.token_update(AwaitingConfiguration=True)
    await phone.drain()
    assert await house.believed(phone.id, CODE) == [D1.encode()]
    assert await house.believed(phone.id, SERVER_CODE) == [S1]
    house.clock.advance(hours=1)
    await house.escrow_watch.tend()
    assert await phone.work_off(**{FETCH: told(D2)}) == [FETCH]
    assert await house.generations(phone.id, CODE) == [D1.encode(), D2.encode()]


@pytest.mark.case("AK-30")
async def test_no_code_can_be_read_from_the_database_without_the_master_key(house: House) -> None:
    """Neither the file nor its log holds one, in clear, in base64 or in hexadecimal."""
    phone = await house.enrolled(IPHONE)
    for code in (D1, D2):
        await fetched(house, phone, code)
    await escrow_values(
        house.storage.enrollments, house.sealer, phone.id, SERVER_CODE, [S1], house.clock.now()
    )
    files = sorted(house.path.parent.glob(f"{house.path.name}*"))
    found = b"".join(file.read_bytes() for file in files)
    assert phone.id.encode() in found, "these are the files"
    for held in (D1.encode(), D2.encode(), S1):
        bare = held.replace(b"-", b"")
        for form in (held, bare, base64.b64encode(held)[:-4], held.hex().encode()):
            assert form not in found
            assert form.lower() not in found


async def test_a_device_does_not_fill_the_ledger_with_codes_nobody_asked_for(house: House) -> None:
    """The answer to one command can be sent again and again: what is known is no news, and a few a day are enough."""
    phone = await house.enrolled(IPHONE)
    await fetched(house, phone, D1)
    uuid = await house.enqueue(phone.id, "ProfileList")
    assert await phone.drain() == ["ProfileList"]
    for _ in range(20):
        await phone.report("Acknowledged", uuid, ActivationLockBypassCode=D1)
    assert await house.generations(phone.id, CODE) == [D1.encode()]
    for number in range(20):
        for code in (D2, f"{number:026d}"):
            await phone.report("Acknowledged", uuid, ActivationLockBypassCode=code)
    first_few = [D2, *(f"{number:026d}" for number in range(STRAYS - 1))]
    assert await house.generations(phone.id, CODE) == [code.encode() for code in (D1, *first_few)]
    assert "activation-bypass-device-told-too-often" in await house.alerts()
    stands = await house.stands(phone.id, CODE)
    assert stands is not None
    assert stands.current is not None
    assert (await house.believed(phone.id, CODE))[0] == D1.encode()
    house.clock.advance(days=1)
    await phone.report("Acknowledged", uuid, ActivationLockBypassCode="of another day")
    assert (await house.believed(phone.id, CODE))[1] == b"of another day"


async def test_a_contested_newcomer_takes_no_room_from_the_device(house: House) -> None:
    """The bound is each relationship's own."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "ProfileList")
    await phone.drain()
    newcomer = phone.with_certificate("newcomer")
    await newcomer.authenticate()
    await newcomer.token_update()
    command = await newcomer.report()
    assert command is not None
    await newcomer.report("Acknowledged", command["CommandUUID"])
    for number in range(20):
        theirs = f"theirs {number}"
        await newcomer.report(
            "Acknowledged", command["CommandUUID"], ActivationLockBypassCode=theirs
        )
    assert len(await house.history(phone.id, CODE)) == STRAYS
    await phone.report("Acknowledged", uuid, ActivationLockBypassCode=D1)
    assert (await house.believed(phone.id, CODE)) == [D1.encode()]


async def test_a_code_is_kept_though_the_device_enrolled_before_it_could_tell(house: House) -> None:
    """The command belongs to a relationship that the new certificate has no part in; the code is the device's all the same."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.change(phone.id, TokenKind.BYPASS_DEVICE)
    await phone.report()
    newcomer = phone.with_certificate("after a visit to the workshop")
    await newcomer.authenticate()
    await newcomer.token_update()
    code = "3UM43-PUYVY-QYD1-UVCC-HEHJ-FKA4"
    await newcomer.report("Acknowledged", uuid, ActivationLockBypassCode=code)
    assert await house.generations(phone.id, TokenKind.BYPASS_DEVICE) == [code.encode()]
    assert await house.believed(phone.id, TokenKind.BYPASS_DEVICE) == []
