"""What a device answers to DeviceInformation: the facts of every decision, and a sheet of what its hardware can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ostiary.formats.fields import Fields
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.reported import (
    LONGEST_TEXT,
    Fact,
    Facts,
    as_facts,
    as_flag,
    as_list,
    as_text,
    dicts,
    inner,
    kept_flags,
    kept_texts,
)

LONGEST_FACT: Final = LONGEST_TEXT
MOST_SUBSCRIPTIONS: Final = 8
MOST_ADMIN_ACCOUNTS: Final = 8
SLOT_ONE: Final = "CTSubscriptionSlotOne"
SLOT_TWO: Final = "CTSubscriptionSlotTwo"

_RESPONSES: Final = "QueryResponses"
_ACCOUNTS: Final = "AutoSetupAdminAccounts"
_SUBSCRIPTIONS: Final = "ServiceSubscriptions"
_OPTIONS: Final = "MDMOptions"
_TEXTS: Final = ("EACSPreflight", "IMEI", "MEID")
_FLAGS: Final = (
    "IsSupervised",
    "IsMultiUser",
    "AwaitingConfiguration",
    "IsAppleSilicon",
    "SupportsLOMDevice",
    "IsActivationLockSupported",
    "IsActivationLockEnabled",
)
_OPTION_FLAGS: Final = (
    "BootstrapTokenAllowed",
    "PromptUserToAllowBootstrapTokenForAuthentication",
    "ActivationLockAllowedWhileSupervised",
)


def decode_device_information(result: Fields) -> DeviceFacts | None:
    """The facts in a report's QueryResponses; None where there are none.

    The answer is hostile text and a report must never be refused, so whatever is not a text of sensible
    length counts as not said.
    """
    responses = result.as_mapping().get(_RESPONSES)
    if not isinstance(responses, Mapping):
        return None
    said = {key: as_text(value) for key, value in responses.items()}
    return DeviceFacts(
        serial_number=said.get("SerialNumber"),
        device_name=said.get("DeviceName"),
        model=said.get("Model"),
        model_name=said.get("ModelName"),
        product_name=said.get("ProductName"),
        os_version=said.get("OSVersion"),
        build_version=said.get("BuildVersion"),
    )


def learn(known: DeviceFacts, said: DeviceFacts) -> DeviceFacts:
    """What is known once a device has said more: newer words win, silence erases nothing.

    The serial number of the Authenticate stays: invitations are judged by it.
    """
    return DeviceFacts(
        serial_number=known.serial_number or said.serial_number,
        device_name=said.device_name or known.device_name,
        model=said.model or known.model,
        model_name=said.model_name or known.model_name,
        product_name=said.product_name or known.product_name,
        os_version=said.os_version or known.os_version,
        build_version=said.build_version or known.build_version,
    )


def decode_hardware(result: Fields) -> dict[str, Fact]:
    """What else a report told, under Apple's keys; empty where it told nothing of it.

    Source: escrowed-secrets.md 4.2 (MDMOptions, EACSPreflight), 4.8 (AutoSetupAdminAccounts), 4.11
    (SupportsLOMDevice); activation-lock.md 4 (ServiceSubscriptions), 5.
    """
    said = inner(result, _RESPONSES)
    facts = kept_texts(said, _TEXTS) | kept_flags(said, _FLAGS)
    if found := kept_flags(inner(said, _OPTIONS), _OPTION_FLAGS):
        facts[_OPTIONS] = found
    # An empty list is an answer, too: this Mac has no such account. (AA-03)
    if _ACCOUNTS in said:
        accounts, _ = dicts(said, _ACCOUNTS, MOST_ADMIN_ACCOUNTS)
        facts[_ACCOUNTS] = _each_text(accounts, ("GUID", "shortName"))
    if _SUBSCRIPTIONS in said:
        subscriptions, _ = dicts(said, _SUBSCRIPTIONS, MOST_SUBSCRIPTIONS)
        facts[_SUBSCRIPTIONS] = _each_text(subscriptions, ("Slot", "IMEI", "MEID"))
    return facts


def learn_hardware(known: Facts, said: Facts) -> dict[str, Fact]:
    """The sheet once a device has answered again: a report answers only what it was asked, so silence erases nothing."""
    return {**known, **said}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAccount:
    """An account that an AccountConfiguration made; its GUID is what SetAutoAdminPassword names."""

    guid: str
    short_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One SIM's slot, and what the unlock service wants to know of it. Source: activation-lock.md 4."""

    slot: str | None = None
    imei: str | None = None
    meid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareFacts:
    """What a device last said of itself; None for everything it was silent about."""

    supervised: bool | None = None
    shared_ipad: bool | None = None
    awaiting: bool | None = None
    apple_silicon: bool | None = None
    supports_lights_out: bool | None = None
    eacs_preflight: str | None = None
    """`success`, `not supported`, `unknown failure` or other words."""
    activation_lock_supported: bool | None = None
    bootstrap_token_option: bool | None = None
    """MDMOptions' BootstrapTokenAllowed, which macOS 10.15 goes by."""
    activation_lock_allowed: bool | None = None
    """MDMOptions' ActivationLockAllowedWhileSupervised."""
    admin_accounts: tuple[AdminAccount, ...] | None = None
    """None: not said yet. Empty: none was made."""
    subscriptions: tuple[Subscription, ...] = ()

    @classmethod
    def read(cls, facts: Facts) -> "HardwareFacts":
        """The same facts, typed; whatever is not as expected counts as not said."""
        options = as_facts(facts.get(_OPTIONS))
        return cls(
            supervised=as_flag(facts.get("IsSupervised")),
            shared_ipad=as_flag(facts.get("IsMultiUser")),
            awaiting=as_flag(facts.get("AwaitingConfiguration")),
            apple_silicon=as_flag(facts.get("IsAppleSilicon")),
            supports_lights_out=as_flag(facts.get("SupportsLOMDevice")),
            eacs_preflight=as_text(facts.get("EACSPreflight")),
            activation_lock_supported=as_flag(facts.get("IsActivationLockSupported")),
            bootstrap_token_option=as_flag(options.get("BootstrapTokenAllowed")),
            activation_lock_allowed=as_flag(options.get("ActivationLockAllowedWhileSupervised")),
            admin_accounts=_read_accounts(facts),
            subscriptions=_read_subscriptions(facts),
        )


def _read_accounts(facts: Facts) -> tuple[AdminAccount, ...] | None:
    if _ACCOUNTS not in facts:
        return None
    return tuple(
        AdminAccount(guid=guid, short_name=as_text(account.get("shortName")))
        for account in map(as_facts, as_list(facts[_ACCOUNTS]))
        if (guid := as_text(account.get("GUID"))) is not None
    )


def _read_subscriptions(facts: Facts) -> tuple[Subscription, ...]:
    """Slot One first; a device of before the slots says its one IMEI at the top."""
    found = tuple(
        Subscription(
            slot=as_text(one.get("Slot")),
            imei=as_text(one.get("IMEI")),
            meid=as_text(one.get("MEID")),
        )
        for one in map(as_facts, as_list(facts.get(_SUBSCRIPTIONS)))
    )
    if found:
        order = {SLOT_ONE: 0, SLOT_TWO: 1}
        return tuple(sorted(found, key=lambda one: order.get(one.slot or "", len(order))))
    imei, meid = as_text(facts.get("IMEI")), as_text(facts.get("MEID"))
    return (
        ()
        if imei is None and meid is None
        else (Subscription(slot=SLOT_ONE, imei=imei, meid=meid),)
    )


def _each_text(said: list[Mapping[str, PlistValue]], keys: tuple[str, ...]) -> list[Fact]:
    found: list[Fact] = [kept for one in said if (kept := kept_texts(one, keys))]
    return found
