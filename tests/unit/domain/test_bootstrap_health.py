"""Every word that an operator reads of a bootstrap token, and every cause of a missing one."""

from datetime import datetime
from typing import Any

import pytest

from conformance.storage_values import NOON, after, device, pointer, record, sheet
from ostiary.domain.bootstrap_facts import read_bootstrap_facts
from ostiary.domain.bootstrap_health import (
    BootstrapHealth,
    examine_bootstrap,
    is_worth_listing,
)
from ostiary.domain.bootstrap_words import BootstrapWord
from ostiary.domain.enrollment import Enrollment, InstalledProfile, State
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.severity import Severity
from ostiary.domain.token import TokenKind, TokenRecord, TokenState
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.enrollment_profile import BOOTSTRAP_TOKEN
from ostiary.protocol.mdm.identity import EnrollmentType

CAPABLE = InstalledProfile(access_rights=8191, capabilities=frozenset({BOOTSTRAP_TOKEN}))
LATER = after(days=3)
ANN = {"UserName": "ann", "UID": 501, "HasSecureToken": True, "IsLoggedIn": False}
BOB = {"UserName": "bob", "UID": 502, "HasSecureToken": False, "IsLoggedIn": True}


def mac(os_version: str = "15.1", product: str = "Mac14,2", **changes: Any) -> Enrollment:
    facts = DeviceFacts(os_version=os_version, product_name=product)
    given = {"facts": facts, "profile": CAPABLE, "enrolled_at": NOON, **changes}
    return device(1, **given)


def token(state: TokenState = TokenState.OK, **changes: Any) -> TokenRecord:
    return record(7, 1, TokenKind.BOOTSTRAP, state=state, generation=2, **changes)


def retired(cause: str) -> TokenRecord:
    return token(TokenState.RETIRED, cause=cause)


def users(*accounts: dict[str, Any]) -> FactSheet:
    return sheet(1, SheetName.USERS, facts={"Users": list(accounts)}, reported_at=after(hours=2))


def examine(
    row: Enrollment,
    newest: TokenRecord | None = None,
    *sheets: FactSheet,
    now: datetime = LATER,
) -> BootstrapHealth:
    return examine_bootstrap(row, newest, read_bootstrap_facts(sheets), now)


def test_a_held_token_says_since_when_and_whether_it_was_ever_used() -> None:
    """design.md 2: stored is not proven."""
    held = mac(bootstrap=pointer(7))
    found = examine(held, token())
    assert (found.word, found.severity, found.todo) == (BootstrapWord.HELD, Severity.OK, "")
    assert (found.escrowed, found.generation, found.received_at) == (True, 2, NOON)
    assert (found.proven_at, found.proven_by) == (None, None)
    used = token(proven_at=after(days=1), proven_by="EACSPreflight said success")
    assert examine(held, used).proven_at == after(days=1)


@pytest.mark.case("BT-21")
def test_a_token_that_failed_its_preflight_is_suspect_and_still_held() -> None:
    """Row 15: the ledger's step is shown as a critical word, with what to type."""
    doubted = token(TokenState.SUSPECT, cause="EACSPreflight said: unknown failure")
    found = examine(mac(bootstrap=pointer(7)), doubted)
    assert (found.word, found.severity) == (BootstrapWord.SUSPECT, Severity.CRITICAL)
    assert found.escrowed
    assert found.causes == ("EACSPreflight said: unknown failure",)
    assert "sudo profiles install -type bootstraptoken" in found.todo


@pytest.mark.parametrize(
    ("row", "sheets", "cause"),
    [
        (mac(type=EnrollmentType.USER_ENROLLMENT_DEVICE), (), "User Enrollment"),
        (mac(product="iPad13,1", os_version="18.1"), (), "no Mac"),
        (mac(os_version="10.14.6"), (), "older than 10.15"),
        (
            mac(os_version="10.15.7"),
            (sheet(1, facts={"ManagementStatus": {"EnrolledViaDEP": False}}),),
            "Automated Device Enrollment",
        ),
        (mac(), (sheet(1, SheetName.DEVICE, facts={"IsSupervised": False}),), "not supervised"),
    ],
    ids=["user enrollment", "no mac", "old", "catalina without ade", "unsupervised"],
)
def test_a_device_that_hands_none_over_is_unsupported_and_no_trouble(
    row: Enrollment, sheets: tuple[FactSheet, ...], cause: str
) -> None:
    """4.2, "What and where": channel, kind, OS."""
    found = examine(row, None, *sheets)
    assert (found.word, found.severity) == (BootstrapWord.UNSUPPORTED, Severity.OK)
    assert cause in found.causes[0]


def test_a_profile_without_the_capability_is_why_nothing_comes() -> None:
    """4.2: the Mac is told by the installed profile from macOS 11 on."""
    bare = InstalledProfile(access_rights=8191, capabilities=frozenset())
    found = examine(mac(profile=bare))
    assert (found.word, found.severity) == (BootstrapWord.CAPABILITY_MISSING, Severity.WARNING)
    assert found.supported is False
    assert "Enroll the Mac" in found.todo
    (_, status) = found.at_the_mac
    assert status.says[0].endswith("supported on server: NO")


def test_catalina_is_told_by_a_setting_instead() -> None:
    """BT-18: MDMOptions, BootstrapTokenAllowed."""
    said = {"MDMOptions": {"BootstrapTokenAllowed": False}}
    told = sheet(1, SheetName.DEVICE, facts=said)
    bare = InstalledProfile(access_rights=8191, capabilities=frozenset())
    found = examine(mac(os_version="10.15.7", profile=bare), None, told)
    assert found.word is BootstrapWord.CAPABILITY_MISSING
    assert "BootstrapTokenAllowed true" in found.todo
    unasked = examine(mac(os_version="10.15.7", profile=bare))
    assert (unasked.word, unasked.supported) == (BootstrapWord.WAITING, None)
    assert any("standard user" in cause for cause in unasked.causes)


def test_a_profile_of_somebody_else_leaves_support_open() -> None:
    found = examine(mac(profile=None))
    assert (found.word, found.supported) == (BootstrapWord.WAITING, None)
    assert any("Another server" in cause for cause in found.causes)


@pytest.mark.parametrize(
    ("accounts", "cause"),
    [
        ((), "Who holds a SecureToken is not known"),
        ((users(BOB),), "No account on the Mac holds a SecureToken"),
        ((users(ANN, BOB),), "Nobody of those with a SecureToken is logged in: ann"),
        ((users({**ANN, "IsLoggedIn": True}),), "(ann) is logged in since before"),
        (
            (
                users({**BOB, "UserGUID": "G-1"}),
                sheet(1, SheetName.DEVICE, facts={"AutoSetupAdminAccounts": [{"GUID": "G-1"}]}),
            ),
            "the administrator that management made",
        ),
    ],
    ids=["unknown", "nobody holds one", "holder is out", "holder is in", "auto admin alone"],
)
def test_a_missing_token_has_a_cause_out_of_the_list_of_accounts(
    accounts: tuple[FactSheet, ...], cause: str
) -> None:
    """users.md 1G, G5: why there is none. Source: escrowed-secrets.md 4.2, UserList and "When the device sends Set"."""
    found = examine(mac(), None, *accounts)
    assert (found.word, found.severity) == (BootstrapWord.WAITING, Severity.WARNING)
    assert any(cause in one for one in found.causes), found.causes


def test_who_holds_a_secure_token_is_told_by_name() -> None:
    found = examine(
        mac(bootstrap=pointer(7)), token(), users(ANN, BOB, {"HasSecureToken": True, "UID": 9})
    )
    assert found.holders == ("ann", "uid 9")
    assert found.accounts_at == after(hours=2)
    assert examine(mac()).holders is None
    silent = {"UserName": "ann"}
    assert examine(mac(), None, users(silent)).holders is None, "silence is not 'no'"


def test_waiting_is_no_trouble_on_the_first_day() -> None:
    assert examine(mac(), now=after(hours=23)).severity is Severity.OK
    assert examine(mac(), now=after(hours=25)).severity is Severity.WARNING
    assert examine(mac(awaiting=True), now=after(days=9)).severity is Severity.OK


def test_a_token_of_an_earlier_enrollment_is_lost_and_only_the_mac_can_help() -> None:
    """fleet#46588: the Mac's second line stays YES when the server lost the token; no command asks for another."""
    found = examine(mac(), retired("the device enrolled again"))
    assert (found.word, found.severity) == (BootstrapWord.LOST, Severity.CRITICAL)
    assert not found.escrowed
    assert found.generation is None
    install, status = found.at_the_mac
    assert install.command == "sudo profiles install -type bootstraptoken"
    assert status.command == "sudo profiles status -type bootstraptoken"
    assert status.says[1] == "profiles: Bootstrap Token escrowed to server: YES"
    assert "remembers" in status.means


def test_a_mac_that_was_just_enrolled_again_may_yet_bring_another() -> None:
    found = examine(mac(), retired("the device enrolled again"), now=after(hours=2))
    assert (found.word, found.severity) == (BootstrapWord.LOST, Severity.WARNING)


def test_an_erased_mac_waits_as_a_new_one_does() -> None:
    """Row 12: what it had is dead, and it makes another."""
    found = examine(mac(), retired("the device was erased"))
    assert found.word is BootstrapWord.WAITING
    assert "erased" in found.causes[0]
    for since in ({"awaiting": True}, {"came_erased": True}):
        setup = examine(mac(**since), retired("the device enrolled again"))
        assert setup.word is BootstrapWord.WAITING


def test_a_token_that_the_mac_took_back_is_told_apart() -> None:
    """Row 3."""
    found = examine(mac(), retired("removed by the device"))
    assert (found.word, found.severity) == (BootstrapWord.REMOVED, Severity.WARNING)
    (_, status) = found.at_the_mac
    assert status.says[1].endswith("NO")


def test_a_mac_that_accepts_the_token_for_nothing_is_worth_a_look() -> None:
    """SecurityInfo, BootstrapTokenAllowedForAuthentication; a bool is taken too. (BT-20)"""
    held = mac(bootstrap=pointer(7))
    for word in ("disallowed", False):
        told = sheet(1, facts={"BootstrapTokenAllowedForAuthentication": word})
        found = examine(held, token(), told)
        assert (found.word, found.severity) == (BootstrapWord.HELD, Severity.WARNING)
        assert found.allowed == "disallowed"
    for word in ("allowed", True, "not supported"):
        told = sheet(1, facts={"BootstrapTokenAllowedForAuthentication": word})
        assert examine(held, token(), told).severity is Severity.OK


def test_a_device_that_left_keeps_its_token_and_is_handed_nothing() -> None:
    """BT-22."""
    found = examine(mac(state=State.OUT, bootstrap=pointer(7)), token())
    assert found.word is BootstrapWord.HELD
    assert "not enrolled now" in found.causes[0]


def test_lists_show_managed_macs_and_whatever_else_holds_a_token() -> None:
    assert is_worth_listing(mac())
    assert not is_worth_listing(mac(state=State.OUT, bootstrap=pointer(7)))
    assert not is_worth_listing(mac(product="iPad13,1"))
    assert is_worth_listing(mac(product="iPad13,1", os_version="26.0", bootstrap=pointer(7)))
    assert examine(mac(product="iPad13,1", bootstrap=pointer(7)), token()).at_the_mac == ()


@pytest.mark.parametrize("version", ["15.x", "²", ""])
def test_a_version_that_is_none_is_taken_for_a_current_one(version: str) -> None:
    assert examine(mac(os_version=version)).word is BootstrapWord.WAITING
