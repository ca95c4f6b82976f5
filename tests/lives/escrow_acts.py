"""What may happen in a life of secrets, how often, and how lives begin."""

from typing import Final

from lives.escrow_cast import Act, Cast, enqueue, own_kinds
from lives.escrow_operators import (
    answers_get_lost,
    asks_something,
    cancels,
    disk_fails,
    erases,
    has_it_changed,
    has_it_cleared,
    has_it_verified,
    installs_filevault,
    locks,
    looks,
    makes_an_admin,
    renews,
    restarts_house,
    sets_by_hand,
    settles,
    sweeps,
    time_passes,
    will_die,
    works,
)
from lives.escrow_people import (
    changes_its_manners,
    comes,
    encrypts,
    enrolls_again,
    goes_through,
    has_a_double,
    has_another_bypass_code,
    has_another_unlock_token,
    leaves,
    logs_in,
    loses_reports,
    restarts,
    sets_bootstrap,
    types_pin,
)
from lives.escrow_troubles import has_trouble_with_a_change
from ostiary.services.escrow import Wish
from ostiary_sim.causes import Cause, play
from scenes.house import OPERATOR


async def enrolls(cast: Cast) -> None:
    await play(Cause.FIRST_ENROLLMENT, cast.device, await cast.profile())


async def waits_for_an_admin(cast: Cast) -> object:
    if not cast.device.awaiting:
        return "does not wait"
    said = await makes_an_admin(cast)
    await cast.device.idle()
    return said


async def tells_of_itself(cast: Cast) -> object:
    """What the operator's changes need to know."""
    await cast.device.idle()
    await enqueue(cast, "DeviceInformation", Queries=["AutoSetupAdminAccounts", "IsSupervised"])
    return (await cast.device.idle()).request_types


async def is_encrypted(cast: Cast) -> object:
    """The profile, the user who logs in, and the report that brings the key."""
    await installs_filevault(cast)
    await cast.device.idle()
    if cast.choose.random() < 0.2:
        cast.device.other_profiles.clear()
    cast.device.turn_on_filevault()
    await enqueue(cast, "SecurityInfo")
    return (await cast.device.idle()).request_types


async def is_locked_up(cast: Cast) -> object:
    """A password for recoveryOS or the firmware, in force and verified."""
    house, kind = await cast.station.house(), own_kinds(cast)[0]
    await house.escrow.change(Wish(enrollment_id=cast.id, kind=kind), OPERATOR)
    await cast.device.idle()
    await cast.device.restart()
    await enqueue(cast, "SecurityInfo")
    await cast.device.idle()
    return (await cast.device.idle()).request_types


FIRST_ACTS: Final = (
    Act("enrolls", enrolls, 10),
    Act("an administrator is made", waits_for_an_admin, 8, mac=True),
    Act("tells of itself", tells_of_itself, 8),
    Act("first login", logs_in, 9, mac=True),
    Act("is encrypted", is_encrypted, 6, mac=True),
    Act("is locked up", is_locked_up, 5, mac=True),
)
"""How lives begin; the weights are tenths."""


ACTS: Final = (
    Act("the device comes", comes, 24),
    Act("somebody logs in", logs_in, 3, mac=True),
    Act("the disk is encrypted", encrypts, 1, mac=True),
    Act("the device restarts", restarts, 3, mac=True),
    Act("somebody types the PIN", types_pin, 3, mac=True),
    Act("the device leaves", leaves, 1),
    Act("the device enrolls", enrolls_again, 4),
    Act("a cause", goes_through, 3),
    Act("a double", has_a_double, 1),
    Act("another unlock token", has_another_unlock_token, 2),
    Act("a bootstrap token", sets_bootstrap, 1, mac=True),
    Act("another bypass code", has_another_bypass_code, 1),
    Act("a lever", changes_its_manners, 5),
    Act("reports get lost", loses_reports, 3),
    Act("a change is asked for", has_it_changed, 14),
    Act("a change in trouble", has_trouble_with_a_change, 16),
    Act("a clearing is asked for", has_it_cleared, 2, mac=True),
    Act("a check is asked for", has_it_verified, 2, mac=True),
    Act("the FileVault profile is sent", installs_filevault, 3, mac=True),
    Act("a lock is sent", locks, 2),
    Act("an erase is sent", erases, 1),
    Act("a question is sent", asks_something, 6),
    Act("an administrator is wanted", makes_an_admin, 2, mac=True),
    Act("a password is given", sets_by_hand, 2, mac=True),
    Act("a command is cancelled", cancels, 2),
    Act("a person looks", looks, 3),
    Act("a renewal is sent", renews, 2),
    Act("a contest is settled", settles, 1),
    Act("the worker works", works, 6),
    Act("the sweeper sweeps", sweeps, 1),
    Act("time passes", time_passes, 5),
    Act("the disk fails", disk_fails, 2),
    Act("the server will die", will_die, 3),
    Act("answers get lost", answers_get_lost, 2),
    Act("the server restarts", restarts_house, 1),
)
