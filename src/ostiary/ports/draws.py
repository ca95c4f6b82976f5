"""Where new secrets come from: what this server makes for devices is drawn here, and nowhere else."""

from typing import Protocol

from ostiary.secret import Secret


class Draws(Protocol):
    """Draws secrets that nobody can guess. (escrowed-secrets.md 4.0.2 rule 8)"""

    def password(self) -> Secret:
        """A Recovery Lock, firmware or administrator password: 20 to 32 letters that every keyboard types alike."""

    def pin(self) -> Secret:
        """Six digits, for locking or erasing a Mac. (DL-01)"""

    def bypass_raw(self) -> Secret:
        """16 bytes, for an Activation Lock bypass code. (activation-lock.md 3)"""

    def salt(self) -> bytes:
        """32 bytes, for one password's hash. (4.8)"""
