"""What is really in force on a device. Source: escrowed-secrets.md 4.0.1."""

from unit.sim.fake_mdm import Stage


async def test_the_truth_follows_the_device(stage: Stage) -> None:
    mac = await stage.enrolled("mac-intel")
    await mac.user_login("ada")
    key = mac.turn_on_filevault()
    mac.recovery_lock.password = "lock"
    mac.firmware.password = "firmware"
    truth = mac.truth()
    assert truth.bootstrap_token == stage.server.bootstrap_token
    assert truth.recovery_key == key
    assert (truth.recovery_lock, truth.firmware_password) == ("lock", "firmware")
    assert truth.firmware_password_after_restart == "firmware"
    assert (truth.unlock_token, truth.lock_pin, truth.admin_guid) == (None, None, None)
    assert not truth.is_admin_password("")


async def test_a_dead_unlock_token_is_none(stage: Stage) -> None:
    phone = await stage.enrolled()
    token = phone.truth().unlock_token
    assert token is not None
    assert phone.truth().passcode_set
    phone.levers.unlock_token_dies_on_use = True
    await stage.ask(phone, "ClearPasscode", UnlockToken=token)
    assert phone.truth().unlock_token is None
    assert not phone.truth().passcode_set


async def test_its_repr_tells_which_there_are_and_never_what(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    key = mac.turn_on_filevault()
    await stage.ask(mac, "DeviceLock", PIN="428731")
    told = repr(mac.truth())
    assert "recovery_key=***" in told
    assert "recovery_lock=None" in told
    assert key not in told
    assert "428731" not in told + repr(mac.lock_screen)
