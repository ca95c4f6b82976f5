"""The health of a bootstrap token: whether it is held, whether it worked, why there is none, what to type at the Mac.

Source: escrowed-secrets.md 4.2, "Health shown to the operator", "When the device sends Set", "What an administrator sees".
"""

from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.bootstrap_facts import BootstrapFacts
from ostiary.domain.bootstrap_words import (
    INSTALL,
    SENTENCES,
    AtTheMac,
    BootstrapWord,
    at_the_mac,
)
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.first_commands import is_macos
from ostiary.domain.secret_shell import as_arguments
from ostiary.domain.severity import Severity
from ostiary.domain.token import TokenRecord, TokenState
from ostiary.protocol.mdm.enrollment_profile import BOOTSTRAP_TOKEN
from ostiary.values import dataclass

PATIENCE: Final = timedelta(days=1)
"""After an enrollment, before a Mac without a token is worth a look: somebody has to log in first."""

_CATALINA: Final = (10, 15)
_BIG_SUR: Final = (11,)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapHealth:
    """One device's bootstrap token as an operator sees it."""

    word: BootstrapWord
    severity: Severity
    sentence: str
    """What this means."""
    todo: str
    """One thing to do; empty where there is nothing."""
    causes: tuple[str, ...]
    """Why it may be missing or doubtful, the likeliest first."""
    supported: bool | None
    """Whether the Mac knows that this server takes bootstrap tokens; None: nobody can tell from here."""
    allowed: str | None
    """Whether the Mac takes the token for authorization, in its own word."""
    preflight: str | None
    """What the Mac last said of erasing all content and settings, which needs the token."""
    escrowed: bool
    generation: int | None
    received_at: datetime | None
    proven_at: datetime | None
    proven_by: str | None
    holders: tuple[str, ...] | None
    """Accounts with a SecureToken; None: the Mac was not asked, or did not say."""
    accounts_at: datetime | None
    at_the_mac: tuple[AtTheMac, ...]


def examine_bootstrap(
    device: Enrollment, newest: TokenRecord | None, facts: BootstrapFacts, now: datetime
) -> BootstrapHealth:
    """What to show of a device's bootstrap token.

    `newest` is the last generation of this relationship, in force or not (`own_record`).
    """
    supported = _supported(device, facts)
    word = _word(device, newest, facts, supported=supported)
    proven_at, proven_by = _proof(device, newest)
    is_held = device.bootstrap is not None
    return BootstrapHealth(
        word=word,
        severity=_severity(word, device, facts, now),
        sentence=SENTENCES[word],
        todo=_todo(word, device, facts),
        causes=(*_where_it_is(device), *_causes(word, device, newest, facts)),
        supported=supported,
        allowed=facts.allowed,
        preflight=facts.preflight,
        escrowed=is_held,
        generation=newest.generation if is_held and newest is not None else None,
        received_at=device.bootstrap.received_at if device.bootstrap is not None else None,
        proven_at=proven_at,
        proven_by=proven_by,
        holders=_names(facts),
        accounts_at=facts.accounts_at,
        at_the_mac=at_the_mac(word, supported=supported) if is_macos(device) else (),
    )


def is_worth_listing(device: Enrollment) -> bool:
    """Whether a list of all bootstrap tokens shows this row: managed Macs, and whatever else holds one."""
    if device.is_user_channel or device.state in (State.OUT, State.REVOKED, State.ABSENT):
        return False
    return device.bootstrap is not None or is_macos(device)


def _word(
    device: Enrollment, newest: TokenRecord | None, facts: BootstrapFacts, *, supported: bool | None
) -> BootstrapWord:
    if device.bootstrap is not None:
        is_doubted = newest is not None and newest.state is TokenState.SUSPECT
        return BootstrapWord.SUSPECT if is_doubted else BootstrapWord.HELD
    if _why_unsupported(device, facts):
        return BootstrapWord.UNSUPPORTED
    if supported is False:
        return BootstrapWord.CAPABILITY_MISSING
    if newest is None or newest.state is not TokenState.RETIRED:
        return BootstrapWord.WAITING
    match newest.cause:
        case "removed by the device":
            return BootstrapWord.REMOVED
        case "the device was erased":
            return BootstrapWord.WAITING
        # Whatever the Authenticate before it looked like.
        case _ if device.awaiting or device.came_erased:
            return BootstrapWord.WAITING
        case _:
            return BootstrapWord.LOST


def _proof(device: Enrollment, newest: TokenRecord | None) -> tuple[datetime | None, str | None]:
    """When the value in force last showed itself to work, and how: stored is not proven. (design.md 2)"""
    if device.bootstrap is None or newest is None:
        return None, None
    return newest.proven_at, newest.proven_by


def _supported(device: Enrollment, facts: BootstrapFacts) -> bool | None:
    """Whether the announcement of support reached the Mac: by the profile, or on macOS 10.15 by a setting. (BT-18, BT-19)"""
    version = version_of(device)
    if version is not None and version[:2] == _CATALINA:
        return facts.option_set
    return BOOTSTRAP_TOKEN in device.profile.capabilities if device.profile is not None else None


def _why_unsupported(device: Enrollment, facts: BootstrapFacts) -> str | None:
    if device.type.is_user_enrollment:
        return "It came by User Enrollment, which has no bootstrap tokens."
    if not is_macos(device):
        return "It is no Mac; iPhones, iPads and Vision hand one over only from OS 26 on, and only in Return to Service mode."
    version = version_of(device)
    if version is not None and version < _CATALINA:
        return "Its macOS is older than 10.15."
    if version is not None and version[:2] == _CATALINA and facts.came_by_ade is False:
        return "On macOS 10.15 only Macs from Automated Device Enrollment hand one over."
    if facts.is_supervised is False:
        return "It is not supervised."
    return None


def _severity(
    word: BootstrapWord, device: Enrollment, facts: BootstrapFacts, now: datetime
) -> Severity:
    since = device.enrolled_at
    is_new = device.awaiting or since is None or now - since < PATIENCE
    match word:
        case BootstrapWord.SUSPECT:
            return Severity.CRITICAL
        case BootstrapWord.LOST:
            return Severity.WARNING if is_new else Severity.CRITICAL
        case BootstrapWord.CAPABILITY_MISSING | BootstrapWord.REMOVED:
            return Severity.WARNING
        case BootstrapWord.WAITING:
            return Severity.OK if is_new else Severity.WARNING
        case BootstrapWord.HELD:
            return Severity.WARNING if facts.allowed == "disallowed" else Severity.OK
        case BootstrapWord.UNSUPPORTED:
            return Severity.OK


def _todo(word: BootstrapWord, device: Enrollment, facts: BootstrapFacts) -> str:
    match word:
        case BootstrapWord.SUSPECT | BootstrapWord.LOST | BootstrapWord.REMOVED:
            return f"At the Mac: {INSTALL}"
        case BootstrapWord.CAPABILITY_MISSING if (version_of(device) or _BIG_SUR) < _BIG_SUR:
            return "Ask for the setting once more: enqueue Settings with MDMOptions, BootstrapTokenAllowed true."
        case BootstrapWord.CAPABILITY_MISSING:
            return (
                "Enroll the Mac with a profile of this server, which names the capability; "
                f"afterwards, at the Mac: {INSTALL}"
            )
        case BootstrapWord.WAITING:
            return f"Let somebody with a SecureToken log in, or, at the Mac: {INSTALL}"
        case BootstrapWord.HELD if facts.allowed == "disallowed":
            return "Allow it at the Mac: restart to recoveryOS, Startup Security Utility, let the management service do it."
        case _:
            return ""


def _where_it_is(device: Enrollment) -> tuple[str, ...]:
    if device.state in (State.OUT, State.REVOKED):
        return (
            "The device is not enrolled now: whatever is held is kept, and handed out to nobody.",
        )
    return ()


def _causes(
    word: BootstrapWord, device: Enrollment, newest: TokenRecord | None, facts: BootstrapFacts
) -> tuple[str, ...]:
    match word:
        case BootstrapWord.UNSUPPORTED:
            return (_why_unsupported(device, facts) or "",)
        case BootstrapWord.SUSPECT:
            return (newest.cause,) if newest is not None else ()
        case BootstrapWord.HELD if facts.allowed == "disallowed":
            return (
                "The Mac takes it for no authorization (BootstrapTokenAllowedForAuthentication says disallowed).",
            )
        case BootstrapWord.HELD:
            return ()
        case BootstrapWord.CAPABILITY_MISSING:
            return (
                "A Mac that was enrolled with an older or another profile keeps that one's capabilities.",
            )
        case BootstrapWord.REMOVED:
            return _no_one_could(device, facts)
        case BootstrapWord.LOST:
            said = newest.cause if newest is not None else ""
            return (
                f"The last one was retired: {said}. A Mac that was erased sends a new one at the next login with a "
                "SecureToken; one that was only enrolled anew does not.",
                *_no_one_could(device, facts),
            )
        case BootstrapWord.WAITING:
            return _why_waiting(device, newest, facts)


def _why_waiting(
    device: Enrollment, newest: TokenRecord | None, facts: BootstrapFacts
) -> tuple[str, ...]:
    causes = []
    if newest is not None and newest.cause == "the device was erased":
        causes.append(
            "The Mac was erased, and makes a new one at the first login with a SecureToken."
        )
    if device.awaiting:
        causes.append("The Mac is still in Setup Assistant.")
    causes += _no_one_could(device, facts)
    if facts.option_set is not None or (version_of(device) or _BIG_SUR)[:2] == _CATALINA:
        causes.append(
            "On macOS 10.15 an administrator that management made, a standard user, or no user at all in Setup Assistant "
            "sends none."
        )
    if device.profile is None:
        causes.append(
            "Another server or program made its enrollment profile; whether that names the capability is not known here."
        )
    return tuple(causes)


def _no_one_could(device: Enrollment, facts: BootstrapFacts) -> tuple[str, ...]:
    """What the accounts say of it: nobody could hand one over, or somebody could and has not. (UserList)"""
    accounts, holders, names = facts.accounts, facts.holders, _names(facts)
    if accounts is None or holders is None or names is None:
        return (
            "Who holds a SecureToken is not known: ask the Mac with "
            f"`ostiary enqueue {as_arguments(device.id)} user-list`.",
        )
    if any(one.is_logged_in for one in holders):
        return (
            f"Somebody with a SecureToken ({', '.join(names)}) is logged in since before; the next login may send one.",
        )
    if holders:
        return (f"Nobody of those with a SecureToken is logged in: {', '.join(names)}.",)
    if accounts and all(one.guid in facts.our_accounts for one in accounts):
        return (
            "The only account is the administrator that management made; it has no SecureToken before its first login "
            "at the login window.",
        )
    return ("No account on the Mac holds a SecureToken, so nobody can hand one over.",)


def _names(facts: BootstrapFacts) -> tuple[str, ...] | None:
    if facts.holders is None:
        return None
    return tuple(one.name or f"uid {one.uid}" for one in facts.holders)


def version_of(device: Enrollment) -> tuple[int, ...] | None:
    """The OS version as numbers, e.g. (10, 15, 7); None if the device did not say, or said something else."""
    parts = (device.facts.os_version or "").split(".")
    if not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(int(part) for part in parts)
