"""People log in: SecureTokens, user channels, and the digest exchange of network users.

Source: check-in-and-commands.md 1.4 TU-13, 1.5, 2.5 step 5; escrowed-secrets.md 4.2 (Simulated device).
"""

import hashlib
import re
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ostiary_sim import messages
from ostiary_sim.errors import MessageUnreadable, NotPossible
from ostiary_sim.mac_secrets import wants_filevault
from ostiary_sim.personality import UserChannels, draw_uuid
from ostiary_sim.profile import PER_USER
from ostiary_sim.users import User

if TYPE_CHECKING:
    from ostiary_sim.device import Device

_FIRST_UID: Final = 501
_ANY_USER_ASKS_SINCE: Final = (11,)
_ANY_LOGIN_ESCROWS_SINCE: Final = (10, 15, 4)
_CHALLENGE_FIELD: Final = re.compile(r'(\w+)="([^"]*)"')


class Login(Enum):
    """What the server said to UserAuthenticate."""

    MANAGED = "managed, without proof"
    PROVEN = "managed, with an AuthToken"
    WRONG = "the digest was not accepted"
    DECLINED = "not managed until the next login"
    FAILED = "no usable answer"


async def log_in(
    device: "Device",
    short_name: str,
    *,
    long_name: str | None,
    password: str,
    mobile: bool,
    managed: bool | None,
    awaiting: bool,
) -> User:
    """Let somebody log in and do what the device then does; see `Device.user_login`."""
    match device.personality.user_channels:
        case UserChannels.NONE:
            raise NotPossible("this device has no users")
        case UserChannels.SHARED_IPAD:
            return await _log_in_to_shared_ipad(device, short_name, awaiting=awaiting)
        case UserChannels.MAC:
            pass
    if device.in_setup_assistant:
        raise NotPossible("the Mac waits in Setup Assistant: nobody can log in yet")
    if device.lock_screen.is_silent:
        raise NotPossible("the Mac is locked, and waits for its PIN")
    is_new = short_name not in device.users
    user = _user(device, short_name, long_name)
    if is_new:
        user.password, user.mobile = password, mobile
    if is_new or (user is device.auto_admin.user and not user.secure_token):
        await _give_secure_token(device, user)  # an account made by the server gets it at a login
    if (
        user.secure_token
        and not device.volume.encrypted
        and wants_filevault(device.other_profiles.values())
    ):
        device.turn_on_filevault()
    bootstrap = device.bootstrap
    if _may_escrow(device, user) and bootstrap.supported and not bootstrap.escrowed:
        await bootstrap.escrow()
    if _becomes_managed(device, user, managed):
        await _open_channel(device, user)
    return user


def _user(device: "Device", short_name: str, long_name: str | None) -> User:
    if short_name not in device.users:
        device.users[short_name] = User(
            short_name=short_name,
            long_name=long_name or short_name.partition("@")[0].title(),
            guid=draw_uuid(device.rng),
            uid=_FIRST_UID + len(device.users),
        )
    user = device.users[short_name]
    user.logged_in = True
    user.refused = False
    device.say("user_logged_in", short_name)
    return user


async def _log_in_to_shared_ipad(device: "Device", short_name: str, *, awaiting: bool) -> User:
    """A Shared iPad user shows up with a TokenUpdate and then polls by himself (TU-13)."""
    is_new = short_name not in device.users
    user = _user(device, short_name, None)
    user.awaiting = awaiting and is_new
    if _serves_users(device):
        user.managed = True
        await device.send_token_update(user)
        if user.managed:
            await device.idle(user)
    return user


def _may_escrow(device: "Device", user: User) -> bool:
    """Say whether this login lets the Mac escrow its bootstrap token. Source: escrowed-secrets.md 4.2."""
    version, admin = device.personality.version, device.auto_admin
    if version < _ANY_USER_ASKS_SINCE and admin.skips_primary_account:
        return False
    if version < _ANY_LOGIN_ESCROWS_SINCE and user is admin.user:
        return False
    return user.secure_token


async def _give_secure_token(device: "Device", user: User) -> None:
    bootstrap = device.bootstrap
    somebody_has_one = any(each.secure_token for each in device.users.values())
    if not somebody_has_one and not user.mobile:
        user.secure_token = True  # the first local account makes its own
        return
    asks = user.mobile or device.personality.version >= _ANY_USER_ASKS_SINCE
    if asks and bootstrap.supported:
        user.secure_token = await bootstrap.authorizes()
    if not user.secure_token:
        device.say("user_without_secure_token", user.short_name)


def _serves_users(device: "Device") -> bool:
    return device.profile is not None and PER_USER in device.profile.management.capabilities


def _becomes_managed(device: "Device", user: User, managed: bool | None) -> bool:
    """Only one local user of a Mac is managed, the one who enrolled; network users always are."""
    if not _serves_users(device):
        return False
    if managed is not None:
        return managed
    if (named := device.auto_admin.managed_user) is not None and not user.mobile:
        return user.short_name == named
    return user.managed or user.mobile or not any(each.managed for each in device.users.values())


async def _open_channel(device: "Device", user: User) -> None:
    if user.mobile and await user_authenticate(device, user) not in (Login.MANAGED, Login.PROVEN):
        return
    is_known = user.managed
    user.managed = True
    if not is_known or device.channel(user).updates_accepted == 0:
        await device.send_token_update(user)


async def user_authenticate(device: "Device", user: User) -> Login:
    """Prove who logs in, in one or two requests; keeps the AuthToken with the user."""
    user.auth_token = None
    result = await _authenticate_in_two(device, user)
    user.refused = result is Login.DECLINED
    if result not in (Login.MANAGED, Login.PROVEN):
        user.managed = False
    device.say("user_authenticated", user.short_name, result.value)
    return result


async def _authenticate_in_two(device: "Device", user: User) -> Login:
    answer = await device.check_in(messages.user_authenticate(device, user, None), user.short_name)
    if answer.status == HTTPStatus.GONE:
        return Login.DECLINED
    challenge = _field(answer.body and answer.ok and answer.fields(), "DigestChallenge")
    if not answer.ok or challenge is None:
        return Login.FAILED
    if challenge == "":
        return Login.MANAGED
    response = digest_response(challenge, user.short_name, user.password)
    answer = await device.check_in(
        messages.user_authenticate(device, user, response), user.short_name
    )
    if answer.status == HTTPStatus.GONE:
        return Login.DECLINED
    try:
        token = _field(answer.ok and answer.fields(), "AuthToken")
    except MessageUnreadable:
        return Login.FAILED
    if token is None:
        return Login.FAILED
    user.auth_token = token or None
    return Login.PROVEN if token else Login.WRONG


def _field(fields: object, key: str) -> str | None:
    value = fields.get(key) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else None


def digest_response(challenge: str, user_name: str, password: str, method: str = "PUT") -> str:
    """The answer to a DigestChallenge. The HTTP method inside is not settled by any document.

    Source: check-in-and-commands.md 1.5.
    """
    asked = dict(_CHALLENGE_FIELD.findall(challenge))
    realm, nonce, uri = asked.get("realm", ""), asked.get("nonce", ""), "/"
    secret = _md5(f"{user_name}:{realm}:{password}")
    response = _md5(f"{secret}:{nonce}:{_md5(f'{method}:{uri}')}")
    return (
        f'Digest username="{user_name}", realm="{realm}", nonce="{nonce}", '
        f'uri="{uri}", response="{response}"'
    )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
