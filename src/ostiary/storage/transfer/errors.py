"""Why a transfer does not begin, or does not end; whatever it is, the source is as it was."""

from ostiary.errors import Conflicting, Unavailable


class TargetNotEmpty(Conflicting):
    """The database to move into holds something already; nothing of it is ever overwritten."""

    hint = "Name another one with --to, or move this one out of the way if you know that nobody needs it."


class SameDatabase(Conflicting):
    """The data already lies in the database that it is to be moved to."""

    hint = "Name another one with --to."


class NodesAreConnected(Unavailable):
    """Nodes or commands of Ostiary are connected to this database; what they write meanwhile would be lost."""

    hint = "Stop every server that uses it, on all machines, then start the migration again."


class TargetIsUsed(NodesAreConnected):
    """Nodes or commands of Ostiary are connected to the database that is to be moved into: somebody uses it already."""

    hint = "Look at its host and its name: it may be another installation's. Name an empty one with --to."


class NodeCame(NodesAreConnected):
    """A node has connected to the old database while the new one was being completed; the settings are as before.

    The new database holds all that was there until then, and may miss what the node takes in now.
    """

    hint = (
        "Go on with the old database, which the settings name. To move: stop every server that uses it, on all machines,"
        " remove the new database, and start the migration again."
    )


class SchemaBehind(Unavailable):
    """This database has not gone through all steps of its schema yet."""

    hint = "Run `ostiary doctor` on it once, with this version and while no server runs; that takes the steps."


class SchemasDiffer(Unavailable):
    """The two databases do not have the same tables and columns, so one cannot hold what the other does."""

    hint = "Both must be of this version of Ostiary, with nothing in them that is not its own."


class ContentsDiffer(Unavailable):
    """What was read back is not what was written; nothing of it was kept."""

    hint = (
        "The disk, the memory or the database is at fault; look at their logs before you try again."
    )


class TransferFailed(Unavailable):
    """One of the two databases cannot be read or written."""

    hint = "Its log, its disk and its permissions say why. Nothing was moved; start again when that is mended."
