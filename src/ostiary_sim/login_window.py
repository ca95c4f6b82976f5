"""The login window of a Mac: passwords are checked, and too many wrong ones lock an account out.

Source: escrowed-secrets.md 4.8, 4.10.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim.errors import NotPossible
from ostiary_sim.outcomes import CommandFailed, CommandMalformed, Outcome

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

ATTEMPTS: Final = 5
"""Wrong passwords until an account is locked out; which number is a policy of each Mac."""


async def try_password(device: "Device", short_name: str, password: str) -> bool:
    """Log in if the password is right and the account is not locked out; see `Device.login`."""
    if short_name not in device.users:
        raise NotPossible(f"nobody here is called {short_name}")
    user = device.users[short_name]
    if user.locked_out:
        device.say("login_refused", short_name, "locked out")
        return False
    if not user.accepts(password):
        user.wrong_passwords += 1
        user.locked_out = user.wrong_passwords >= ATTEMPTS
        device.say("login_refused", short_name, "wrong password")
        return False
    user.wrong_passwords = 0
    await device.user_login(short_name)
    return True


async def unlock_user_account(
    device: "Device", _channel: "Channel", command: Mapping[str, Any]
) -> Outcome:
    """Lift the lock-out of any local account; its password stays."""
    short_name = command.get("UserName")
    if not isinstance(short_name, str):
        raise CommandMalformed("UserName is missing")
    user = device.users.get(short_name)
    if user is None:
        raise CommandFailed("There is no such account.")
    user.locked_out, user.wrong_passwords = False, 0
    return Outcome()
