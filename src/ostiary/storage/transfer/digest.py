"""What a table holds, in 32 bytes: equal for equal rows in any order, different for anything else."""

import hashlib
import marshal
from collections.abc import Iterable
from typing import Final

from ostiary.storage.transfer.side import Row

_SIZE: Final = 32
_MODULUS: Final = 1 << (8 * _SIZE)
# The oldest format says the same of equal values, however they came about; the newer ones remember what they met.
_PLAIN: Final = 0


class TableDigest:
    """A sum over the keyed digests of rows, so that the two engines may give them in their own order."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._sum = 0
        self.rows = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Take these rows in; a row twice is another thing than a row once."""
        for row in rows:
            content = marshal.dumps(row, _PLAIN)
            one = hashlib.blake2b(content, key=self._key, digest_size=_SIZE).digest()
            self._sum = (self._sum + int.from_bytes(one)) % _MODULUS
            self.rows += 1

    @property
    def value(self) -> tuple[int, int]:
        """Two tables hold the same if, under the same key, their values are equal."""
        return self.rows, self._sum
