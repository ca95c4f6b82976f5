"""What a device answers to UserList: its accounts, and who of them holds a SecureToken."""

from dataclasses import dataclass
from typing import Final

from ostiary.formats.fields import Fields
from ostiary.protocol.mdm.reported import (
    Fact,
    Facts,
    as_facts,
    as_flag,
    as_list,
    as_number,
    as_text,
    dicts,
    kept_flags,
    kept_numbers,
    kept_texts,
)

MOST_USERS: Final = 500
LEFT_OUT: Final = "UsersLeftOut"
"""Our own fact: how many more users the report named than we keep."""

_TEXTS: Final = ("UserName", "FullName", "UserGUID")
_NUMBERS: Final = ("UID", "DataQuota", "DataUsed")
_FLAGS: Final = ("MobileAccount", "HasSecureToken", "IsLoggedIn", "HasDataToSync")


def decode_user_list(result: Fields) -> dict[str, Fact]:
    """The users of a report under Apple's keys; those beyond the first `MOST_USERS` are counted.

    Source: escrowed-secrets.md 4.2, "Which accounts hold a SecureToken".
    """
    users, left_out = dicts(result.as_mapping(), "Users", MOST_USERS)
    kept: list[Fact] = []
    for user in users:
        facts = kept_texts(user, _TEXTS) | kept_numbers(user, _NUMBERS) | kept_flags(user, _FLAGS)
        if facts:
            kept.append(facts)
    return {"Users": kept, LEFT_OUT: left_out} if left_out else {"Users": kept}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAccount:
    """One account on a device; None for everything the report was silent about."""

    name: str | None = None
    full_name: str | None = None
    guid: str | None = None
    uid: int | None = None
    is_mobile: bool | None = None
    has_secure_token: bool | None = None
    is_logged_in: bool | None = None


def read_users(facts: Facts) -> tuple[UserAccount, ...]:
    """The accounts in a sheet, in the order the device named them."""
    return tuple(
        UserAccount(
            name=as_text(user.get("UserName")),
            full_name=as_text(user.get("FullName")),
            guid=as_text(user.get("UserGUID")),
            uid=as_number(user.get("UID")),
            is_mobile=as_flag(user.get("MobileAccount")),
            has_secure_token=as_flag(user.get("HasSecureToken")),
            is_logged_in=as_flag(user.get("IsLoggedIn")),
        )
        for user in map(as_facts, as_list(facts.get("Users")))
    )
