"""Whether a database has exactly the schema of this version: a step more or less, and its columns are not what we know."""

from collections.abc import Mapping

from ostiary.storage.errors import SchemaAltered, SchemaTooNew
from ostiary.storage.transfer.errors import SchemaBehind


def demand_current(applied: Mapping[str, str], shipped: Mapping[str, str]) -> None:
    """Compare steps by name and checksum.

    Raises:
        SchemaTooNew: it went through a step that we do not know.
        SchemaAltered: a step that we know by name had another text.
        SchemaBehind: steps are still to be taken.
    """
    for name, checksum in applied.items():
        if name not in shipped:
            raise SchemaTooNew(migration=name)
        if shipped[name] != checksum:
            raise SchemaAltered(migration=name)
    if waiting := sorted(shipped.keys() - applied.keys()):
        raise SchemaBehind(migration=waiting[0])
