"""A network namespace: an island whose bridges can be taken away without a word."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ESTABLISHED: Final = "01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A link to the island, and its two ends' addresses."""

    link: str
    here: str
    there: str

    def cut(self) -> None:
        """From now on packets vanish: nobody is told, no connection is refused or reset."""
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """Packets pass again."""
        _ip("link", "set", self.link, "up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Island:
    """Where a node runs that can be cut off from its database."""

    name: str
    to_database: Bridge
    to_devices: Bridge

    @property
    def before(self) -> tuple[str, ...]:
        """What stands before a command that is to run there."""
        return ("nsenter", f"--net=/run/netns/{self.name}")


@contextmanager
def island() -> Iterator[Island]:
    """An island with two bridges, gone with the `with`."""
    name, number = f"ostiary-{os.getpid()}", os.getpid() % 256
    bridges = (
        Bridge(link=f"od{os.getpid()}", here=f"10.213.{number}.1", there=f"10.213.{number}.2"),
        Bridge(link=f"ow{os.getpid()}", here=f"10.214.{number}.1", there=f"10.214.{number}.2"),
    )
    _require_rights(name)
    try:
        for bridge in bridges:
            far = f"{bridge.link}x"
            _ip("link", "add", bridge.link, "type", "veth", "peer", "name", far, "netns", name)
            _ip("address", "add", f"{bridge.here}/30", "dev", bridge.link)
            _ip("-n", name, "address", "add", f"{bridge.there}/30", "dev", far)
            _ip("link", "set", bridge.link, "up")
            _ip("-n", name, "link", "set", far, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield Island(name=name, to_database=bridges[0], to_devices=bridges[1])
    finally:
        _ip("netns", "delete", name)


def _require_rights(name: str) -> None:
    """Make the namespace; where nobody may do so, this test cannot run."""
    if not shutil.which("ip") or not shutil.which("nsenter"):
        pytest.skip("there is no `ip` (iproute2) or no `nsenter` (util-linux)")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"network namespaces need CAP_NET_ADMIN and CAP_SYS_ADMIN: {made.stderr}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def connections_to(pid: int, port: int) -> int:
    """How many connections to this port the kernel believes in, where that process lives."""
    table = Path(f"/proc/{pid}/net/tcp").read_text()
    rows = [line.split() for line in table.splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows)
