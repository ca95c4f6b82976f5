"""What a server says about itself when it refuses: its own sentence, bounded."""

from typing import Final

_LONGEST: Final = 300


def sentence_in(media_type: str, body: bytes) -> str:
    """The first line of a plain text; empty where the body is something else."""
    if media_type != "text/plain":
        return ""
    first, *_ = body[: 4 * _LONGEST].decode("utf-8", "replace").strip().splitlines() or [""]
    return "".join(c if c.isprintable() else "?" for c in first[:_LONGEST])


def with_sentence(fact: str, media_type: str, body: bytes) -> str:
    """A fact with the server's own sentence behind it, if it said one."""
    said = sentence_in(media_type, body)
    return f"{fact}: {said}" if said else fact
