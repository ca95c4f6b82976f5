"""Where everything is kept: SQLite, PostgreSQL, an in-memory twin for tests, and the schema's migrations.

Only house.py and the CLI's offline commands open a storage; everybody else sees ports/storage.py and ports/reports.py.
"""

from ostiary.storage.opening import Storage, open_storage

__all__ = ["Storage", "open_storage"]
