"""The few sentences that storage itself writes into what people read; the same on every engine."""

import json
from typing import Final

REPLACED: Final = "A newer generation took its place."
ISSUED: Final = "Issued."
IMPORTED: Final = "Imported."
WITHDRAWN: Final = "The device that it was made for was released."
USED: Final = "used"
USER_LEFT: Final = "The device left the relationship that this user channel belonged to."


def cancellation_text(cause: str) -> str:
    """The result that a cancelled command is closed with."""
    return json.dumps({"cause": cause}, ensure_ascii=False)
