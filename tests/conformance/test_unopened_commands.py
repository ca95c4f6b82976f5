"""A command that does not open ends in the same way on every engine, and what may be in force is the same afterwards."""

from pathlib import Path
from typing import Any

import pytest

from conformance.storage_twins import AnyStorage, visible_state
from ostiary.domain.command import CommandState
from ostiary.domain.escrow import EscrowState
from ostiary.domain.token import DEFAULT_TENANT, RecordId, SealedValue, TokenKind, TokenState
from ostiary.keys.sealer import EpochSealer, open_sealer
from ostiary.ports.sealer import SealBroken, SealLabel
from ostiary.secret import Secret
from scenes.house import MAC, START, Device, House, MovedClock

LOCK = TokenKind.RECOVERY_LOCK


class BendingSealer:
    """Opens everything but what a test has bent."""

    def __init__(self, inner: EpochSealer) -> None:
        self._inner = inner
        self.bent: set[RecordId] = set()

    def unseal(self, sealed: SealedValue, label: SealLabel) -> Secret:
        if label.record_id in self.bent:
            raise SealBroken(record=label.record_id, kind=label.kind)
        return self._inner.unseal(sealed, label)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
async def bent_house(storage: AnyStorage, tmp_path: Path) -> House:
    sealer, _ = open_sealer(Secret(b"k" * 32), (), now=START, tenants=[DEFAULT_TENANT])
    house = House(
        path=tmp_path / "none",
        storage=storage,  # type: ignore[arg-type]  # the twin has the families that a house needs
        clock=MovedClock(),
        sealer=BendingSealer(sealer),
    )
    await house.hold_topic()
    return house


async def _locked(house: House) -> Device:
    mac = await house.enrolled(MAC)
    await house.change(mac.id, LOCK)
    await mac.work_off(VerifyRecoveryLock={"PasswordVerified": True})
    return mac


async def _bend_candidate(house: House, mac: Device) -> RecordId:
    found = await house.stands(mac.id, LOCK)
    assert found is not None
    assert found.candidate is not None
    house.sealer.bent.add(found.candidate)
    return found.candidate


@pytest.mark.parametrize("hand_outs", [1, 2])
async def test_a_set_that_does_not_open_ends_and_the_next_command_goes_out(
    bent_house: House, storage: AnyStorage, hand_outs: int
) -> None:
    """escrowed-secrets.md 4.0.3 rows 5 and 9; check-in-and-commands.md 3.4."""
    mac = await _locked(bent_house)
    uuid = await bent_house.change(mac.id, LOCK)
    behind = await bent_house.enqueue(mac.id, "DeviceInformation")
    if hand_outs == 2:
        await mac.report()
    candidate = await _bend_candidate(bent_house, mac)
    command = await mac.report()
    assert command is not None
    assert command["CommandUUID"] == behind
    state = await visible_state(storage)
    (ended,) = [one for one in state["closed"] if one.uuid == uuid]
    assert (ended.state, ended.hand_outs) == (CommandState.CANCELLED, hand_outs)
    (stands,) = [one for one in state["escrows"].values() if one.kind is LOCK]
    record = state["records"][candidate]
    if hand_outs == 1:
        assert (stands.state, stands.candidate) == (EscrowState.SETTLED, None)
        assert record.state is TokenState.RETIRED
    else:
        assert (stands.state, stands.candidate) == (EscrowState.UNCERTAIN, candidate)
        assert record.state is TokenState.SUSPECT
    assert record.value, "what is damaged is kept as it is"
    assert (DEFAULT_TENANT, mac.id, "command-does-not-open") in state["alerts"]
