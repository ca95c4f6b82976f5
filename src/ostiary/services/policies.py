"""One tenant's policy, read from the database and kept at hand."""

import json
import re
from dataclasses import fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.policy import BadDigest, Policy, RestoredBackup, UserLogin
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.errors import Malformed, Missing
from ostiary.ports.storage import Policies

REFRESH: Final = timedelta(seconds=5)
"""After which a policy that was changed on one node is in force on all."""

_CHOICES: Final[dict[str, type[StrEnum]]] = {
    "restored_backup": RestoredBackup,
    "user_login": UserLogin,
    "bad_digest": BadDigest,
}

_LEAST: Final[dict[str, timedelta]] = dict.fromkeys(
    (
        "contest_silence",
        "expired_grace",
        "renewal_spread",
        "rotate_after_reveal",
        "destructive_expires_after",
    ),
    timedelta(0),
) | dict.fromkeys(
    (
        "keep_ended_commands",
        "keep_cancelled_commands",
        "keep_push_tokens",
        "keep_device_secrets",
        "keep_certificates",
        "keep_challenges",
        "keep_alerts",
        "keep_ended_relationships",
    ),
    timedelta(days=1),
)
"""The policies that are spans of time, and the shortest that each may be: what was lost within the day is missed."""
_NUMBERS: Final[dict[str, range]] = {
    "most_ended_commands": range(10, 1_000_001),
    "most_brief_generations": range(10, 10_001),
    "most_user_channels": range(1, 100_001),
    "renew_at_life_left": range(5, 91),
    "renewals_a_day": range(1, 1_000_001),
    "renewal_canary_share": range(101),
    "most_destructive_an_hour": range(10_001),
}
"""The policies that are numbers, and what they may be."""

RENEWAL_CANARIES: Final = "renewal_canaries"
_NAMES: Final = frozenset({RENEWAL_CANARIES})
"""The policies that are lists of enrollment ids."""
MOST_NAMES: Final = 50
_TEXTS: Final[dict[str, tuple[re.Pattern[str], str]]] = {
    "admin_account": (re.compile("[a-z_][a-z0-9_.-]{0,30}"), "a Mac's short name: admin, it-staff"),
    "admin_full_name": (
        re.compile("[^\\x00-\\x1f\\x7f]{1,100}"),
        "a name of at most 100 characters",
    ),
}
"""The policies that are one word or name, what it may be, and that in words."""
NOBODY: Final = "none"
"""What people write for an empty list or name."""

_SPAN: Final = re.compile(r"([0-9]{1,4})([mhd])|([0-9]{1,8})")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}

MEANINGS: Final[dict[str, str]] = {
    "restored_backup": "Whether a device that checked out, and speaks again from a backup, is taken back.",
    "user_login": "How a Mac's network user is answered who logs in: not managed, or managed without a "
    "password, or after the right password.",
    "bad_digest": "How a network user's wrong password is answered; Apple's pages disagree.",
    "shared_ipad_users": "Whether users of a Shared iPad are managed beside the device.",
    "bind_on_first_use": "Whether an enrollment without a certificate takes the first unused one it shows.",
    "contest_silence": "How long the old side of a contest must be silent before the newcomer takes its place.",
    "accept_sha1": "Whether signatures with SHA-1 are believed; Macs in the field make them.",
    "accept_expired_certificates": "Whether a device may speak with a certificate that has expired.",
    "expired_grace": "How long after its end a certificate may still fetch the renewal of its identity, and only that.",
    "renew_identities": "Whether devices are asked for new identities in time, by themselves.",
    "renew_at_life_left": "At how many percent of a certificate's life its renewal begins.",
    "renewals_a_day": "How many renewals begin in a day; those within thirty days of their end begin all the same.",
    "renewal_spread": "Over which time the renewals of devices are spread that enrolled together.",
    "renewal_canary_share": "Percent of the due devices that renew first, while the others wait; 0: nobody waits.",
    RENEWAL_CANARIES: "Devices that renew first, before each wave of the others, instead of a share of those due.",
    "keep_ended_commands": "How long commands that ended are kept, with their results.",
    "keep_cancelled_commands": "How long cancelled commands are kept, if that is shorter.",
    "most_ended_commands": "How many ended commands are kept for each channel; the newest stay.",
    "keep_push_tokens": "How long a push token is kept that another one replaced.",
    "keep_device_secrets": "How long unlock and bootstrap tokens are kept that were replaced or retired; some always are.",
    "most_brief_generations": "How many values of one token are kept that were in force for less than a day.",
    "keep_certificates": "How long replaced certificates are remembered after they ended by themselves.",
    "keep_challenges": "How long enrollment challenges and invitations are kept after their end.",
    "keep_alerts": "How long an alert is kept that was not raised again.",
    "keep_ended_relationships": "How long the losing side of a contest is kept, if it never handed over a secret.",
    "rotate_after_reveal": "How long after a person was shown a password or recovery key it is replaced, where it can be.",
    "most_user_channels": "How many users of one device are managed; more are declined for their login session.",
    "most_destructive_an_hour": "How many commands that erase, lock or shut down may be queued in an hour; more only with --confirm.",
    "destructive_expires_after": "How long after it was queued such a command may still be handed out; 0: however long it waited.",
    "return_to_service": "Whether a device in the return-to-service mode may reset itself when it asks to.",
    "admin_account": "Short name of the administrator account that Setup Assistant makes on Macs that wait for it.",
    "admin_full_name": "The full name of that account.",
    "admin_hidden": "Whether that account stays out of sight at the login window.",
}
"""What each policy decides, for people."""
CHOICES: Final[dict[str, str]] = (
    {name: ", ".join(_CHOICES[name]) if name in _CHOICES else "true, false" for name in MEANINGS}
    | dict.fromkeys(_LEAST, "seconds, or 90m, 24h, 7d")
    | {name: f"{some.start} to {some.stop - 1}" for name, some in _NUMBERS.items()}
    | dict.fromkeys(_NAMES, f"{NOBODY}, or enrollment ids or serial numbers with commas between")
    | {name: f"{NOBODY}, or {words}" for name, (_, words) in _TEXTS.items()}
)
"""What each policy can be set to, for people."""


class PolicyUnknown(Missing):
    """There is no policy of this name."""

    hint = "`ostiary policy list` shows the names."


class PolicyValueUnusable(Malformed):
    """The value is none that this policy can have."""

    hint = "`ostiary policy list` shows the choices."


class PolicySpanUnusable(PolicyValueUnusable):
    """The value is no span of time, or one that is too short."""

    hint = (
        "Write it with its unit: 90m, 24h, 30d; a number alone means seconds."
        " The longest is 9999d, which is as good as for ever."
    )


class PolicyBook:
    """The policy in force; `refresh` reads it again, since another node may have changed it."""

    def __init__(self, policies: Policies, tenant: TenantId = DEFAULT_TENANT) -> None:
        self._policies = policies
        self._tenant = tenant
        self._current = Policy()

    def current(self) -> Policy:
        """The policy as last read."""
        return self._current

    async def refresh(self) -> None:
        """Read the policy; a stored name that this version does not know is left alone."""
        stored = await self._policies.load_policies(self._tenant)
        policy = Policy()
        known = {field.name for field in fields(Policy)}
        for name, text in stored.items():
            if name in known:
                policy = replace(policy, **{name: decode_policy_value(name, json.loads(text))})
        self._current = policy

    async def change(self, name: str, value: str, *, actor: str) -> Policy:
        """Set one policy for everybody.

        Raises:
            PolicyUnknown, PolicyValueUnusable
        """
        plain = plain_value(name, value)
        decode_policy_value(name, plain)
        audit = AuditEntry(
            tenant=self._tenant, actor=actor, verb="policy-set", subject=name, reason=value
        )
        await self._policies.save_policy(self._tenant, name, json.dumps(plain), audit)
        await self.refresh()
        return self._current


def policy_values(policy: Policy) -> dict[str, str]:
    """Every policy with its value in force, as text for people."""
    return {field.name: _text(getattr(policy, field.name)) for field in fields(Policy)}


def decode_policy_value(name: str, value: object) -> Any:
    """The typed value of a policy from its JSON form. Raises PolicyUnknown, PolicyValueUnusable."""
    if name not in {field.name for field in fields(Policy)}:
        raise PolicyUnknown(policy=name)
    if name in _CHOICES:
        try:
            return _CHOICES[name](str(value))
        except ValueError:
            choices = ", ".join(_CHOICES[name])
            raise PolicyValueUnusable(f"{name} is one of: {choices}") from None
    if name in _LEAST:
        return _span(name, value)
    if name in _NUMBERS:
        return _number(name, value)
    if name in _NAMES:
        return _names(name, value)
    if name in _TEXTS:
        return _text_value(name, value)
    if not isinstance(value, bool):
        raise PolicyValueUnusable(f"{name} is true or false")
    return value


def _span(name: str, value: object) -> timedelta:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise PolicySpanUnusable(f"{name} is a span of time: 24h, 90m, 7d, or seconds")
    span, least = timedelta(seconds=value), _LEAST[name]
    if span < least:
        raise PolicySpanUnusable(f"{name} is at least {least // timedelta(hours=1)}h")
    return span


def _number(name: str, value: object) -> int:
    allowed = _NUMBERS[name]
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        raise PolicyValueUnusable(f"{name} is a number from {allowed.start} to {allowed.stop - 1}")
    return value


def _names(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise PolicyValueUnusable(f"{name} is a list of enrollment ids, or {NOBODY}")
    names = names_in("" if value == NOBODY else value)
    if len(names) > MOST_NAMES:
        raise PolicyValueUnusable(f"{name} has at most {MOST_NAMES} enrollment ids")
    return ",".join(names)


def _text_value(name: str, value: object) -> str:
    form, words = _TEXTS[name]
    if value in ("", NOBODY):
        return ""
    if not isinstance(value, str) or form.fullmatch(value) is None or not value.isprintable():
        raise PolicyValueUnusable(f"{name} is {NOBODY}, or {words}")
    return value


def names_in(listed: str) -> tuple[str, ...]:
    """The enrollment ids of a policy that lists them."""
    return tuple(name for one in listed.split(",") if (name := one.strip()))


def plain_value(name: str, text: str) -> object:
    """The JSON form of what a person wrote; text that is no such value stays text, to be refused."""
    if name in _NAMES or name in _TEXTS:
        return text
    if text in ("true", "false"):
        return text == "true"
    if name in _LEAST and (span := _SPAN.fullmatch(text)):
        return int(span[3]) if span[3] else int(span[1]) * _SECONDS[span[2]]
    if name in _NUMBERS and re.fullmatch("[0-9]{1,8}", text):
        return int(text)
    return text


def _text(value: object) -> str:
    match value:
        case timedelta():
            return _span_text(value)
        case bool():
            return "true" if value else "false"
        case "":
            return NOBODY
        case _:
            return str(value)


def _span_text(span: timedelta) -> str:
    """As people write it: the largest unit of which it is a whole number, and at least two."""
    seconds = int(span.total_seconds())
    for unit, size in sorted(_SECONDS.items(), key=lambda pair: -pair[1]):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return str(seconds)
