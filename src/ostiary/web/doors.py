"""What a server listens on: its port and its control socket, opened at once and handed to those who accept."""

import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ostiary.errors import Unavailable
from ostiary.web.control_socket import ControlSocket

_BACKLOG: Final = 2048


class Duty(StrEnum):
    """A half of a server, where one process does not do both."""

    WEB = "web"
    """Devices, programs and commands."""
    WORKER = "worker"
    """Pushes and what follows them; its port answers /healthz, /readyz and /metrics."""


class PortTaken(Unavailable):
    """The address to listen on is not free, or not ours."""

    hint = "Stop what listens there, or choose another with --listen HOST:PORT."


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What one process accepts connections on."""

    port: socket.socket
    commands: socket.socket | None
    """None: this process answers no commands."""


class OpenDoors:
    """The sockets of a whole node, one on the port for each process.

    All of them share the port (SO_REUSEPORT), and the kernel deals connections out evenly. On one shared socket,
    whoever is awake first takes a burst: one of four processes got 445 of 600. (docs/decisions/0014)
    """

    def __init__(
        self, host: str, port: int, *, control: ControlSocket | None, processes: int = 1
    ) -> None:
        """Have the port from now on; `control` is closed with the rest, also if the port cannot be had.

        With several processes nobody is let in before one of them accepts.

        Raises:
            PortTaken
        """
        self._control = control
        self._ports: list[socket.socket] = []
        try:
            # Without sharing at first: another server of ours that shares the port would not be noticed.
            alone = _listen(host, port)
            self.address: tuple[str, int] = alone.getsockname()[:2]
            if processes == 1:
                self._ports.append(alone)
            else:
                alone.close()
                self._ports += [_bind_shared(*self.address) for _ in range(processes)]
        except BaseException:
            self.close()
            raise

    def take(self, number: int) -> Doors:
        """What process `number` accepts on, counted from 1; the others' are closed in this process."""
        for place, port in enumerate(self._ports, 1):
            if place != number:
                port.close()
        commands = None if self._control is None else self._control.socket
        return Doors(port=self._ports[number - 1], commands=commands)

    def hand_over(self, number: int) -> None:
        """It is that process's alone from now on: once it closes it, or dies, nobody is led there any more."""
        self._ports[number - 1].close()

    def renew(self, number: int) -> None:
        """A port for the successor of a process that died. Raises PortTaken."""
        self._ports[number - 1] = _bind_shared(*self.address)

    def close_ports(self) -> None:
        """Take no more connections here; processes that have them go on with their own."""
        for port in self._ports:
            port.close()

    def close(self) -> None:
        """Close and remove everything."""
        self.close_ports()
        if self._control is not None:
            self._control.close()
            self._control = None


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=_family(host), backlog=_BACKLOG)
    except OSError as error:
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from None


def _bind_shared(host: str, port: int) -> socket.socket:
    """A socket that does not listen yet: until it does, no connection is led to it."""
    sock = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        # As long as nobody listens, whoever else sets it may bind the same port, and another user could take it from us.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        sock.close()
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return sock


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
