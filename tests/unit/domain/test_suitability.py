"""Which commands a device can carry out: refused with the reason by what is known, and never by what is not."""

from typing import Any

import pytest

from conformance.storage_values import device, pointer, sheet, user
from ostiary.domain.enrollment import Enrollment, InstalledProfile, State
from ostiary.domain.erasing import ErasePlan, NoBootstrapToken, WayBackMissing, require_erasable
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.first_commands import is_macos
from ostiary.domain.platform import machine_of
from ostiary.domain.suitability import (
    AccessRightMissing,
    CommandNotForSharedIpad,
    CommandNotForThisChannel,
    CommandNotForThisEnrollment,
    CommandNotForThisMac,
    CommandNotForThisPlatform,
    NotAwaiting,
    NotByAutomatedEnrollment,
    NotSupervised,
    NoUnlockToken,
    OnlyForSharedIpad,
    StillAwaiting,
    SystemTooOld,
    require_suitable,
)
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.identity import EnrollmentType
from ostiary.protocol.mdm.lock_commands import ReturnToService, erase_device
from ostiary.protocol.mdm.nature import NATURE, Kind
from ostiary.protocol.mdm.platforms import Chip, Platform

PRODUCTS = {
    "iphone": "iPhone15,2",
    "ipad": "iPad13,1",
    "mac": "Mac14,2",
    "intel": "MacBookPro16,1",
    "tv": "AppleTV14,1",
    "watch": "Watch7,1",
    "vision": "RealityDevice14,1",
    "toaster": "Toaster1,1",
}
NEWEST = {
    "iphone": "26.1",
    "ipad": "26.1",
    "mac": "26.1",
    "intel": "15.6",
    "tv": "26.1",
    "watch": "26.1",
    "vision": "26.1",
    "toaster": "1.0",
}


def a(kind: str, version: str | None = None, **changes: Any) -> Enrollment:
    """An enrolled device of a kind, with an unlock token, in its newest version or the one named."""
    facts = DeviceFacts(product_name=PRODUCTS[kind], os_version=version or NEWEST[kind])
    return device(1, **{"facts": facts, "unlock": pointer(1), **changes})


def hardware(**facts: Any) -> FactSheet:
    return sheet(1, SheetName.DEVICE, facts=facts)


def management(**facts: Any) -> FactSheet:
    return sheet(1, SheetName.SECURITY, facts={"ManagementStatus": facts})


def require(one: Enrollment, request_type: str, *sheets: FactSheet) -> None:
    require_suitable(one, one, request_type, sheets)


ALLOWED_ON_OWN_DEVICES = {"SecurityInfo", "DeviceLock"}
"""Of the table, what User Enrollment allows at all; a lock not on macOS."""
MAC_ONLY = (
    "RotateFileVaultKey",
    "SetRecoveryLock",
    "VerifyRecoveryLock",
    "AccountConfiguration",
    "SetAutoAdminPassword",
    "UnlockUserAccount",
    "LOMSetupRequest",
    "LOMDeviceRequest",
)


@pytest.mark.parametrize(
    ("request_type", "kinds"),
    [
        ("ClearPasscode", {"iphone", "ipad", "watch", "vision"}),
        ("DeviceLock", {"iphone", "ipad", "watch", "vision", "mac", "intel"}),
        ("EraseDevice", {"iphone", "ipad", "watch", "vision", "mac", "intel", "tv"}),
        ("ActivationLockBypassCode", {"iphone", "ipad", "vision", "mac", "intel"}),
        ("ClearActivationLockBypassCode", {"iphone", "ipad", "vision", "mac", "intel"}),
        ("UserList", {"ipad", "mac", "intel"}),
        ("SetRecoveryLock", {"mac"}),
        ("VerifyRecoveryLock", {"mac"}),
        ("SetFirmwarePassword", {"intel"}),
        ("VerifyFirmwarePassword", {"intel"}),
        *(
            (name, {"mac", "intel"})
            for name in MAC_ONLY
            if name not in ("SetRecoveryLock", "VerifyRecoveryLock", "AccountConfiguration")
        ),
    ],
)
def test_a_command_is_for_the_platforms_of_its_table(request_type: str, kinds: set[str]) -> None:
    """escrowed-secrets.md 4.1 to 4.11."""
    refusals = (CommandNotForThisPlatform, CommandNotForThisMac, OnlyForSharedIpad)
    for kind in PRODUCTS:
        if kind in kinds or kind == "toaster":
            require(a(kind), request_type)
        else:
            with pytest.raises(refusals):
                require(a(kind), request_type)


@pytest.mark.parametrize(
    ("request_type", "kind", "too_old", "first"),
    [
        ("ClearPasscode", "vision", "1.0", "1.1"),
        ("ClearPasscode", "watch", "9.6", "10"),
        ("DeviceLock", "vision", "1.3", "2.0"),
        ("DeviceLock", "watch", "9.6", "10.0"),
        ("EraseDevice", "tv", "10.1", "10.2"),
        ("EraseDevice", "vision", "1.0", "1.1"),
        ("RotateFileVaultKey", "intel", "10.8.5", "10.9"),
        ("SetRecoveryLock", "mac", "11.4", "11.5"),
        ("VerifyRecoveryLock", "mac", "11.4", "11.5"),
        ("SetFirmwarePassword", "intel", "10.12.6", "10.13"),
        ("VerifyFirmwarePassword", "intel", "10.12.6", "10.13"),
        ("SetAutoAdminPassword", "intel", "10.10", "10.11"),
        ("ActivationLockBypassCode", "iphone", "7.0.6", "7.1"),
        ("ActivationLockBypassCode", "intel", "10.14.6", "10.15"),
        ("ActivationLockBypassCode", "vision", "1.3", "2"),
        ("UnlockUserAccount", "intel", "10.12", "10.13"),
        ("UserList", "intel", "10.12", "10.13"),
        ("LOMSetupRequest", "intel", "10.15.7", "11.0"),
    ],
)
def test_a_command_is_refused_before_the_first_version_that_knows_it(
    request_type: str, kind: str, too_old: str, first: str
) -> None:
    """escrowed-secrets.md 4.1 to 4.11, the columns on versions."""
    with pytest.raises(SystemTooOld) as refused:
        require(a(kind, too_old), request_type)
    assert too_old in str(refused.value)
    require(a(kind, first), request_type)


@pytest.mark.parametrize("request_type", NATURE)
def test_what_is_not_known_never_refuses(request_type: str) -> None:
    """A device says itself what it cannot do; refusing on a guess would keep a secret out of reach."""
    unknown = device(1, facts=DeviceFacts(), unlock=pointer(1), state=State.PENDING)
    require(unknown, request_type)
    require(unknown, request_type, sheet(1, SheetName.DEVICE, facts={}), management())


@pytest.mark.parametrize("request_type", ["ProfileList", "InstallProfile", "Settings", "Brandnew"])
def test_commands_that_we_do_not_list_are_refused_nowhere(request_type: str) -> None:
    for kind in PRODUCTS:
        require(a(kind), request_type)


@pytest.mark.parametrize(
    "request_type",
    [name for name, nature in NATURE.items() if nature.device_channel_only],
)
def test_device_commands_are_refused_on_a_user_channel(request_type: str) -> None:
    """escrowed-secrets.md 4.1 to 4.11: DEV."""
    mac = a("mac")
    with pytest.raises(CommandNotForThisChannel):
        require_suitable(user(2, 1), mac, request_type)


@pytest.mark.parametrize(
    "request_type",
    [name for name in NATURE if name not in ALLOWED_ON_OWN_DEVICES],
)
@pytest.mark.parametrize("kind", ["mac", "iphone", "ipad", "tv", "vision", "toaster"])
def test_what_apple_forbids_on_somebody_s_own_device_is_refused_there(
    request_type: str, kind: str
) -> None:
    """escrowed-secrets.md 4.1 to 4.11, "not UE"; for the others the schemas, `userenrollment: forbidden`. (UT-08, RL-08)"""
    theirs = a(kind, type=EnrollmentType.USER_ENROLLMENT_DEVICE)
    with pytest.raises(CommandNotForThisEnrollment):
        require(theirs, request_type)
    said = management(IsUserEnrollment=True)
    with pytest.raises(CommandNotForThisEnrollment):
        require(a(kind), request_type, said)


def test_no_command_with_a_secret_is_allowed_on_somebody_s_own_device() -> None:
    """escrowed-secrets.md 4.1 to 4.9."""
    assert all(NATURE[name].kind is not Kind.SECRET for name in ALLOWED_ON_OWN_DEVICES)
    assert NATURE.keys() >= ALLOWED_ON_OWN_DEVICES


@pytest.mark.case("DL-05")
def test_a_lock_under_user_enrollment_is_for_phones_and_not_for_macs() -> None:
    """escrowed-secrets.md 4.6."""
    with pytest.raises(CommandNotForThisEnrollment):
        require(a("mac", type=EnrollmentType.USER_ENROLLMENT_DEVICE), "DeviceLock")
    require(a("iphone", type=EnrollmentType.USER_ENROLLMENT_DEVICE), "DeviceLock")


@pytest.mark.case("UT-08")
def test_clear_passcode_is_refused_with_the_reason_wherever_it_cannot_work() -> None:
    """escrowed-secrets.md 4.1 server rule 3."""
    for one, error in (
        (a("mac"), CommandNotForThisPlatform),
        (a("tv"), CommandNotForThisPlatform),
        (a("iphone", type=EnrollmentType.USER_ENROLLMENT_DEVICE), CommandNotForThisEnrollment),
        (a("iphone", profile=profile(8191 - 4)), AccessRightMissing),
    ):
        with pytest.raises(error):
            require(one, "ClearPasscode")
    with pytest.raises(CommandNotForSharedIpad):
        require(a("ipad"), "ClearPasscode", hardware(IsMultiUser=True))
    with pytest.raises(NoUnlockToken):
        require(a("iphone", unlock=None), "ClearPasscode")


def profile(rights: int) -> InstalledProfile:
    return InstalledProfile(access_rights=rights, capabilities=frozenset())


@pytest.mark.parametrize(
    ("request_type", "kind", "right"),
    [
        ("ClearPasscode", "iphone", 4),
        ("DeviceLock", "iphone", 4),
        ("EraseDevice", "iphone", 8),
        ("SecurityInfo", "iphone", 1024),
        ("RotateFileVaultKey", "mac", 4),
        ("SetRecoveryLock", "mac", 4),
        ("VerifyRecoveryLock", "mac", 4),
        ("SetFirmwarePassword", "intel", 4),
        ("UnlockUserAccount", "mac", 4),
        ("LOMSetupRequest", "mac", 4),
        ("LOMDeviceRequest", "mac", 4),
    ],
)
def test_a_command_needs_its_right_in_the_installed_profile(
    request_type: str, kind: str, right: int
) -> None:
    """escrowed-secrets.md 4.1 to 4.11, "right n"."""
    with pytest.raises(AccessRightMissing):
        require(a(kind, profile=profile(8191 - right)), request_type)
    require(a(kind, profile=profile(right)), request_type)
    require(a(kind, profile=None), request_type)


@pytest.mark.parametrize(
    ("request_type", "kind"),
    [
        ("VerifyFirmwarePassword", "intel"),
        ("SetAutoAdminPassword", "mac"),
        ("ActivationLockBypassCode", "iphone"),
        ("UserList", "mac"),
    ],
)
def test_a_command_without_a_right_asks_for_none(request_type: str, kind: str) -> None:
    """escrowed-secrets.md 4.5, 4.8, 4.9: no right."""
    require(a(kind, profile=profile(1)), request_type)


@pytest.mark.case("RL-08")
def test_a_recovery_lock_is_refused_on_intel_and_under_user_enrollment() -> None:
    """escrowed-secrets.md 4.4: by the product name, or by what the Mac says of itself."""
    with pytest.raises(CommandNotForThisMac) as refused:
        require(a("intel"), "SetRecoveryLock")
    assert "firmware password" in refused.value.hint
    with pytest.raises(CommandNotForThisMac):
        require(a("mac"), "SetRecoveryLock", hardware(IsAppleSilicon=False))
    with pytest.raises(CommandNotForThisEnrollment):
        require(a("mac", type=EnrollmentType.USER_ENROLLMENT_DEVICE), "SetRecoveryLock")


def test_what_a_mac_says_of_its_processor_goes_before_its_name() -> None:
    """escrowed-secrets.md 4.5: not on Apple silicon."""
    require(a("intel"), "SetRecoveryLock", hardware(IsAppleSilicon=True))
    with pytest.raises(CommandNotForThisMac):
        require(a("intel"), "SetFirmwarePassword", hardware(IsAppleSilicon=True))


def test_a_recovery_lock_waits_until_setup_assistant_has_ended() -> None:
    """escrowed-secrets.md 4.4 field fact (a): it would be acknowledged and not be in force."""
    with pytest.raises(StillAwaiting):
        require(a("mac", awaiting=True), "SetRecoveryLock")
    require(a("mac", awaiting=False), "SetRecoveryLock")


@pytest.mark.case("AA-02")
def test_accounts_are_configured_only_while_the_mac_awaits() -> None:
    """escrowed-secrets.md 4.8."""
    with pytest.raises(NotAwaiting):
        require(a("mac", awaiting=False), "AccountConfiguration")
    require(a("mac", awaiting=True), "AccountConfiguration")
    require(a("mac", state=State.PENDING), "AccountConfiguration")


def test_the_automatic_administrator_needs_automated_enrollment() -> None:
    """escrowed-secrets.md 4.8: ADE."""
    with pytest.raises(NotByAutomatedEnrollment):
        require(a("mac"), "SetAutoAdminPassword", management(EnrolledViaDEP=False))
    require(a("mac"), "SetAutoAdminPassword", management(EnrolledViaDEP=True))


@pytest.mark.parametrize("name", ["ActivationLockBypassCode", "ClearActivationLockBypassCode"])
def test_bypass_codes_need_supervision_and_one_user(name: str) -> None:
    """escrowed-secrets.md 4.9."""
    with pytest.raises(NotSupervised):
        require(a("iphone"), name, hardware(IsSupervised=False))
    with pytest.raises(CommandNotForSharedIpad):
        require(a("ipad"), name, hardware(IsSupervised=True, IsMultiUser=True))
    require(a("iphone"), name, hardware(IsSupervised=True))


def test_of_all_phones_and_ipads_only_a_shared_one_lists_its_users() -> None:
    """escrowed-secrets.md 4.2."""
    with pytest.raises(OnlyForSharedIpad):
        require(a("iphone"), "UserList")
    with pytest.raises(OnlyForSharedIpad):
        require(a("ipad"), "UserList", hardware(IsMultiUser=False))
    require(a("ipad"), "UserList", hardware(IsMultiUser=True))


def test_a_machine_is_what_its_row_and_its_reports_say() -> None:
    """What no source says is None."""
    machine = machine_of(a("mac", "15.1", awaiting=True), [hardware(IsSupervised=True)])
    assert (machine.platform, machine.version, machine.chip) == (
        Platform.MACOS,
        (15, 1),
        Chip.APPLE_SILICON,
    )
    assert (machine.supervised, machine.automated, machine.awaiting) == (True, True, True)
    unsupervised = machine_of(a("iphone"), [hardware(IsSupervised=False)])
    assert unsupervised.automated is False, "from iOS 13 on, automated enrollment supervises"
    old = machine_of(a("iphone", "12.5"), [hardware(IsSupervised=False)])
    assert old.automated is None


@pytest.mark.parametrize("kind", PRODUCTS)
def test_both_ways_of_telling_a_mac_agree(kind: str) -> None:
    """domain/first_commands.py asks in its own way."""
    assert is_macos(a(kind)) is machine_of(a(kind)).is_mac


@pytest.mark.case("ER-04")
def test_a_device_that_would_come_back_to_nobody_is_not_erased_to_come_back() -> None:
    """escrowed-secrets.md 4.7: not enrolled by ADE, no MDMProfileData."""
    phone, by_hand = a("iphone"), hardware(IsSupervised=False)
    bare = ErasePlan.of(erase_device(return_to_service=ReturnToService(wifi_profile=b"w")))
    with pytest.raises(WayBackMissing):
        require_erasable(phone, bare, [by_hand])
    with pytest.raises(WayBackMissing):
        require_erasable(phone, bare, [management(EnrolledViaDEP=False)])
    with_profile = ErasePlan.of(erase_device(return_to_service=ReturnToService(mdm_profile=b"m")))
    require_erasable(phone, with_profile, [by_hand])
    require_erasable(phone, bare, [management(EnrolledViaDEP=True)])
    require_erasable(phone, ErasePlan.of(erase_device()), [by_hand])


@pytest.mark.case("ER-06")
def test_apps_cannot_be_kept_without_a_bootstrap_token() -> None:
    """escrowed-secrets.md 4.7 consequence 8; plain Return to Service goes without."""
    plain, wish = (ReturnToService(mdm_profile=b"m", keeps_apps=keeps) for keeps in (False, True))
    keeping = ErasePlan.of(erase_device(return_to_service=wish))
    with pytest.raises(NoBootstrapToken) as refused:
        require_erasable(a("iphone"), keeping)
    assert "bootstrap token" in str(refused.value)
    require_erasable(a("iphone", bootstrap=pointer(2)), keeping)
    require_erasable(a("iphone"), ErasePlan.of(erase_device(return_to_service=plain)))
    with pytest.raises(SystemTooOld):
        require_erasable(a("iphone", "18.1", bootstrap=pointer(2)), keeping)


@pytest.mark.parametrize(
    ("kind", "too_old", "first"),
    [
        ("iphone", "16.7", "17"),
        ("ipad", "16.7", "17.0"),
        ("tv", "17.6", "18.0"),
        ("vision", "2.6", "26.0"),
    ],
)
def test_return_to_service_begins_with_a_version(kind: str, too_old: str, first: str) -> None:
    """escrowed-secrets.md 4.7."""
    plan = ErasePlan(returns_to_service=True)
    with pytest.raises(SystemTooOld):
        require_erasable(a(kind, too_old), plan)
    require_erasable(a(kind, first), plan)
    with pytest.raises(CommandNotForThisPlatform):
        require_erasable(a("mac"), plan)
