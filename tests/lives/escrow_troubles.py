"""Changes of secrets that do not go as they should: what the state machine was made for."""

from datetime import timedelta
from typing import Final

from lives.escrow_cast import Cast, come_anew, enqueue, own_kinds
from lives.escrow_operators import cancels, cancels_all, locks, will_die, works
from lives.escrow_people import restarts
from ostiary.domain.token import TokenKind
from ostiary.services.escrow import Wish
from ostiary_sim.causes import Cause
from scenes.house import OPERATOR


async def has_trouble_with_a_change(cast: Cast) -> object:
    """A change that does not go as it should: what the machine of secrets was made for."""
    first, *others = own_kinds(cast)
    kind = cast.choose.choice((first, first, TokenKind.LOCK_PIN, *others))
    troubles = cast.choose.choices(_TROUBLES, k=cast.choose.randint(1, 3))
    if kind is TokenKind.LOCK_PIN:
        await locks(cast)
    else:
        house = await cast.station.house()
        clears = kind is first and cast.is_mac and cast.choose.random() < 0.2
        await house.escrow.change(Wish(enrollment_id=cast.id, kind=kind, clears=clears), OPERATOR)
    for trouble in troubles:
        await trouble(cast)
    for _ in range(cast.choose.randint(0, 2)):
        await cast.device.idle()
    return ", ".join((kind.value, *(trouble.__name__ for trouble in troubles)))


async def forgets_its_report(cast: Cast) -> None:
    """Carried out, and never told: the system went under."""
    cast.device.levers.lose_reports = 1
    await cast.device.idle()
    cast.device.levers.lose_reports = 0
    if cast.device.profile is not None:
        cast.device.channel().cached_report = None


async def puts_off_what_it_did(cast: Cast) -> None:
    """Carried out and not told; then NotNow, and then nobody wants it any more."""
    await forgets_its_report(cast)
    await puts_it_off(cast)
    await cancels(cast)


async def is_in_doubt_and_fails_again(cast: Cast) -> None:
    """Carried out and not told, and given up; then the next change is given up before it is fetched."""
    await forgets_its_report(cast)
    await cancels_all(cast)
    wish = Wish(enrollment_id=cast.id, kind=TokenKind.ADMIN_PASSWORD)
    if wish.kind not in own_kinds(cast):
        return
    house = await cast.station.house()
    await house.escrow.change(wish, OPERATOR)
    await forgets_its_report(cast)
    await cancels_all(cast)
    await house.escrow.change(wish, OPERATOR)
    await cancels_all(cast)


async def reports_what_nobody_wants(cast: Cast) -> None:
    """The command is cancelled while its report is on the way."""
    cast.device.levers.lose_reports = 1
    await cast.device.idle()
    await cancels(cast)
    await cast.device.idle()


async def is_cut_off(cast: Cast) -> None:
    """Handed out, and never read."""
    cast.device.levers.break_off_after = 1
    await cast.device.idle()


async def does_not_apply(cast: Cast) -> None:
    """Acknowledged, and nothing was done."""
    levers = cast.device.levers
    levers.recovery_lock_not_applied = levers.firmware_not_changed = True
    levers.omit_rotate_result = True
    await cast.device.idle()
    levers.recovery_lock_not_applied = levers.firmware_not_changed = False
    levers.omit_rotate_result = False


async def crashes_over_it(cast: Cast) -> None:
    cast.device.levers.rotation_crashes = cast.device.levers.lock_loses_reply = True
    await cast.device.idle()


async def puts_it_off(cast: Cast) -> None:
    cast.device.say_not_now()
    await cast.device.idle()
    cast.device.ready()


async def is_answered_by_nobody(cast: Cast) -> None:
    """The server takes the report, and dies or is not heard."""
    if cast.choose.random() < 0.5:
        cast.station.loses_answers = cast.choose.randint(1, 2)
    else:
        await will_die(cast)
    await cast.device.idle()


async def is_silent_for_long(cast: Cast) -> None:
    cast.station.clock.moment += timedelta(days=8)
    await works(cast)


async def starts_again(cast: Cast) -> None:
    await restarts(cast)
    if cast.device.profile is not None:
        await enqueue(cast, "SecurityInfo")


async def enrolls_in_between(cast: Cast) -> None:
    if cast.device.profile is not None:
        await come_anew(cast, Cause.ENROLLED_AGAIN)


_TROUBLES: Final = (
    forgets_its_report,
    puts_off_what_it_did,
    is_in_doubt_and_fails_again,
    reports_what_nobody_wants,
    is_cut_off,
    does_not_apply,
    crashes_over_it,
    puts_it_off,
    is_answered_by_nobody,
    is_silent_for_long,
    starts_again,
    enrolls_in_between,
    cancels,
)
