"""What the device channel is called, beside the users' short names. Every module of the simulator may use it."""

from typing import Final

DEVICE: Final = "device"
