"""What operators do with secrets, and what goes on in the machine room."""

from datetime import timedelta
from typing import Any, Final

from lives.escrow_cast import Cast, enqueue, own_kinds
from lives.escrow_people import PASSWORD
from lives.escrow_station import STEPS
from ostiary.domain.token import DEFAULT_TENANT, Fingerprint, TokenKind
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.filevault_profile import FileVaultOptions
from ostiary.secret import Secret
from ostiary.services.escrow import Wish
from scenes.house import OPERATOR

ADMIN: Final = "itadmin"
FIRST_HASH: Final = (
    b'<plist version="1.0"><dict><key>SALTED-SHA512-PBKDF2</key><dict><key>entropy</key><data>AAAA</data>'
    b"<key>salt</key><data>AAAA</data><key>iterations</key><integer>2</integer></dict></dict></plist>"
)
"""Made by whoever wrote the command: its password is not known here."""
BEHAVIOURS: Final = ("Default", "DoNotObliterate", "ObliterateWithWarning", "Always")


PAUSES: Final = (
    timedelta(seconds=5),
    timedelta(minutes=11),
    timedelta(hours=2),
    timedelta(hours=25),
    timedelta(days=8),
)


async def has_it_changed(cast: Cast) -> object:
    """Often the device comes at once."""
    house, kind = await cast.station.house(), cast.choose.choice(own_kinds(cast))
    with_user = kind is TokenKind.FILEVAULT_KEY and cast.choose.random() < 0.5
    wish = Wish(
        enrollment_id=cast.id,
        kind=kind,
        unlock_with=Secret(PASSWORD.encode()) if with_user else None,
    )
    await house.escrow.change(wish, OPERATOR)
    if cast.choose.random() < 0.5:
        await cast.device.idle()
    return kind.value


async def has_it_cleared(cast: Cast) -> object:
    house, kind = await cast.station.house(), cast.choose.choice(own_kinds(cast)[:1])
    await house.escrow.change(Wish(enrollment_id=cast.id, kind=kind, clears=True), OPERATOR)
    return kind.value


async def has_it_verified(cast: Cast) -> object:
    house, kind = await cast.station.house(), cast.choose.choice(own_kinds(cast)[:1])
    await house.escrow.verify(cast.id, kind, OPERATOR)
    return kind.value


async def installs_filevault(cast: Cast) -> None:
    house = await cast.station.house()
    await house.filevault.install(
        cast.id, OPERATOR, location="the help desk", options=FileVaultOptions()
    )


async def locks(cast: Cast) -> object:
    return await enqueue(cast, "DeviceLock")


async def erases(cast: Cast) -> object:
    if not cast.is_mac or cast.choose.random() < 0.3:
        return await enqueue(cast, "EraseDevice")
    behaviour = cast.choose.choice(BEHAVIOURS)
    return await enqueue(cast, "EraseDevice", ObliterationBehavior=behaviour)


async def asks_something(cast: Cast) -> object:
    name = cast.choose.choice(
        ("SecurityInfo", "SecurityInfo", "DeviceInformation", "RestartDevice", "DeviceConfigured",
         "ClearPasscode", "ClearActivationLockBypassCode", "ActivationLockBypassCode")
    )  # fmt: skip
    if name == "DeviceInformation":
        queries = ["AutoSetupAdminAccounts", "EACSPreflight", "IsSupervised"]
        return await enqueue(cast, name, Queries=queries)
    return await enqueue(cast, name)


async def makes_an_admin(cast: Cast) -> object:
    """With a password that the server draws; one whose hash somebody else made is refused."""
    account: dict[str, Any] = {"shortName": ADMIN}
    if cast.choose.random() < 0.2:
        account["passwordHash"] = FIRST_HASH
    return await enqueue(cast, "AccountConfiguration", AutoSetupAdminAccounts=[account])


async def sets_by_hand(cast: Cast) -> object:
    """A password that somebody thought of, in a command that somebody wrote."""
    name = "SetRecoveryLock" if cast.device.personality.apple_silicon else "SetFirmwarePassword"
    return await enqueue(cast, name, NewPassword=f"given-{cast.choose.randint(1000, 9999)}")


async def cancels(cast: Cast) -> object:
    house = await cast.station.house()
    lines = await house.storage.reports.list_commands(
        DEFAULT_TENANT, cast.id, live_only=True, limit=50
    )
    if not lines:
        return "nothing"
    line = cast.choose.choice(sorted(lines, key=lambda one: (one.queued_at, one.request_type)))
    await house.desk.cancel(cast.id, CommandUuid(line.uuid), OPERATOR, "life")
    return line.request_type


async def cancels_all(cast: Cast) -> None:
    """Whoever cleans up."""
    for _ in range(50):
        if await cancels(cast) == "nothing":
            return


async def looks(cast: Cast) -> object:
    """A value is shown to a person, and its rotation planned."""
    house = await cast.station.house()
    kind = cast.choose.choice((*own_kinds(cast), TokenKind.LOCK_PIN))
    await house.reveals.reveal(cast.id, kind, OPERATOR, reason="life")
    return kind.value


async def renews(cast: Cast) -> None:
    house = await cast.station.house()
    await house.renewals.renew(cast.id, OPERATOR)


async def settles(cast: Cast) -> object:
    house = await cast.station.house()
    deed = cast.choose.choice(("keep", "accept", "accept", "release"))
    match deed:
        case "keep":
            await house.devices.keep_certificate(
                DEFAULT_TENANT, cast.id, actor="life", reason="life"
            )
        case "accept":
            await house.devices.accept_certificate(
                DEFAULT_TENANT, cast.id, None, actor="life", reason="life"
            )
        case _:
            await house.devices.release(DEFAULT_TENANT, cast.id, actor="life", reason="life")
    return deed


async def believes(cast: Cast) -> None:
    """The certificate that the device has now is accepted, whoever else claims its name."""
    house = await cast.station.house()
    fingerprint = Fingerprint(cast.device.installed.identity.fingerprint)
    await house.devices.accept_certificate(
        DEFAULT_TENANT, cast.id, fingerprint, actor="life", reason="life"
    )


async def works(cast: Cast) -> object:
    house = await cast.station.house()
    return await house.escrow_watch.tend()


async def sweeps(cast: Cast) -> None:
    house = await cast.station.house()
    await house.retention.tend()
    await house.retention.sweep_by_hand(anew=True)


async def time_passes(cast: Cast) -> object:
    pause = cast.choose.choice(PAUSES)
    cast.station.clock.moment += pause
    return str(pause)


async def disk_fails(cast: Cast) -> object:
    cast.station.trouble.failures = cast.choose.randint(1, 3)
    return cast.station.trouble.failures


async def will_die(cast: Cast) -> object:
    trouble = cast.station.trouble
    trouble.dies_at, trouble.dies_after = cast.choose.choice(STEPS), cast.choose.randint(0, 4)
    return f"{trouble.dies_at} + {trouble.dies_after}"


async def answers_get_lost(cast: Cast) -> None:
    cast.station.loses_answers = cast.choose.randint(1, 2)


async def restarts_house(cast: Cast) -> None:
    await cast.station.reopen()
