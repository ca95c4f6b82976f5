"""Lives: scenes that random lives of devices led to, on the same house as tests/scenes."""

from scenes.conftest import house

__all__ = ["house"]
