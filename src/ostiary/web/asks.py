"""Reading what the command line asks over the control socket: one field at a time, each fault named."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

from starlette.requests import Request

from ostiary.errors import Malformed
from ostiary.web.body import BodyBudget, read_body

ACTOR_HEADER: Final = "x-ostiary-actor"
LARGEST_ASK: Final = 8 * 1024 * 1024
MOST_LINES: Final = 1000

Fields = Mapping[str, Any]
W = TypeVar("W", bound=StrEnum)


class AskUnreadable(Malformed):
    """The request is not what this version of the control socket understands."""

    hint = "Is the command of the same version as the server?"


class ValueEmpty(Malformed):
    """A value that is needed was given, and is empty."""

    hint = "Write the value; is it in a variable of the shell that is not set? An option that is not needed can be left out."


class WordUnknown(Malformed):
    """This word is none of those that can stand here."""

    hint = "Write one of these words as it stands here; --help says more of them."


async def read_ask(request: Request, budget: BodyBudget) -> Fields:
    """The JSON object that a command sent. Raises AskUnreadable."""
    body = await read_body(request, limit=LARGEST_ASK, budget=budget)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise AskUnreadable from None
    if not isinstance(content, dict):
        raise AskUnreadable
    return content


def actor_of(request: Request) -> str:
    name = request.headers.get(ACTOR_HEADER, "")
    return name if name and name.isprintable() and len(name) <= 64 else "operator"  # noqa: PLR2004 - a name's length


def limit_of(request: Request) -> int:
    text = request.query_params.get("limit", "500")
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST_LINES:
        raise AskUnreadable(f"`limit` is a number from 1 to {MOST_LINES}")
    return int(text)


def parameter(request: Request, name: str) -> str:
    if (value := request.query_params.get(name)) is None:
        raise AskUnreadable(f"`{name}` is missing")
    return _said(name, value)


def one_of(words: type[W], name: str, what: str, offered: Iterable[W] | None = None) -> W:
    """The member of `words` that is called `name`.

    Raises:
        WordUnknown, ValueEmpty: they tell them all, or those that are `offered` where others would be refused.
    """
    try:
        return words(name)
    except ValueError:
        told = ", ".join(words if offered is None else offered)
        if not name:
            raise ValueEmpty(f"the {what} is empty; there are {told}") from None
        raise WordUnknown(f"there is no {what} `{name}`; there are {told}") from None


def text(ask: Fields, name: str) -> str:
    value = ask.get(name)
    if not isinstance(value, str):
        raise AskUnreadable(f"`{name}` is missing")
    return _said(name, value)


def _said(name: str, value: str) -> str:
    """A value with something in it. Raises ValueEmpty."""
    if not value:
        raise ValueEmpty(f"`{name}` is empty, and something has to stand there")
    return value


def optional_text(ask: Fields, name: str) -> str | None:
    return None if ask.get(name) is None else text(ask, name)


def texts(ask: Fields, name: str) -> list[str]:
    values = ask.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise AskUnreadable(f"`{name}` is missing")
    if "" in values:
        raise ValueEmpty(f"one of the `{name}` is empty, and something has to stand there")
    return values


def number(ask: Fields, name: str) -> int:
    value = ask.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise AskUnreadable(f"`{name}` is missing")
    return value


def flag(ask: Fields, name: str) -> bool:
    """Whether `name` was said to be so; absent means no."""
    value = ask.get(name, False)
    if not isinstance(value, bool):
        raise AskUnreadable(f"`{name}` is neither true nor false")
    return value


def decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise AskUnreadable("a file did not arrive whole") from None
