"""Values made for every request: frozen for the type checker and for the tests, and cheap where devices wait.

A frozen dataclass sets each field through `object.__setattr__`, which costs five times as much as setting it. A message
makes some thirty values with two hundred fields, and that was a fourteenth of what an Idle costs. So these are
frozen where mistakes are found: mypy refuses to set a field, and the tests run with truly frozen values.
"""

import dataclasses
import os
from typing import TYPE_CHECKING, Any, Final

FREEZE: Final = "OSTIARY_FREEZE_VALUES"
"""Environment: `1` makes these values refuse changes at run time too, as the tests do."""

if TYPE_CHECKING:
    from dataclasses import dataclass
elif os.environ.get(FREEZE) == "1":
    dataclass = dataclasses.dataclass
else:

    def dataclass(**options: Any) -> Any:
        """`dataclasses.dataclass`; what is frozen keeps its hash, and is not guarded at run time."""
        if options.pop("frozen", False):
            options["unsafe_hash"] = options.get("eq", True)
        return dataclasses.dataclass(**options)


__all__ = ["FREEZE", "dataclass"]
