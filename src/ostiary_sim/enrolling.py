"""How a relationship begins and how it is renewed: profile, identity, Authenticate, TokenUpdate, in that order.

Called by `Device` alone. Source: check-in-and-commands.md 2.5 steps 1 to 4, 8 and 11.
"""

from typing import TYPE_CHECKING

import httpx

from ostiary_sim.channel import Channel, managed_users
from ostiary_sim.errors import EnrollmentRefused, NotPossible, ProfileRefused
from ostiary_sim.identity import Identity, open_pkcs12
from ostiary_sim.installed import Backup, Installed
from ostiary_sim.levers import Keep, UnlockTokenAtRenewal
from ostiary_sim.personality import draw_uuid
from ostiary_sim.profile import (
    MEDIA_TYPE,
    EnrollmentProfile,
    Pkcs12Request,
    Rights,
    check_replacement,
    read_enrollment_profile,
)
from ostiary_sim.said import with_sentence
from ostiary_sim.scep import Hostility
from ostiary_sim.unlock_token import draw_unlock_token

if TYPE_CHECKING:
    from ostiary_sim.device import Device


async def enroll(
    device: "Device", document: bytes, identity: Identity | None, hostility: Hostility | None
) -> None:
    """Steps 1 to 4; see `Device.enroll`."""
    if device.profile is not None:
        raise NotPossible("the device is enrolled; a command replaces its profile")
    if device.activation_lock.stands_in_setup:
        raise NotPossible("Activation Lock: Setup Assistant asks for an account, or for the code")
    if device.lock_screen.is_silent:
        raise NotPossible("the Mac is locked, and waits for its PIN")
    offered = read_enrollment_profile(document, allow_http=device.allow_http)
    identity = identity or await _obtain_identity(device, offered, hostility)
    device.begin_relationship(Installed(profile=offered, identity=identity))
    answer = await device.send_authenticate()
    if not answer.ok:
        device.adopt(None)
        device.say("enrollment_abandoned", detail=str(answer.status))
        raise EnrollmentRefused(answer.status, answer.sentence)
    device.awaiting = device.awaits_when_enrolled
    device.unlock_token = _new_unlock_token(device)
    device.unlock_token_dead = False
    lock = device.activation_lock
    if device.personality.supervised and lock.supervised_at is None:
        lock.supervised_at = device.clock()
    await device.send_token_update()
    if device.enrolled:
        await device.bootstrap.after_enrollment()


async def replace(
    device: "Device", document: bytes, *, hostility: Hostility | None, renewal_request: bool
) -> None:
    """Step 8; see `Device.replace_profile`."""
    before = device.installed
    offered = read_enrollment_profile(document, allow_http=device.allow_http)
    check_replacement(before.profile, offered, user_enrollment=device.personality.user_enrollment)
    old = before.identity if renewal_request else None
    identity = await _obtain_identity(device, offered, hostility, renew=old)
    channel = device.channel()
    magic, token, pending = channel.push_magic, device.unlock_token, channel.pending
    device.adopt(Installed(profile=offered, identity=identity))
    try:
        await _start_again(device)
    except EnrollmentRefused:
        if device.profile is not None:  # an answer may have ended the enrollment meanwhile
            device.adopt(before)
            channel.push_magic, device.unlock_token, channel.pending = magic, token, pending
            device.say("profile_rolled_back")
        raise
    if device.levers.recovery_lock_drops_at_renewal:
        device.recovery_lock.password = None
    device.say("profile_replaced")
    for user in managed_users(device.users.values()):
        await device.send_token_update(user)


async def restore(device: "Device", backup: Backup) -> None:
    """Step 11; see `Device.restore_from_backup`."""
    if backup.udid != device.udid:
        device.activation_lock.renew_code()
        device.say("backup_of_another_device_restored")
        return
    device.activation_lock.code = backup.bypass_code
    device.begin_relationship(backup.installed)
    device.enrollment_id = backup.enrollment_id
    device.unlock_token = backup.unlock_token
    device.channel().push_magic = backup.push_magic
    device.say("backup_restored")
    await device.send_token_update()


async def fetch_document(client: httpx.AsyncClient, url: str, user_agent: str) -> bytes:
    """The profile that an enrollment URL serves; see `Device.fetch_profile`."""
    try:
        answer = await client.get(url, headers={"User-Agent": user_agent}, follow_redirects=True)
    except httpx.HTTPError as problem:
        raise ProfileRefused(f"the enrollment URL does not answer: {problem}") from problem
    kind = answer.headers.get("content-type", "").split(";")[0].strip()
    if not answer.is_success or kind != MEDIA_TYPE:
        fact = f"the enrollment URL answered {answer.status_code} ({kind})"
        raise ProfileRefused(with_sentence(fact, kind, answer.content))
    return answer.content


def unlock_token_to_send(
    device: "Device", sender: Channel, wished: bytes | Keep | None
) -> bytes | None:
    """What a TokenUpdate carries; see `Device.send_token_update`. Source: escrowed-secrets.md 4.1."""
    if sender.user is not None:
        return None if isinstance(wished, Keep) else wished
    if isinstance(wished, Keep):
        is_first = sender.updates_accepted == 0
        return device.unlock_token if is_first or device.levers.unlock_token_always else None
    if wished:
        device.unlock_token, device.unlock_token_dead = wished, False
    return wished


async def _start_again(device: "Device") -> None:
    answer = await device.send_authenticate()
    if not answer.ok:
        raise EnrollmentRefused(answer.status, answer.sentence)
    channel = device.channel()
    channel.push_magic = draw_uuid(device.rng)
    at_renewal = device.levers.unlock_token_at_renewal
    if at_renewal is UnlockTokenAtRenewal.CHANGED:
        device.unlock_token = _new_unlock_token(device)
    sent = None if at_renewal is UnlockTokenAtRenewal.OMITTED else device.unlock_token
    answer = await channel.send_token_update(unlock_token=sent, awaiting=None)
    if not answer.ok:
        raise EnrollmentRefused(answer.status, answer.sentence)


async def _obtain_identity(
    device: "Device",
    offered: EnrollmentProfile,
    hostility: Hostility | None,
    renew: Identity | None = None,
) -> Identity:
    if isinstance(offered.identity, Pkcs12Request):
        return open_pkcs12(offered.identity.archive, offered.identity.password)
    identity = await device.scep_client(offered).obtain(hostility=hostility, renew=renew)
    device.say("identity_issued", detail=identity.fingerprint[:16])
    return identity


def _new_unlock_token(device: "Device") -> bytes | None:
    if not device.personality.sends_unlock_token:
        return None
    if not device.installed.profile.management.has_right(Rights.LOCK):
        return None
    return draw_unlock_token(device.rng)
