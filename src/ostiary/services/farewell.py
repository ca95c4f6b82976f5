"""Saying goodbye: the one place that tells a device to leave management, and only for an operator who asked."""

from typing import Final

from ostiary.domain.answer import Goodbye
from ostiary.formats import plist
from ostiary.services.reply import Farewell

UNRECOGNIZED_DEVICE: Final = "com.apple.unrecognized.device"

_FIRST_WITH_BODY: Final = {
    "iPhone": 17,
    "iPad": 17,
    "iPod": 17,
    "Mac": 14,
    "AppleTV": 17,
    "RealityDevice": 1,
    "Watch": 10,
}
"""The major version from which a 403 with the body replaces 401. (check-in-and-commands.md 3.7)"""


def say_goodbye(released: Goodbye) -> Farewell:
    """What this device understands as the end: the newer body where its system knows it, else the bare 401."""
    if not _knows_the_body(released.product_name or "", released.os_version or ""):
        return Farewell(None)
    body = plist.encode(
        {
            "code": UNRECOGNIZED_DEVICE,
            "description": "An operator of this server released the device from management.",
        }
    )
    return Farewell(body)


def _knows_the_body(product: str, version: str) -> bool:
    major = version.split(".", 1)[0]
    if not major.isascii() or not major.isdigit():
        return False
    return any(name in product and int(major) >= first for name, first in _FIRST_WITH_BODY.items())
