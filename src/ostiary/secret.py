"""A value that must be used and never shown. Every room may hold one; only the wire and a person's reveal open it."""

import hmac
from typing import Final, NoReturn, final

from typing_extensions import override

MASK: Final = "***"


@final
class Secret:
    """Bytes that print as `***`, compare in constant time, and leave only through `reveal()`.

    It cannot be pickled, formatted, iterated or serialised by accident: a log line, an exception
    or a debugger's dump shows the mask.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves, for the wire or the sealer. Never log, format or store what this returns."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    @override
    def __hash__(self) -> int:
        return hash((Secret, self._value))

    @override
    def __repr__(self) -> str:
        return MASK

    @override
    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not to be copied out of the process")
