"""What a device reported of itself as the text in its column, and back."""

import json
from collections.abc import Mapping

from ostiary.domain.facts import Fact


def encode_facts(facts: Mapping[str, Fact]) -> str:
    """Compact JSON in plain ASCII: whatever characters a device writes, every engine holds them."""
    return json.dumps(dict(facts), separators=(",", ":"))


def decode_facts(stored: str) -> Mapping[str, Fact]:
    """What `encode_facts` was given."""
    facts: dict[str, Fact] = json.loads(stored)
    return facts
