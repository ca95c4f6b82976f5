"""`ostiary serve --processes N` and `--only`: started together, replaced when they die, ended together."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from e2e.nodes import children_of, make_installations
from ostiary.cli.main import run
from served import PATIENCE_SECONDS, Server, served

ALL = ("--processes", "3")


@pytest.fixture
def node(tmp_path: Path, postgres_url: str) -> Path:
    """An installation on PostgreSQL."""
    (directory,) = make_installations(tmp_path, postgres_url, 1)
    return directory


def ask(server: Server, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", timeout=PATIENCE_SECONDS)


def lines(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def count(server: Server, name: str) -> float:
    """The sum of one figure over all its labels, whichever process tells it."""
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", ask(server, "/metrics").text, re.MULTILINE)
    return sum(float(value) for value in found)


def wait_until(question: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not question():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("flags", [["--only", "web"], ["--only", "worker"], ["--processes", "2"]])
def test_sqlite_is_one_process_and_says_so(
    data: Path, flags: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """design.md 3; and what to do instead."""
    assert run(["serve", "--data", str(data), *flags]) == 77
    said = capfd.readouterr().err
    assert "on SQLite, which is one process" in said
    assert "PostgreSQL" in said


def test_several_processes_serve_one_port_and_end_together(node: Path) -> None:
    """Ready when all of them accept; each line of the log says whose it is; nothing is left at the end."""
    with served(node, *ALL) as server:
        assert server.ready["pid"] == server.process.pid
        pids = children_of(server.process.pid)
        assert len(pids) == 3
        for _ in range(30):
            assert ask(server, "/readyz").text == "ready\n"
            assert ask(server, "/healthz").text == "ok\n"
        assert run(["policy", "list", "--data", str(node)]) == 0  # through the control socket
        assert server.stop() == 0
        told = lines(server)
        assert {line.get("process") for line in told if line["event"] == "serving"} == {1, 2, 3}
        answered = {line["process"] for line in told if line["event"] == "request_answered"}
        assert len(answered) > 1
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert not server.ready_file.exists()
    assert not (node / "control.sock").exists()


def test_any_process_tells_the_figures_of_all_and_none_is_lost_with_a_process(node: Path) -> None:
    """A scrape meets one process by chance; counters never go back, or rates would be nonsense. (decision 0014)"""
    counted = "ostiary_checkin_duration_seconds_count"
    message = b"<plist><dict><key>MessageType</key><string>TokenUpdate</string></dict></plist>"
    with served(node, *ALL) as server:
        for _ in range(24):
            answer = httpx.put(
                f"http://127.0.0.1:{server.port}/checkin",
                content=message,
                headers={"Content-Type": "application/x-apple-aspen-mdm-checkin"},
            )
            assert answer.status_code == 400
        wait_until(lambda: count(server, counted) == 24)
        assert {count(server, counted) for _ in range(12)} == {24}
        assert count(server, "ostiary_processes") == 3
        for number, victim in enumerate(children_of(server.process.pid), 1):
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda number=number: started(server) == 3 + number)  # type: ignore[misc]  # a lambda's defaults have no types
            wait_until(lambda: count(server, "ostiary_processes") == 3)
            assert count(server, counted) == 24
        assert server.stop() == 0


def started(server: Server) -> int:
    """How many processes have come to serve so far."""
    return sum(line["event"] == "serving" for line in lines(server))


def test_nobody_is_left_on_the_port_when_the_parent_is_killed(node: Path) -> None:
    """SIGKILL to the parent alone: the kernel ends the others, and the next server has the port at once."""
    with served(node, *ALL) as server:
        pids = children_of(server.process.pid)
        os.kill(pids[0], signal.SIGSTOP)  # one that hangs as well
        server.stop(signal.SIGKILL)
        wait_until(lambda: not any(is_running(pid) for pid in pids))
        port = server.port
        server.ready_file.unlink()
    with served(node, *ALL, "--listen", f"127.0.0.1:{port}") as server:
        assert ask(server, "/readyz").text == "ready\n"
        assert server.stop() == 0


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_request_under_way_is_answered_before_the_processes_end(node: Path) -> None:
    """The parent hands SIGTERM on and waits; new connections are refused meanwhile."""
    with served(node, *ALL) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as device:
            device.sendall(b"POST /enroll HTTP/1.1\r\nHost: mdm\r\nContent-Length: 6\r\n\r\ncode")
            wait_until(lambda: count(server, "ostiary_body_bytes_in_flight") > 0)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_open(server.port))
            device.sendall(b"=A")
            assert device.recv(4096).startswith(b"HTTP/1.1 403")
        assert server.process.wait(PATIENCE_SECONDS) == 0


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True


def test_what_keeps_the_first_process_from_starting_is_said_once(node: Path) -> None:
    """One sentence and one exit code, as without --processes; not one for each."""
    done = subprocess.run(
        [sys.executable, "-m", "ostiary", "serve", "--data", str(node), *ALL],
        env=os.environ | {"OSTIARY_DATABASE": "postgresql://postgres@127.0.0.1:1/nothing"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 75
    assert done.stderr.count("ostiary: error:") == 1
    assert "the database cannot be reached" in done.stderr
    assert not (node / "control.sock").exists()


def test_a_taken_port_is_named_before_anything_starts(
    node: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also one that other processes of ours share among themselves."""
    with served(node, *ALL) as server:
        copy = node.parent / "copy"
        copy.mkdir()
        for name in ("ostiary.toml", "ca.pem"):
            (copy / name).write_bytes((node / name).read_bytes())
        address = f"127.0.0.1:{server.port}"
        assert run(["serve", "--data", str(copy), *ALL, "--listen", address]) == 75
    assert f"cannot listen on {address}" in capfd.readouterr().err


@pytest.mark.parametrize("flags", [(), ALL])
def test_a_directory_has_one_server(
    node: Path, flags: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """PostgreSQL has no lock that would say so, and two would answer each other's commands."""
    with served(node, *ALL) as server:
        assert run(["serve", "--data", str(node), *flags]) == 75
        assert "already serves this data directory" in capfd.readouterr().err
        assert run(["policy", "list", "--data", str(node)]) == 0
        assert server.stop() == 0
    with served(node) as server:  # and then the next
        assert server.stop() == 0
