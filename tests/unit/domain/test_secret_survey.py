"""Which secrets a device should have here: each rule cell by cell, and never a gap where nothing was told."""

from datetime import datetime
from typing import Any

import pytest

from conformance.storage_values import (
    NOON,
    after,
    device,
    escrow,
    pointer,
    record,
    record_id,
    sheet,
    user,
)
from ostiary.domain.enrollment import Enrollment, InstalledProfile, Standing, State
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.secret_gap import Finding, Gap, GapState, NotTold, Report
from ostiary.domain.secret_survey import SURVEYED, is_surveyed, survey
from ostiary.domain.severity import Severity
from ostiary.domain.token import TokenKind, TokenRecord, TokenState
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.enrollment_profile import BOOTSTRAP_TOKEN
from ostiary.protocol.mdm.identity import EnrollmentType

LATER = after(days=20)
CAPABLE = InstalledProfile(access_rights=8191, capabilities=frozenset({BOOTSTRAP_TOKEN}))
NO_QUERIES = InstalledProfile(access_rights=8191 - 1024, capabilities=CAPABLE.capabilities)
NO_LOCK = InstalledProfile(access_rights=8191 - 4, capabilities=CAPABLE.capabilities)

DISK, LOCK, FIRMWARE = (
    TokenKind.FILEVAULT_KEY,
    TokenKind.RECOVERY_LOCK,
    TokenKind.FIRMWARE_PASSWORD,
)
ENVELOPE, ADMIN, PIN = TokenKind.FILEVAULT_ENVELOPE, TokenKind.ADMIN_PASSWORD, TokenKind.LOCK_PIN
UNLOCK, BOOTSTRAP, CODE = TokenKind.UNLOCK, TokenKind.BOOTSTRAP, TokenKind.BYPASS_DEVICE
ENCRYPTED = {"FDE_Enabled": True, "FDE_HasPersonalRecoveryKey": True}
PROMPT = "At the Mac: sudo profiles install -type bootstraptoken"


def mac(product: str = "Mac14,2", **changes: Any) -> Enrollment:
    """A Mac whose bootstrap token is held, enrolled for weeks."""
    facts = DeviceFacts(os_version="15.1", product_name=product)
    given = {"facts": facts, "profile": CAPABLE, "enrolled_at": NOON, "bootstrap": pointer(90)}
    return device(1, **{**given, **changes})


def iphone(product: str = "iPhone15,2", **changes: Any) -> Enrollment:
    facts = DeviceFacts(os_version="18.1", product_name=product)
    return device(1, **{"facts": facts, "profile": CAPABLE, "enrolled_at": NOON, **changes})


def said(**facts: Any) -> FactSheet:
    """A SecurityInfo, answered an hour after noon."""
    return sheet(1, SheetName.SECURITY, facts=facts, reported_at=after(hours=1))


def hardware(**facts: Any) -> FactSheet:
    """A DeviceInformation."""
    return sheet(1, SheetName.DEVICE, facts=facts, reported_at=after(hours=1))


def value(number: int, kind: TokenKind, **changes: Any) -> TokenRecord:
    return record(number, 1, kind, **{"generation": number, **changes})


def found(
    row: Enrollment,
    *parts: Escrow | TokenRecord | FactSheet,
    now: datetime = LATER,
) -> dict[TokenKind, Finding]:
    """What is found of one device, by kind."""
    findings = survey(
        row,
        [one for one in parts if isinstance(one, Escrow)],
        [one for one in parts if isinstance(one, TokenRecord)],
        [one for one in parts if isinstance(one, FactSheet)],
        now,
    )
    by_kind = {one.kind: one for one in findings}
    assert len(by_kind) == len(findings), "one finding a kind"
    return by_kind


def gaps(
    row: Enrollment, *parts: Escrow | TokenRecord | FactSheet, now: datetime = LATER
) -> dict[TokenKind, Gap]:
    """What is missing or in doubt, without what is not known."""
    every = found(row, *parts, now=now)
    return {kind: one for kind, one in every.items() if isinstance(one, Gap)}


def gap(row: Enrollment, kind: TokenKind, *parts: Escrow | TokenRecord | FactSheet) -> Gap:
    """The gap of this kind."""
    one = found(row, *parts)[kind]
    assert isinstance(one, Gap)
    return one


@pytest.mark.parametrize(
    ("row", "is_one"),
    [
        (mac(), True),
        (mac(state=State.RENEWING), True),
        (mac(state=State.PENDING), False),
        (mac(state=State.OUT), False),
        (mac(state=State.REVOKED), False),
        (mac(standing=Standing.CONTESTED), False),
        (mac(standing=Standing.ENDED), False),
        (user(2, parent=1), False),
    ],
    ids=["enrolled", "renewing", "pending", "out", "revoked", "contested", "ended", "user"],
)
def test_only_devices_that_are_managed_should_have_secrets_here(
    row: Enrollment, is_one: bool
) -> None:
    assert is_surveyed(row) is is_one
    assert bool(found(row, said(**ENCRYPTED))) is is_one


def test_a_disk_that_is_encrypted_and_whose_key_is_not_here_is_a_gap() -> None:
    """4.3 row 3, FV-11: the profile first, then a rotation with a user's password."""
    one = gap(mac(), DISK, said(**ENCRYPTED))
    assert (one.state, one.severity, one.since) == (GapState.MISSING, Severity.CRITICAL, None)
    assert one.why == "FileVault is on (FDE_Enabled), and no recovery key is held"
    assert one.told_at == after(hours=1)
    assert one.todo == (
        'ostiary filevault install --location "the help desk" UDID-1; '
        "then ostiary token rotate --unlock-with-stdin UDID-1 filevault-key"
    )
    installed = escrow(1, TokenKind.FILEVAULT_ESCROW_KEY, current=record_id(50))
    assert gap(mac(), DISK, said(**ENCRYPTED), installed).todo == (
        "ostiary token rotate --unlock-with-stdin UDID-1 filevault-key"
    )


def test_a_command_that_is_copied_names_the_device_and_runs_nothing_else() -> None:
    """Devices choose their ids."""
    row = mac(id="$(reboot) 1", bootstrap=None)
    assert (
        "--unlock-with-stdin '$(reboot) 1' filevault-key" in gap(row, DISK, said(**ENCRYPTED)).todo
    )


def test_an_id_that_looks_like_an_option_stands_behind_two_dashes_and_the_options_before() -> None:
    one = gap(mac(id="--dry-run", bootstrap=None), DISK, said(**ENCRYPTED))
    assert one.todo == (
        'ostiary filevault install --location "the help desk" -- --dry-run; '
        "then ostiary token rotate --unlock-with-stdin -- --dry-run filevault-key"
    )


def test_where_no_command_helps_the_reason_is_told() -> None:
    """The table that refuses RotateFileVaultKey says it before somebody tries."""
    installed = escrow(1, TokenKind.FILEVAULT_ESCROW_KEY, current=record_id(50))
    one = gap(mac(profile=NO_LOCK), DISK, said(**ENCRYPTED), installed)
    assert one.todo.startswith("no command replaces it here: RotateFileVaultKey: ")


def test_a_key_that_was_retired_with_an_erase_is_missing_since_then() -> None:
    """4.13 column D."""
    gone = value(1, DISK, state=TokenState.RETIRED, changed_at=after(days=2))
    assert gap(mac(), DISK, said(**ENCRYPTED), gone, escrow(1, DISK)).since == after(days=2)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (
            {"FDE_Enabled": True, "FDE_HasPersonalRecoveryKey": False},
            "the Mac says that it has no personal one (FDE_HasPersonalRecoveryKey)",
        ),
        (
            ENCRYPTED,
            "one came that is encrypted for another server, and nothing held here opens it",
        ),
    ],
    ids=["none", "unread"],
)
def test_why_no_key_is_here_is_told(facts: dict[str, bool], why: str) -> None:
    unread = () if "no personal" in why else (
        escrow(1, ENVELOPE, current=record_id(3)),
        value(3, ENVELOPE),
    )  # fmt: skip
    assert gap(mac(), DISK, said(**facts), *unread).why.endswith(f": {why}")


def test_a_key_that_is_held_is_no_gap_and_a_disk_in_clear_has_none() -> None:
    held = (escrow(1, DISK, current=record_id(1)), value(1, DISK))
    assert gaps(mac(), said(**ENCRYPTED), *held) == {}
    assert gaps(mac(), said(**ENCRYPTED), value(1, DISK)) == {}, "as it was kept before pointers"
    assert DISK not in found(mac(), *held), "held is held, whatever was told"
    doubted = (escrow(1, DISK, state=EscrowState.UNCERTAIN, current=record_id(1)), value(1, DISK))
    assert gap(mac(), DISK, *doubted).state is GapState.IN_DOUBT
    assert gaps(mac(), said(FDE_Enabled=False), *doubted) == {}
    assert gaps(mac(), said(FDE_Enabled=False)) == {}


def test_a_gap_whose_rotation_is_under_way_says_where_to_look() -> None:
    asked = escrow(1, DISK, state=EscrowState.IN_FLIGHT)
    one = gap(mac(), DISK, said(**ENCRYPTED), asked)
    assert (one.state, one.todo) == (
        GapState.MISSING,
        "A command is under way: ostiary queue list UDID-1",
    )


@pytest.mark.parametrize(
    ("parts", "why", "todo"),
    [
        (
            (
                escrow(
                    1,
                    DISK,
                    state=EscrowState.UNCERTAIN,
                    current=record_id(1),
                    trouble="the device rotated its key and did not tell the new one",
                ),
                value(1, DISK),
            ),
            "the device rotated its key and did not tell the new one",
            "ostiary enqueue UDID-1 security-info",
        ),
        (
            (
                escrow(1, DISK, current=record_id(1)),
                value(1, DISK, state=TokenState.SUSPECT, cause="its last use failed"),
            ),
            "its last use failed",
            "ostiary enqueue UDID-1 security-info",
        ),
        (
            (
                escrow(1, DISK, current=record_id(1)),
                value(1, DISK, cause="came with a report; it does not look like a recovery key"),
            ),
            "it does not look like a recovery key",
            "ostiary token rotate UDID-1 filevault-key",
        ),
        (
            (
                escrow(1, DISK, current=record_id(1)),
                value(1, DISK),
                escrow(1, ENVELOPE, current=record_id(2)),
                value(2, ENVELOPE, received_at=after(days=1)),
            ),
            "the Mac told a key since that is encrypted for another server, and nothing held here opens it",
            "ostiary token rotate UDID-1 filevault-key",
        ),
    ],
    ids=["rotation untold", "suspect", "odd", "another server's"],
)
def test_a_key_that_may_not_open_the_disk_is_in_doubt(
    parts: tuple[Escrow | TokenRecord, ...], why: str, todo: str
) -> None:
    """FV-06, FV-03: stored is not proven."""
    one = gap(mac(), DISK, said(**ENCRYPTED), *parts)
    assert (one.state, one.why, one.todo) == (GapState.IN_DOUBT, why, todo)
    assert one.severity >= Severity.WARNING


def test_an_envelope_that_came_with_an_answer_of_old_is_seen_as_well() -> None:
    """4.0.3 row 10: recorded, and promoted by nothing."""
    parts = (
        escrow(1, DISK, current=record_id(1)),
        value(1, DISK),
        escrow(1, ENVELOPE, state=EscrowState.UNCERTAIN, candidate=record_id(2)),
        value(2, ENVELOPE, state=TokenState.CANDIDATE, received_at=after(days=1)),
    )
    one = gap(mac(), DISK, said(**ENCRYPTED), *parts)
    assert (one.state, one.since) == (GapState.IN_DOUBT, after(days=1))


def test_an_envelope_that_came_before_the_key_is_history() -> None:
    parts = (
        escrow(1, DISK, current=record_id(1)),
        value(1, DISK, received_at=after(hours=2), proven_at=after(days=3)),
        escrow(1, ENVELOPE, current=record_id(2)),
        value(2, ENVELOPE, received_at=after(hours=3)),
    )
    assert gaps(mac(), said(**ENCRYPTED), *parts) == {}


def test_a_mac_that_says_it_has_no_key_any_more_puts_the_held_one_in_doubt() -> None:
    """Only what it said after it told the key counts."""
    none = said(FDE_Enabled=True, FDE_HasPersonalRecoveryKey=False)
    held = escrow(1, DISK, current=record_id(1))
    assert gap(mac(), DISK, none, held, value(1, DISK)).state is GapState.IN_DOUBT
    assert gaps(mac(), none, held, value(1, DISK, received_at=after(hours=2))) == {}


@pytest.mark.parametrize(
    ("product", "kind", "facts", "fact"),
    [
        ("Mac14,2", LOCK, {"IsRecoveryLockEnabled": True}, "a Recovery Lock is set"),
        (
            "MacBookPro15,1",
            FIRMWARE,
            {"FirmwarePasswordStatus": {"PasswordExists": True}},
            "a firmware password is set",
        ),
    ],
)
def test_a_password_of_somebody_else_is_a_gap(
    product: str, kind: TokenKind, facts: dict[str, Any], fact: str
) -> None:
    """4.4, 4.5: what an earlier management set, nobody here can change."""
    row, told = mac(product), said(FDE_Enabled=False, **facts)
    one = gap(row, kind, told)
    assert one.why.startswith(fact)
    assert (one.state, one.severity) == (GapState.MISSING, Severity.CRITICAL)
    assert one.todo.endswith(f"ostiary token rotate UDID-1 {kind}")
    earlier = value(1, kind, state=TokenState.RETIRED)
    assert "ostiary token escrow --all UDID-1" in gap(row, kind, told, earlier).todo
    held = (escrow(1, kind, current=record_id(1)), value(1, kind))
    assert gaps(row, told, *held) == {}
    assert gaps(row, said(FDE_Enabled=False)) == {}, "silence is no gap"


def test_a_first_value_on_its_way_is_neither_missing_nor_in_doubt() -> None:
    """4.0.3 row 3: the device may hold it."""
    told = said(FDE_Enabled=False, IsRecoveryLockEnabled=True)
    flying = escrow(1, LOCK, state=EscrowState.IN_FLIGHT, candidate=record_id(1))
    assert gaps(mac(), told, flying, value(1, LOCK, state=TokenState.CANDIDATE)) == {}
    queued = escrow(1, LOCK, state=EscrowState.CANDIDATE, candidate=record_id(1))
    assert gap(mac(), LOCK, told, queued).state is GapState.MISSING, "it never left"


def test_two_values_that_may_be_in_force_are_in_doubt_and_can_be_asked_about() -> None:
    """4.0.3 rows 7b and 9, RL-03."""
    unsure = escrow(
        1,
        LOCK,
        state=EscrowState.UNCERTAIN,
        since=after(days=1),
        current=record_id(1),
        candidate=record_id(2),
        trouble="no answer came",
    )
    one = gap(mac(), LOCK, said(FDE_Enabled=False), unsure, value(1, LOCK), value(2, LOCK))
    assert (one.state, one.severity) == (GapState.IN_DOUBT, Severity.WARNING)
    assert (one.why, one.since) == ("no answer came", after(days=1))
    assert one.todo == "ostiary token verify UDID-1 recovery-lock"


@pytest.mark.parametrize(
    ("states", "verify_uuid", "severity"),
    [
        ((TokenState.SUSPECT, TokenState.SUSPECT), None, Severity.WARNING),
        ((TokenState.SUSPECT, TokenState.SUSPECT), "asked", Severity.CRITICAL),
        ((TokenState.SUSPECT,), None, Severity.CRITICAL),
        ((TokenState.OK,), None, Severity.WARNING),
    ],
    ids=["either", "neither, says the Mac", "the only one failed", "the only one may hold"],
)
def test_a_doubt_is_as_bad_as_the_way_in_that_is_left(
    states: tuple[TokenState, ...], verify_uuid: str | None, severity: Severity
) -> None:
    unsure = escrow(
        1,
        LOCK,
        state=EscrowState.UNCERTAIN,
        current=record_id(1),
        candidate=record_id(2) if len(states) > 1 else None,
        verify_uuid=verify_uuid,
    )
    values = [value(number, LOCK, state=state) for number, state in enumerate(states, start=1)]
    assert gap(mac(), LOCK, said(FDE_Enabled=False), unsure, *values).severity is severity


def test_a_doubt_from_before_stays_one_while_a_change_is_queued() -> None:
    asked = escrow(
        1, LOCK, state=EscrowState.CANDIDATE, current=record_id(1), trouble="no answer came"
    )
    one = gap(mac(), LOCK, said(FDE_Enabled=False), asked, value(1, LOCK))
    assert (one.why, one.todo) == ("no answer came", "ostiary queue list UDID-1")
    calm = escrow(1, LOCK, state=EscrowState.CANDIDATE, current=record_id(1))
    assert gaps(mac(), said(FDE_Enabled=False), calm, value(1, LOCK)) == {}


def test_a_value_that_waits_for_a_restart_with_a_doubt_needs_the_restart() -> None:
    waiting = escrow(
        1,
        FIRMWARE,
        state=EscrowState.PENDING_RESTART,
        current=record_id(1),
        candidate=record_id(2),
        trouble="the device refused it, and may have taken it unheard before",
    )
    row = mac("MacBookPro15,1")
    told = said(FDE_Enabled=False, FirmwarePasswordStatus={"PasswordExists": True})
    one = gap(row, FIRMWARE, told, waiting, value(1, FIRMWARE), value(2, FIRMWARE))
    assert one.todo == "Restart the device."


def test_a_change_that_was_refused_is_trouble_and_no_doubt() -> None:
    """Row 5: the value in force is as good as before."""
    refused = escrow(1, ADMIN, current=record_id(1), trouble="the device refused it: 12")
    one = gap(mac(), ADMIN, said(FDE_Enabled=False), refused, value(1, ADMIN))
    assert (one.state, one.severity) == (GapState.TROUBLE, Severity.WARNING)
    assert one.why == "the last change failed: the device refused it: 12"
    assert one.todo == "ostiary token rotate UDID-1 admin-password"


def test_an_account_of_management_without_a_password_here_is_a_gap() -> None:
    """4.8: DeviceInformation's AutoSetupAdminAccounts."""
    told = hardware(AutoSetupAdminAccounts=[{"GUID": "G", "shortName": "keeper"}])
    one = gap(mac(), ADMIN, said(FDE_Enabled=False), told)
    assert "management made an account (keeper)" in one.why
    assert (one.severity, one.told_at) == (Severity.WARNING, after(hours=1))
    assert gaps(mac(), said(FDE_Enabled=False), hardware(AutoSetupAdminAccounts=[])) == {}
    held = (escrow(1, ADMIN, current=record_id(1)), value(1, ADMIN))
    assert gaps(mac(), said(FDE_Enabled=False), told, *held) == {}


def test_a_lock_without_an_answer_is_in_doubt_until_the_mac_speaks() -> None:
    """4.6: a locked Mac does not talk."""
    lost = escrow(
        1, PIN, state=EscrowState.UNCERTAIN, candidate=record_id(1), trouble="no answer came"
    )
    parts = (said(FDE_Enabled=False), lost, value(1, PIN, state=TokenState.SUSPECT))
    assert gap(mac(), PIN, *parts).todo == "ostiary token escrow UDID-1"
    assert gaps(mac(last_seen_at=after(hours=5)), *parts) == {}
    once = (escrow(1, PIN, current=record_id(1)), value(1, PIN, state=TokenState.SUSPECT))
    assert gaps(mac(last_seen_at=after(hours=5)), said(FDE_Enabled=False), *once) == {}


@pytest.mark.parametrize(
    ("changes", "records", "state", "severity", "why", "todo"),
    [
        (
            {"bootstrap": None},
            (),
            GapState.MISSING,
            Severity.WARNING,
            "waiting for a SecureToken login: ",
            "Let somebody with a SecureToken log in, or, at the Mac: ",
        ),
        (
            {"bootstrap": None},
            (value(90, BOOTSTRAP, state=TokenState.RETIRED, cause="the device enrolled again"),),
            GapState.MISSING,
            Severity.CRITICAL,
            "lost at re-enrollment, needs profiles install: ",
            PROMPT,
        ),
        (
            {},
            (value(90, BOOTSTRAP, state=TokenState.SUSPECT, cause="EACSPreflight said: no"),),
            GapState.IN_DOUBT,
            Severity.CRITICAL,
            "suspect: EACSPreflight said: no",
            PROMPT,
        ),
        (
            {"bootstrap": None, "profile": InstalledProfile(access_rights=8191, capabilities=frozenset())},
            (),
            GapState.MISSING,
            Severity.WARNING,
            "capability missing: ",
            "Enroll the Mac with a profile of this server",
        ),
    ],
    ids=["waiting", "lost", "suspect", "capability"],
)  # fmt: skip
def test_a_bootstrap_token_is_judged_by_its_health(
    changes: dict[str, Any],
    records: tuple[TokenRecord, ...],
    state: GapState,
    severity: Severity,
    why: str,
    todo: str,
) -> None:
    """4.2: the fleet's list and `token health` follow one rule."""
    one = gap(mac(**changes), BOOTSTRAP, said(FDE_Enabled=False), *records)
    assert (one.state, one.severity, one.since) == (state, severity, NOON)
    assert one.why.startswith(why)
    assert one.todo.startswith(todo)


def test_a_bootstrap_token_is_not_missed_on_the_first_day_or_where_there_is_none() -> None:
    told = said(FDE_Enabled=False)
    assert gaps(mac(bootstrap=None), told, now=after(hours=3)) == {}
    assert gaps(mac(), told) == {}, "held"
    assert gaps(mac(bootstrap=None), told, hardware(IsSupervised=False)) == {}


def test_a_passcode_without_an_unlock_token_is_a_gap() -> None:
    """4.1: nothing but a new enrollment brings one. (UT-09)"""
    told = (said(PasscodePresent=True), hardware(IsSupervised=False))
    one = gap(iphone(), UNLOCK, *told)
    assert (one.state, one.severity, one.since) == (GapState.MISSING, Severity.WARNING, NOON)
    assert "no unlock token is held" in one.why
    assert "enroll the device anew" in one.todo
    retired = value(
        3,
        UNLOCK,
        state=TokenState.RETIRED,
        cause="the device enrolled again",
        changed_at=after(days=1),
    )
    again = gap(iphone(), UNLOCK, *told, retired)
    assert again.since == after(days=1)
    assert again.why.endswith("the last one is retired, the device enrolled again")
    strangers = value(4, UNLOCK, relationship="stranger", changed_at=after(days=9))
    assert gap(iphone(), UNLOCK, *told, retired, strangers) == again, "a contester moves nothing"
    assert gap(iphone(), UNLOCK, *told, strangers) == one


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (iphone(), (said(PasscodePresent=False),)),
        (iphone(unlock=pointer(3)), (said(PasscodePresent=True), value(3, UNLOCK))),
        (iphone(profile=NO_LOCK), (said(PasscodePresent=True),)),
        (iphone("AppleTV14,1"), (said(PasscodePresent=True),)),
        (iphone("iPad13,1"), (said(PasscodePresent=True), hardware(IsMultiUser=True))),
        (
            iphone(type=EnrollmentType.USER_ENROLLMENT_DEVICE),
            (said(PasscodePresent=True),),
        ),
    ],
    ids=["no passcode", "held", "right 4", "Apple TV", "Shared iPad", "User Enrollment"],
)
def test_an_unlock_token_is_missed_only_where_there_could_be_one(
    row: Enrollment, parts: tuple[TokenRecord | FactSheet, ...]
) -> None:
    """UT-08: the same table that refuses ClearPasscode."""
    assert found(row, hardware(IsSupervised=False), *parts) == {}


def test_an_unlock_token_that_failed_is_in_doubt() -> None:
    failed = value(3, UNLOCK, state=TokenState.SUSPECT, cause="ClearPasscode failed")
    told = (said(PasscodePresent=True), hardware(IsSupervised=False))
    one = gap(iphone(unlock=pointer(3)), UNLOCK, *told, failed)
    assert (one.state, one.why) == (GapState.IN_DOUBT, "ClearPasscode failed")


SUPERVISED = (said(PasscodePresent=False), hardware(IsSupervised=True, IsMultiUser=False))


def test_a_supervised_device_whose_code_was_never_told_is_a_gap() -> None:
    """activation-lock.md 5: fifteen days, and never again."""
    one = gap(iphone(), CODE, *SUPERVISED)
    assert (one.state, one.severity, one.since) == (GapState.MISSING, Severity.WARNING, NOON)
    assert "no bypass code was told in the fifteen days" in one.why
    assert "Only an erase makes another code" in one.todo
    early = found(iphone(), *SUPERVISED, now=after(days=3, hours=1))[CODE]
    assert isinstance(early, Gap)
    assert early.why.endswith("days left to fetch it: 11")
    assert early.todo == "ostiary token rotate UDID-1 activation-bypass-device"
    allowed = hardware(
        IsSupervised=True,
        IsMultiUser=False,
        MDMOptions={"ActivationLockAllowedWhileSupervised": True},
    )
    assert gap(iphone(), CODE, SUPERVISED[0], allowed).severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("row", "parts", "now"),
    [
        (iphone(), SUPERVISED, after(hours=5)),
        (iphone(awaiting=True), SUPERVISED, LATER),
        (iphone(), (SUPERVISED[0], hardware(IsSupervised=False)), LATER),
        (iphone("iPad13,1"), (SUPERVISED[0], hardware(IsSupervised=True, IsMultiUser=True)), LATER),
        (iphone("AppleTV14,1"), SUPERVISED, LATER),
        (
            mac(),
            (
                said(
                    FDE_Enabled=False,
                    ManagementStatus={"IsActivationLockManageable": False},
                ),
                hardware(IsSupervised=True),
            ),
            LATER,
        ),
        (
            mac(),
            (
                said(FDE_Enabled=False),
                hardware(IsSupervised=True, IsActivationLockSupported=False),
            ),
            LATER,
        ),
        (iphone(), (*SUPERVISED, escrow(1, CODE, current=record_id(5)), value(5, CODE)), LATER),
        (
            iphone(),
            (
                *SUPERVISED,
                escrow(1, CODE, current=record_id(5), trouble="the device answered without a code"),
                value(5, CODE),
            ),
            LATER,
        ),
    ],
    ids=[
        "first day", "Setup Assistant", "not supervised", "Shared iPad", "Apple TV", "not manageable",
        "not supported", "held", "held and not told again",
    ],
)  # fmt: skip
def test_a_bypass_code_is_missed_only_where_there_is_one_to_fetch(
    row: Enrollment, parts: tuple[Escrow | TokenRecord | FactSheet, ...], now: datetime
) -> None:
    assert gaps(row, *parts, now=now) == {}


@pytest.mark.parametrize(
    ("row", "parts", "reports"),
    [
        (mac(), (), {DISK: "security-info", LOCK: "security-info", CODE: "device-information"}),
        (
            mac("MacBookPro15,1"),
            (hardware(IsSupervised=False),),
            {DISK: "security-info", FIRMWARE: "security-info"},
        ),
        (
            mac(profile=NO_QUERIES),
            (hardware(IsSupervised=False),),
            {DISK: "not-allowed", LOCK: "not-allowed"},
        ),
        (mac(), (said(), hardware(IsSupervised=False)), {DISK: "security-info"}),
        (iphone(), (), {UNLOCK: "security-info", CODE: "device-information"}),
        (iphone("iPad13,1"), (said(),), {UNLOCK: "device-information", CODE: "device-information"}),
        (device(1, facts=DeviceFacts()), (), {UNLOCK: "device-information", CODE: "device-information"}),
        (iphone("AppleTV14,1"), (), {}),
        (iphone(type=EnrollmentType.USER_ENROLLMENT_DEVICE), (), {}),
        (device(1, facts=DeviceFacts(), type=EnrollmentType.USER_ENROLLMENT_DEVICE), (), {}),
    ],
    ids=["Mac", "Intel", "right 1024", "silent", "iPhone", "iPad", "anything", "TV", "User Enrollment", "anything of its user's"],
)  # fmt: skip
def test_what_was_never_told_is_not_known_and_not_missing(
    row: Enrollment, parts: tuple[FactSheet, ...], reports: dict[TokenKind, str]
) -> None:
    findings = found(row, *parts)
    assert all(isinstance(one, NotTold) for one in findings.values())
    told = {kind: one.report for kind, one in findings.items() if isinstance(one, NotTold)}
    assert told == {kind: Report(word) for kind, word in reports.items()}


def test_a_doubt_is_told_even_where_no_report_came() -> None:
    unsure = escrow(1, LOCK, state=EscrowState.UNCERTAIN, current=record_id(1))
    one = found(mac(), unsure, value(1, LOCK))[LOCK]
    assert isinstance(one, Gap)
    assert one.why == "nobody can say which value is in force"


def test_what_another_holder_or_a_contested_newcomer_told_fills_no_gap() -> None:
    strangers = value(1, LOCK, relationship="somebody", state=TokenState.CANDIDATE)
    others = record(2, 2, DISK, generation=1)
    told = said(**ENCRYPTED, IsRecoveryLockEnabled=True)
    missed = gaps(mac(), told, hardware(IsSupervised=False), strangers, others)
    assert set(missed) == {DISK, LOCK}


def test_a_password_that_an_earlier_relationship_left_in_history_is_still_worth_a_try() -> None:
    """4.5: it outlives erases and enrollments; no contester can put one there but as a candidate."""
    told = said(FDE_Enabled=False, FirmwarePasswordStatus={"PasswordExists": True})
    earlier = value(1, FIRMWARE, relationship="earlier", state=TokenState.RETIRED)
    row = mac("MacBookPro15,1")
    assert "token escrow --all UDID-1" in gap(row, FIRMWARE, told, earlier).todo


def test_every_kind_that_can_be_asked_for_has_a_rule() -> None:
    assert set(SURVEYED) == {DISK, LOCK, FIRMWARE, ADMIN, PIN, BOOTSTRAP, UNLOCK, CODE}
