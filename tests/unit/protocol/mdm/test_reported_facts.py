"""Reports read into facts: what is kept, what never is, and what hostile devices may not do."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.formats.fields import Fields
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.device_information import (
    AdminAccount,
    HardwareFacts,
    Subscription,
    decode_device_information,
    decode_hardware,
    learn_hardware,
)
from ostiary.protocol.mdm.lights_out import LightsOutSetup, decode_lights_out
from ostiary.protocol.mdm.reported import Fact
from ostiary.protocol.mdm.security_info import SecurityFacts, decode_security_info
from ostiary.protocol.mdm.user_list import MOST_USERS, UserAccount, decode_user_list, read_users

MARKER = "MARKER-OF-A-SECRET"

SECURITY: dict[str, PlistValue] = {
    "FDE_Enabled": True,
    "FDE_HasPersonalRecoveryKey": True,
    "FDE_HasInstitutionalRecoveryKey": False,
    "FDE_PersonalRecoveryKeyCMS": MARKER.encode(),
    "FDE_PersonalRecoveryKeyDeviceKey": MARKER,
    "BootstrapTokenAllowedForAuthentication": "allowed",
    "BootstrapTokenRequiredForSoftwareUpdate": True,
    "BootstrapTokenRequiredForKernelExtensionApproval": False,
    "IsRecoveryLockEnabled": True,
    "FirmwarePasswordStatus": {
        "PasswordExists": True,
        "ChangePending": False,
        "AllowOroms": False,
        "Password": MARKER,
    },
    "ManagementStatus": {
        "EnrolledViaDEP": True,
        "UserApprovedEnrollment": True,
        "IsUserEnrollment": False,
        "IsActivationLockManageable": True,
    },
    "Unknown": MARKER,
}


def security(**changes: PlistValue) -> SecurityFacts:
    return SecurityFacts.read(decode_security_info(Fields({"SecurityInfo": SECURITY | changes})))


def test_a_security_report_is_read_and_holds_no_secret() -> None:
    """escrowed-secrets.md 4.0.2 rule 5: neither the envelope nor what stands beside it is a fact."""
    facts = decode_security_info(Fields({"SecurityInfo": SECURITY}))
    assert MARKER not in json.dumps(facts)
    assert SecurityFacts.read(facts) == SecurityFacts(
        bootstrap_token_allowed="allowed",
        bootstrap_token_for_updates=True,
        bootstrap_token_for_extensions=False,
        filevault_enabled=True,
        has_personal_recovery_key=True,
        has_institutional_recovery_key=False,
        recovery_key_came=True,
        recovery_lock_enabled=True,
        firmware_password_exists=True,
        firmware_change_pending=False,
        firmware_allows_oroms=False,
        enrolled_by_automation=True,
        user_approved=True,
        user_enrollment=False,
        activation_lock_manageable=True,
    )


@pytest.mark.case("BT-20")
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("not supported", "not supported"),
        ("allowed", "allowed"),
        ("a word of a later release", "a word of a later release"),
        (True, "allowed"),
        (False, "disallowed"),
        ("true", "allowed"),
        ("false", "disallowed"),
        (7, None),
        (b"allowed", None),
        ("x" * 5000, None),
    ],
)
def test_the_word_on_bootstrap_tokens_may_be_a_text_or_a_boolean(
    said: PlistValue, kept: str | None
) -> None:
    """escrowed-secrets.md 4.2: the schema says text, its prose compares with true."""
    facts = security(BootstrapTokenAllowedForAuthentication=said)
    assert facts.bootstrap_token_allowed == kept


def test_a_key_without_its_envelope_did_not_come() -> None:
    """escrowed-secrets.md 4.3: "has" means the Mac has one, not that we hold it. (FV-11)"""
    for envelope in (b"", "text", None):
        told = {key: value for key, value in SECURITY.items() if "CMS" not in key}
        if envelope is not None:
            told["FDE_PersonalRecoveryKeyCMS"] = envelope
        facts = SecurityFacts.read(decode_security_info(Fields({"SecurityInfo": told})))
        assert facts.has_personal_recovery_key is True
        assert facts.recovery_key_came is False


def test_a_mac_s_users_are_read_and_counted_beyond_the_bound() -> None:
    """escrowed-secrets.md 4.2, Which accounts hold a SecureToken."""
    ada: dict[str, PlistValue] = {
        "UserName": "ada",
        "FullName": "Ada L",
        "UID": 501,
        "UserGUID": "G-1",
        "MobileAccount": False,
        "HasSecureToken": True,
        "IsLoggedIn": "true",
        "Password": MARKER,
    }
    many: list[PlistValue] = [ada, {"UserName": "bob"}, 7, {"Nothing": "known"}]
    many += [{"UserName": f"user-{number}"} for number in range(MOST_USERS)]
    facts = decode_user_list(Fields({"Users": many}))
    assert MARKER not in json.dumps(facts)
    assert facts["UsersLeftOut"] == 3
    first, second, *_ = read_users(facts)
    assert first == UserAccount(
        name="ada",
        full_name="Ada L",
        guid="G-1",
        uid=501,
        is_mobile=False,
        has_secure_token=True,
        is_logged_in=True,
    )
    assert second.has_secure_token is None, "not said is not no"


def test_hardware_is_read_from_what_was_asked() -> None:
    """escrowed-secrets.md 4.2, 4.8, 4.11; activation-lock.md 4."""
    report: dict[str, PlistValue] = {
        "QueryResponses": {
            "IsSupervised": True,
            "IsMultiUser": False,
            "AwaitingConfiguration": "false",
            "IsAppleSilicon": True,
            "SupportsLOMDevice": True,
            "EACSPreflight": "unknown failure",
            "IsActivationLockSupported": True,
            "MDMOptions": {"BootstrapTokenAllowed": True, "Other": MARKER},
            "AutoSetupAdminAccounts": [{"GUID": "G-1", "shortName": "it"}, {"shortName": "half"}],
            "ServiceSubscriptions": [
                {"Slot": "CTSubscriptionSlotTwo", "IMEI": "2"},
                {"Slot": "CTSubscriptionSlotOne", "IMEI": "1", "MEID": "M", "PhoneNumber": MARKER},
            ],
            "UnlockToken": MARKER,
        }
    }
    facts = decode_hardware(Fields(report))
    assert MARKER not in json.dumps(facts)
    assert HardwareFacts.read(facts) == HardwareFacts(
        supervised=True,
        shared_ipad=False,
        awaiting=False,
        apple_silicon=True,
        supports_lights_out=True,
        eacs_preflight="unknown failure",
        activation_lock_supported=True,
        bootstrap_token_option=True,
        admin_accounts=(AdminAccount(guid="G-1", short_name="it"),),
        subscriptions=(
            Subscription(slot="CTSubscriptionSlotOne", imei="1", meid="M"),
            Subscription(slot="CTSubscriptionSlotTwo", imei="2"),
        ),
    )


def test_an_older_phone_says_its_one_imei_at_the_top() -> None:
    """activation-lock.md 4."""
    facts = decode_hardware(Fields({"QueryResponses": {"IMEI": "1"}}))
    (only,) = HardwareFacts.read(facts).subscriptions
    assert only.imei == "1"
    assert HardwareFacts.read(decode_hardware(Fields({}))).subscriptions == ()


def test_an_account_that_is_not_there_yet_is_another_thing_than_none_asked() -> None:
    """escrowed-secrets.md 4.8: right after enrollment the GUID may be missing."""
    empty = decode_hardware(Fields({"QueryResponses": {"AutoSetupAdminAccounts": []}}))
    assert HardwareFacts.read(empty).admin_accounts == ()
    assert HardwareFacts.read({}).admin_accounts is None


def test_a_report_that_answers_less_erases_nothing() -> None:
    """A person may ask for one fact only."""
    known = decode_hardware(Fields({"QueryResponses": {"IsSupervised": True, "IMEI": "1"}}))
    said = decode_hardware(Fields({"QueryResponses": {"IsSupervised": False}}))
    assert learn_hardware(known, said) == {"IsSupervised": False, "IMEI": "1"}


_HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=400)
    | st.binary(max_size=40)
    | st.floats()
    | st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
_KEYS = st.sampled_from(
    [
        *SECURITY,
        "SecurityInfo",
        "QueryResponses",
        "Users",
        "UserName",
        "MDMOptions",
        "AutoSetupAdminAccounts",
        "ServiceSubscriptions",
        "GUID",
        "IMEI",
        "PrimaryIPv6AddressList",
        "LOMProtocolVersion",
    ]
)
_INNER = st.dictionaries(_KEYS, _HOSTILE | st.dictionaries(_KEYS, _HOSTILE, max_size=4), max_size=6)


@pytest.mark.parametrize(
    ("decode", "read"),
    [
        (decode_security_info, SecurityFacts.read),
        (decode_hardware, HardwareFacts.read),
        (decode_user_list, read_users),
        (decode_lights_out, LightsOutSetup.read),
    ],
)
@given(report=st.dictionaries(_KEYS, _HOSTILE | _INNER | st.lists(_INNER, max_size=3), max_size=6))
def test_no_report_is_refused_and_facts_are_always_json(
    decode: Callable[[Fields], dict[str, Fact]],
    read: Callable[[dict[str, Fact]], object],
    report: dict[str, PlistValue],
) -> None:
    """A report must never be refused: the device would repeat it for ever. (check-in-and-commands.md 3.4)"""
    facts = decode(Fields(report))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    read(facts)
    decode_device_information(Fields(report))
