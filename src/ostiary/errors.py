"""The families of errors: who must act. Each room raises its own errors under them; web/ and cli/ alone render them."""

from typing import ClassVar

from typing_extensions import override


class OstiaryError(Exception):
    """Something that happened, who must act, and what helps.

    The class says what happened (its docstring's first line is the sentence people read), its family says who must
    act, `hint` says what helps. Keyword facts go into the message and the log: never put a secret, a body or a
    token among them.
    """

    hint: ClassVar[str] = ""

    def __init__(self, detail: str = "", /, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts

    @property
    def code(self) -> str:
        """The stable name that programs compare: the class name in snake_case."""
        name = type(self).__name__
        return "".join(
            f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name)
        )

    @property
    def title(self) -> str:
        """What this class of error means, one sentence for people."""
        doc = type(self).__doc__ or type(self).__name__
        return doc.strip().splitlines()[0]

    @override
    def __str__(self) -> str:
        said = self.detail or self.title
        facts = ", ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{said} ({facts})" if facts else said


class Malformed(OstiaryError):
    """The input is not what it claims to be; the sender must mend it."""


class TooLarge(OstiaryError):
    """The input exceeds a bound; the sender must make it smaller."""


class Refused(OstiaryError):
    """The sender may not do this; the sender or an operator must act."""


class Declined(OstiaryError):
    """This user is not managed here; nobody needs to act."""


class Missing(OstiaryError):
    """What was asked for does not exist."""


class Conflicting(OstiaryError):
    """The state has moved on in between; ask again on fresh state."""


class Unavailable(OstiaryError):
    """Something we depend on is away; wait and try again."""
