"""What people do at a simulated device, and what it does by itself."""

from typing import Final

from lives.escrow_cast import Cast, come_anew
from ostiary_sim.causes import Cause, clone
from ostiary_sim.cms import ContentCipher
from ostiary_sim.levers import LateBypassCode, Levers, UnlockTokenAtRenewal
from ostiary_sim.unlock_token import draw_unlock_token

PASSWORD: Final = "correct horse"
RELUCTANT: Final = ("SetRecoveryLock", "RotateFileVaultKey", "SetFirmwarePassword", "SecurityInfo")


_TOGGLED: Final = (
    "rotation_crashes",
    "omit_rotate_result",
    "envelope_by_key_identifier",
    "recovery_lock_not_applied",
    "recovery_lock_drops_at_renewal",
    "firmware_not_changed",
    "restart_waits_for_user",
    "lock_loses_reply",
    "erase_without_reply",
    "eacs_fails",
    "report_twice",
    "unlock_token_always",
    "unlock_token_dies_on_use",
    "setup_assistant_lingers",
)


async def comes(cast: Cast) -> object:
    """The device connects and works off its queue."""
    return (await cast.device.idle()).request_types


async def logs_in(cast: Cast) -> None:
    await cast.device.user_login(cast.choose.choice(("ada", "bob")), password=PASSWORD)


async def encrypts(cast: Cast) -> None:
    cast.device.turn_on_filevault()


async def restarts(cast: Cast) -> None:
    await cast.device.restart()


async def types_pin(cast: Cast) -> object:
    pin = cast.device.truth().lock_pin
    return pin is not None and cast.device.lock_screen.type_pin(pin)


async def leaves(cast: Cast) -> None:
    await cast.device.remove_profile(check_out=True)


async def has_another_unlock_token(cast: Cast) -> object:
    told = cast.device.personality
    if not (told.sends_unlock_token and cast.device.enrolled):
        return "has none"
    return await cast.device.send_token_update(unlock_token=draw_unlock_token(cast.device.rng))


async def sets_bootstrap(cast: Cast) -> object:
    fresh = cast.device.rng.randbytes(32)
    return (await cast.device.set_bootstrap_token(cast.choose.choice((fresh, fresh, b"")))).status


async def has_another_bypass_code(cast: Cast) -> None:
    cast.device.activation_lock.renew_code()


async def changes_its_manners(cast: Cast) -> object:
    """A lever is pulled, or all are let go."""
    levers, choose = cast.device.levers, cast.choose
    name = choose.choice(("let go", *_TOGGLED, "reluctances", "cipher", "late", "token", "break"))
    match name:
        case "let go":
            let_go(levers)
        case "reluctances":
            cast.device.say_not_now(choose.sample(RELUCTANT, 2))
        case "cipher":
            levers.envelope_cipher = choose.choice(list(ContentCipher))
        case "late":
            levers.late_bypass_code = choose.choice(list(LateBypassCode))
        case "token":
            levers.unlock_token_at_renewal = choose.choice(list(UnlockTokenAtRenewal))
        case "break":
            levers.break_off_after = choose.randint(1, 3)
        case _:
            setattr(levers, name, True)
    return name


def let_go(levers: Levers) -> None:
    """Be a well-behaved device."""
    for one in _TOGGLED:
        setattr(levers, one, False)
    levers.lose_reports, levers.break_off_after, levers.offline = 0, None, False
    levers.reluctances.clear()


async def calms_down(cast: Cast) -> None:
    """No lever is pulled any more, and the lock screen is open."""
    let_go(cast.device.levers)
    await types_pin(cast)


async def loses_reports(cast: Cast) -> None:
    cast.device.levers.lose_reports = cast.choose.randint(1, 2)


async def goes_through(cast: Cast) -> object:
    """One of the causes for which a server hears from a device anew."""
    cause = cast.choose.choice(list(Cause))
    if cast.device.profile is None:
        cause = Cause.FIRST_ENROLLMENT
    await come_anew(cast, cause)
    return cause.name


async def enrolls_again(cast: Cast) -> None:
    if cast.device.profile is None:
        await come_anew(cast, Cause.FIRST_ENROLLMENT)


async def has_a_double(cast: Cast) -> object:
    """A copy of the machine comes to life, or does something."""
    if cast.double is None:
        if cast.device.profile is None:
            return "nothing to copy"
        cast.double = clone(cast.device)
        return "copied"
    deed = cast.choose.choice(("idle", "idle", "again", "bootstrap"))
    match deed:
        case "idle":
            await cast.double.idle()
        case "again":
            await cast.double.remove_profile(check_out=False)
            await cast.double.enroll(await cast.profile())
        case _:
            if cast.is_mac:
                await cast.double.set_bootstrap_token(cast.choose.randbytes(32))
    return deed
