"""The twin as a whole: the families that decide, over one set of dictionaries."""

from ostiary.storage.memory.challenges import MemoryChallenges
from ostiary.storage.memory.enrollments import MemoryEnrollments
from ostiary.storage.memory.escrows import MemoryEscrows
from ostiary.storage.memory.push_certificates import MemoryPushCertificates
from ostiary.storage.memory.renewals import MemoryRenewals
from ostiary.storage.memory.retention import MemoryRetention
from ostiary.storage.memory.sealed_values import MemorySealedValues
from ostiary.storage.memory.store import Store
from ostiary.storage.memory.wakes import MemoryWakes


class MemoryStorage:
    """What a database offers to decisions, without one."""

    def __init__(self) -> None:
        self._store = Store()
        self.enrollments = MemoryEnrollments(self._store)
        self.challenges = MemoryChallenges(self._store)
        self.escrows = MemoryEscrows(self._store)
        self.wakes = MemoryWakes(self._store)
        self.push_certificates = MemoryPushCertificates(self._store)
        self.retention = MemoryRetention(self._store)
        self.renewals = MemoryRenewals(self._store)
        self.sealed_values = MemorySealedValues(self._store)
