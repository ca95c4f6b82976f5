"""What a device does when it is told to: one function per request type.

Those of one subject live with it: mac_commands, firmware, lock_screen, erasing, auto_admin, login_window,
activation_lock, lights_out.

Source: check-in-and-commands.md 3.3 to 3.5; escrowed-secrets.md 4.1, 4.2.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim import (
    activation_lock,
    auto_admin,
    erasing,
    firmware,
    lights_out,
    lock_screen,
    login_window,
    mac_commands,
)
from ostiary_sim.answers import device_answers, security_answers
from ostiary_sim.errors import SimulationFailed
from ostiary_sim.outcomes import (
    NOT_NOW,
    CommandFailed,
    CommandMalformed,
    Outcome,
    failed,
)
from ostiary_sim.personality import PERSONALITIES, Personality, Platform
from ostiary_sim.profile import Rights

if TYPE_CHECKING:
    from ostiary_sim.channel import Channel
    from ostiary_sim.device import Device

Command = Mapping[str, Any]
Handler = Callable[["Device", "Channel", Command], Awaitable[Outcome]]

_RIGHTS: Final[Mapping[str, int]] = {
    "ClearPasscode": Rights.LOCK,
    "DeviceInformation": Rights.DEVICE_QUERIES,
    "DeviceLock": Rights.LOCK,
    "EraseDevice": Rights.ERASE,
    "InstallProfile": Rights.CHANGE_PROFILES,
    "LOMSetupRequest": Rights.LOCK,
    "ProfileList": Rights.INSPECT_PROFILES,
    "RemoveProfile": Rights.CHANGE_PROFILES,
    "RotateFileVaultKey": Rights.LOCK,
    "SecurityInfo": Rights.SECURITY_QUERIES,
    "SetFirmwarePassword": Rights.LOCK,
    "SetRecoveryLock": Rights.LOCK,
    "Settings": Rights.SETTINGS,
    "UnlockUserAccount": Rights.LOCK,
    "VerifyRecoveryLock": Rights.LOCK,
}
_SINCE: Final[Mapping[str, Mapping[Platform, tuple[int, ...]]]] = {
    "ActivationLockBypassCode": {Platform.IOS: (7, 1), Platform.MACOS: (10, 15)},
    "ClearActivationLockBypassCode": {Platform.IOS: (7, 1), Platform.MACOS: (10, 15)},
    "LOMDeviceRequest": {Platform.MACOS: (11,)},
    "LOMSetupRequest": {Platform.MACOS: (11,)},
    "SetFirmwarePassword": {Platform.MACOS: (10, 13)},
    "SetRecoveryLock": {Platform.MACOS: (11, 5)},
    "UnlockUserAccount": {Platform.MACOS: (10, 13)},
    "VerifyFirmwarePassword": {Platform.MACOS: (10, 13)},
    "VerifyRecoveryLock": {Platform.MACOS: (11, 5)},
}
"""The first system that knows a command, where devices older than that can be played."""


async def execute(device: "Device", channel: "Channel", command: Command) -> Outcome:
    """The outcome of one command; a command that cannot be carried out is an outcome, too."""
    request_type = command.get("RequestType")
    try:
        if not isinstance(request_type, str):
            raise CommandMalformed("the command has no RequestType")
        if _puts_off(device, channel, request_type):
            return Outcome(status=NOT_NOW)
        _check_known(device.personality, request_type, on_user_channel=channel.user is not None)
        _check_version(device.personality, request_type)
        _check_right(device, request_type)
        return await _HANDLERS[request_type](device, channel, command)
    except CommandFailed as problem:
        return failed(problem)


def _puts_off(device: "Device", channel: "Channel", request_type: str) -> bool:
    if channel.user is not None and channel.user.user_configuration:
        return True  # the account does not exist yet (3.6)
    if request_type in device.personality.never_not_now:
        return False
    now = device.clock()
    return any(each.covers(request_type, now) for each in device.levers.reluctances)


def _check_known(personality: Personality, request_type: str, *, on_user_channel: bool) -> None:
    known = personality.user_commands if on_user_channel else personality.commands
    if request_type in known:
        return
    if any(request_type in each.commands | each.user_commands for each in PERSONALITIES.values()):
        raise CommandFailed(f"{request_type} is not available on this channel of this device")
    raise CommandMalformed(f"{request_type} is not a valid request type")


def _check_version(personality: Personality, request_type: str) -> None:
    since = _SINCE.get(request_type, {}).get(personality.platform, ())
    if personality.version < since:
        raise CommandFailed(f"{request_type} is not available on {personality.os_version}")


def _check_right(device: "Device", request_type: str) -> None:
    needed = _RIGHTS.get(request_type)
    if needed is None or device.personality.user_enrollment:
        return
    if not device.installed.profile.management.has_right(needed):
        raise CommandFailed(f"{request_type} needs access right {needed}")


async def _device_information(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    queries = command.get("Queries")
    if not isinstance(queries, list):
        raise CommandMalformed("Queries is missing")
    known = await device_answers(device, queries)
    found = {query: known[query] for query in queries if query in known}
    return Outcome(keys={"QueryResponses": found})


async def _security_info(device: "Device", _channel: "Channel", _command: Command) -> Outcome:
    return Outcome(keys={"SecurityInfo": security_answers(device)})


async def _settings(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    wanted = command.get("Settings")
    if not isinstance(wanted, list) or not all(isinstance(each, dict) for each in wanted):
        raise CommandMalformed("Settings is missing")
    results = [{"Item": each.get("Item", ""), "Status": _apply(device, each)} for each in wanted]
    return Outcome(keys={"Settings": results})


def _apply(device: "Device", setting: Mapping[str, Any]) -> str:
    match setting:
        case {"Item": "MDMOptions", "MDMOptions": dict(options)} if device.personality.supervised:
            device.mdm_options |= options
        case {"Item": "DeviceName", "DeviceName": str(name)} if device.personality.supervised:
            device.device_name = name
        case _:
            return "Error"
    return "Acknowledged"


async def _clear_passcode(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    offered = command.get("UnlockToken")
    if not isinstance(offered, bytes):
        raise CommandMalformed("UnlockToken is missing")
    domain, code = device.levers.passcode_error
    if device.unlock_token is None or offered != device.unlock_token or device.unlock_token_dead:
        raise CommandFailed("The unlock token is not valid.", domain=domain, code=code)
    device.passcode_set = False
    device.unlock_token_dead = device.levers.unlock_token_dies_on_use
    device.say("passcode_cleared")
    return Outcome()


async def _install_profile(device: "Device", channel: "Channel", command: Command) -> Outcome:
    payload = command.get("Payload")
    if not isinstance(payload, bytes):
        raise CommandMalformed("Payload is missing")
    try:
        await device.install_profile(payload, channel=channel.user)
    except SimulationFailed as problem:
        raise CommandFailed(str(problem), domain="MCInstallationErrorDomain", code=4001) from None
    return Outcome()


async def _remove_profile(device: "Device", channel: "Channel", command: Command) -> Outcome:
    identifier = command.get("Identifier")
    if not isinstance(identifier, str):
        raise CommandMalformed("Identifier is missing")
    if identifier == device.installed.profile.identifier:
        return Outcome(after=device.remove_profile)
    if device.other_profiles.pop((channel.name, identifier), None) is None:
        raise CommandFailed(f"The profile {identifier} is not installed.", code=12075)
    return Outcome()


async def _profile_list(device: "Device", channel: "Channel", _command: Command) -> Outcome:
    listed: list[dict[str, object]] = []
    if channel.user is None:
        profile = device.installed.profile
        listed.append(
            {
                "PayloadIdentifier": profile.identifier,
                "PayloadUUID": profile.uuid,
                "PayloadDisplayName": profile.display_name,
                "PayloadVersion": 1,
                "IsManaged": True,
            }
        )
    for (where, identifier), top in device.other_profiles.items():
        if where == channel.name:
            listed.append(
                {
                    "PayloadIdentifier": identifier,
                    "PayloadUUID": top["PayloadUUID"],
                    "PayloadDisplayName": top.get("PayloadDisplayName", ""),
                    "PayloadVersion": 1,
                    "IsManaged": True,
                }
            )
    return Outcome(keys={"ProfileList": listed})


async def _device_configured(device: "Device", channel: "Channel", _command: Command) -> Outcome:
    if channel.user is not None:
        channel.user.user_configuration = False
        return Outcome()
    if not device.awaiting:
        raise CommandFailed("The device is not awaiting configuration.")
    device.awaiting = False
    device.setting_up = device.levers.setup_assistant_lingers
    device.return_to_service.configured()
    device.say("device_configured" if device.setting_up else "setup_assistant_left")
    return Outcome()


async def _user_configured(device: "Device", channel: "Channel", _command: Command) -> Outcome:
    if channel.user is None or not channel.user.awaiting:
        raise CommandFailed("The user is not awaiting configuration.")
    channel.user.awaiting = False
    device.say("user_configured", channel.name)
    return Outcome()


async def _user_list(device: "Device", _channel: "Channel", _command: Command) -> Outcome:
    if device.personality.platform is not Platform.MACOS:
        shared = [
            {"UserName": user.short_name, "IsLoggedIn": user.logged_in, "HasDataToSync": False}
            for user in device.users.values()
        ]
        return Outcome(keys={"Users": shared})
    listed = [
        {
            "UserName": user.short_name,
            "FullName": user.long_name,
            "UID": user.uid,
            "UserGUID": user.guid,
            "MobileAccount": user.mobile,
            "HasSecureToken": user.secure_token,
            "IsLoggedIn": user.logged_in,
        }
        for user in device.users.values()
    ]
    return Outcome(keys={"Users": listed})


async def _restart_device(device: "Device", _channel: "Channel", command: Command) -> Outcome:
    if command.get("RebuildKernelCache") and device.bootstrap.supported:
        await device.bootstrap.fetch()  # asks first, then restarts (escrowed-secrets.md 4.2)
    if device.levers.restart_waits_for_user:
        return Outcome()
    return Outcome(after=device.restart)


async def _declarative_management(
    device: "Device", channel: "Channel", _command: Command
) -> Outcome:
    device.declarative_channels.add(channel.name)
    return Outcome()


_HANDLERS: Final[Mapping[str, Handler]] = {
    "AccountConfiguration": auto_admin.account_configuration,
    "ActivationLockBypassCode": activation_lock.bypass_code,
    "ClearActivationLockBypassCode": activation_lock.clear_bypass_code,
    "ClearPasscode": _clear_passcode,
    "DeclarativeManagement": _declarative_management,
    "DeviceConfigured": _device_configured,
    "DeviceInformation": _device_information,
    "DeviceLock": lock_screen.device_lock,
    "EraseDevice": erasing.erase_device,
    "InstallProfile": _install_profile,
    "LOMDeviceRequest": lights_out.device_request,
    "LOMSetupRequest": lights_out.setup_request,
    "ProfileList": _profile_list,
    "RemoveProfile": _remove_profile,
    "RestartDevice": _restart_device,
    "RotateFileVaultKey": mac_commands.rotate_filevault_key,
    "SecurityInfo": _security_info,
    "SetAutoAdminPassword": auto_admin.set_auto_admin_password,
    "SetFirmwarePassword": firmware.set_firmware_password,
    "SetRecoveryLock": mac_commands.set_recovery_lock,
    "Settings": _settings,
    "UnlockUserAccount": login_window.unlock_user_account,
    "UserConfigured": _user_configured,
    "UserList": _user_list,
    "VerifyFirmwarePassword": firmware.verify_firmware_password,
    "VerifyRecoveryLock": mac_commands.verify_recovery_lock,
}
