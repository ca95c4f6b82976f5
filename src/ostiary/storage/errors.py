"""What can be wrong with a store or with a change that it is given; the families say who must act."""

from ostiary.errors import Conflicting, Malformed, Missing, Unavailable


class StoreIsOpen(Unavailable):
    """Another process has this database open."""

    hint = "Stop the other Ostiary that uses this data directory, or talk to it instead."


class DatabaseMissing(Missing):
    """The database of this installation is missing."""

    hint = "Restore it from a copy; an empty one would know no device."


class DatabaseMoved(Conflicting):
    """The house in this database was moved to another one."""

    hint = (
        "Let `database` in ostiary.toml (or OSTIARY_DATABASE) name the new one. If you go back on purpose, and"
        " give up what devices brought since, remove the mark. If `ostiary migrate` was cut off, give it again."
    )


class SchemaTooNew(Unavailable):
    """A newer Ostiary has changed this database; this one does not know its tables."""

    hint = "Run the newer version, or restore the backup that was made before the upgrade."


class SchemaAltered(Unavailable):
    """A migration that this database went through is not the one that we ship under its name."""

    hint = "Run the version that made this database; if that is this one, its files were edited."


class UnusableDatabaseUrl(Malformed):
    """The database URL names no engine that we have."""

    hint = (
        "Write sqlite:///path/to/ostiary.db (four slashes make the path absolute),"
        " or postgresql://user@host/name."
    )


class ChangeDoesNotFit(Conflicting):
    """The change does not fit what is stored: a row moved on, is missing, or would exist twice."""


class ChallengeUnknown(Missing):
    """No challenge of ours has this digest."""
