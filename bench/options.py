"""What can be said on the command line of the bench."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench.figures import BAR_CONNECTIONS
from bench.peer import STORAGES

PUSH = "push"
DESCRIPTION = (
    "Measure the hot paths against their bars, from outside and with every answer checked."
)


def parse(scenarios: Sequence[str]) -> argparse.Namespace:
    """The options that were given, and the defaults of the others. Ends the program if they do not fit together."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument(
        "--engine", choices=("sqlite", "postgres", "both"), default="both", help="default: both"
    )
    parser.add_argument(
        "--database", metavar="URL", help="an empty PostgreSQL, instead of one of the bench's own"
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of everything, in seconds")
    parser.add_argument(
        "--only", nargs="+", choices=(*scenarios, PUSH), help="only these, after enrolling"
    )
    parser.add_argument(
        "--connections",
        nargs="+",
        type=int,
        choices=(1, 16, 64),
        help="only so many at once, after enrolling (bars are for 16)",
    )
    parser.add_argument("--laps", type=int, default=1, help="measure so often, show medians")
    parser.add_argument("--growth", action="store_true", help="with a large database, too")
    parser.add_argument("--others", type=int, default=300_000, help="other enrollments then")
    parser.add_argument(
        "--answered", type=int, default=1000, help="answered commands of each device then"
    )
    parser.add_argument("--write", action="store_true", help="put the figures into bench/README.md")
    parser.add_argument("--strict", action="store_true", help="fail if a bar is missed")
    parser.add_argument("--dir", type=Path, help="where databases lie (default: the system's)")
    _add_peer(parser)
    options = parser.parse_args()
    if options.growth and options.database is not None and options.engine != "sqlite":
        parser.error("--growth needs room for a second database: leave --database out")
    if (
        options.growth
        and options.connections is not None
        and BAR_CONNECTIONS not in options.connections
    ):
        parser.error("--growth is measured with 16 connections: add 16 to --connections")
    if options.peer_url is not None and options.authority is None:
        parser.error("--peer-url needs --authority DIR: the peer must trust the CA in it (ca.pem)")
    return options


def _add_peer(parser: argparse.ArgumentParser) -> None:
    peer = parser.add_argument_group("beside NanoMDM", "the same bytes to it, in turns with ours")
    peer.add_argument("--peer-binary", type=Path, metavar="PATH", help="start it from here")
    peer.add_argument(
        "--peer-storage",
        nargs="+",
        choices=STORAGES,
        default=["pgsql"],
        help="what it stores on, each a server of its own (default: pgsql)",
    )
    peer.add_argument("--peer-schema", type=Path, metavar="PATH", help="its PostgreSQL schema.sql")
    peer.add_argument("--peer-pooler", type=Path, metavar="PATH", help="PgBouncer, for `pooled`")
    peer.add_argument("--peer-url", metavar="URL", help="one that runs already, on 127.0.0.1")
    peer.add_argument("--peer-api-key", metavar="KEY", default="", help="its -api")
    peer.add_argument("--peer-pid", type=int, metavar="N", help="its process, for its CPU")
    peer.add_argument(
        "--peer-database-pid", type=int, metavar="N", help="its database's first process"
    )
    peer.add_argument(
        "--authority", type=Path, metavar="DIR", help="keep the devices' CA there, and use it again"
    )
