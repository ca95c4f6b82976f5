"""The six reasons to hear from a device anew. Source: check-in-and-commands.md 2.3."""

import pytest

from ostiary_sim.causes import Cause, clone, play
from ostiary_sim.device import Device
from ostiary_sim.errors import NotPossible
from unit.sim.fake_mdm import Stage

NEW = ["Authenticate", "TokenUpdate"]


async def heard(stage: Stage, device: Device, cause: Cause) -> list[str]:
    """What the server heard from this cause alone."""
    before = len(stage.server.messages)
    await play(cause, device, stage.server.profile())
    return stage.server.kinds()[before:]


async def test_a_first_enrollment(stage: Stage) -> None:
    assert await heard(stage, stage.device("mac"), Cause.FIRST_ENROLLMENT) == NEW


@pytest.mark.parametrize("cause", [Cause.RENEWAL, Cause.PROFILES_RENEW])
async def test_a_renewal_has_a_new_identity_and_neither_awaits_nor_escrows(
    stage: Stage, cause: Cause
) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada", managed=False)
    old = mac.installed.identity.fingerprint
    assert await heard(stage, mac, cause) == NEW
    assert mac.installed.identity.fingerprint != old
    assert "AwaitingConfiguration" not in stage.server.last("TokenUpdate")
    assert mac.bootstrap.escrowed


async def test_enrolling_again_is_a_new_relationship_without_a_goodbye(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada", managed=False)
    magic, token = mac.push_magic, mac.truth().bootstrap_token
    assert await heard(stage, mac, Cause.ENROLLED_AGAIN) == NEW
    assert mac.push_magic != magic
    assert mac.truth().bootstrap_token == token
    assert not mac.bootstrap.escrowed


@pytest.mark.parametrize("kind", ["mac", "iphone"])
async def test_an_erased_device_waits_in_setup_assistant(stage: Stage, kind: str) -> None:
    device = await stage.enrolled(kind)
    assert await heard(stage, device, Cause.ERASED) == NEW
    assert stage.server.last("TokenUpdate")["AwaitingConfiguration"] is True
    assert not device.awaits_when_enrolled


async def test_a_restored_backup_says_token_update_alone(stage: Stage) -> None:
    phone = await stage.enrolled()
    assert await heard(stage, phone, Cause.RESTORED) == ["TokenUpdate"]


async def test_only_macs_of_automated_enrollment_renew_by_themselves(stage: Stage) -> None:
    phone = await stage.enrolled()
    with pytest.raises(NotPossible):
        await play(Cause.PROFILES_RENEW, phone, stage.server.profile())


async def test_a_clone_speaks_as_the_original(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    mac.turn_on_filevault()
    copy = clone(mac)
    assert (copy.push_token, copy.push_magic) == (mac.push_token, mac.push_magic)
    assert copy.truth().recovery_key == mac.truth().recovery_key
    await copy.idle()
    assert stage.server.reports[-1]["UDID"] == mac.udid
    assert stage.server.signers[-1] == mac.installed.identity.certificate
    copy.volume.recovery_key = None
    assert mac.volume.encrypted
