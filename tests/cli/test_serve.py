"""The server as a process: ready, private, drained, and found again after a crash."""

import json
import signal
import socket
import ssl
import stat
from pathlib import Path

import httpx
import pytest

from installation import copy_installation
from ostiary.cli.main import run
from served import Server, served


def ask(server: Server, data: Path, path: str) -> httpx.Response:
    """Over TLS, trusting what `ostiary init` made."""
    context = ssl.create_default_context(cafile=data / "ca.pem")
    with httpx.Client(verify=context) as client:
        return client.get(
            f"https://127.0.0.1:{server.port}{path}",
            extensions={"sni_hostname": "mdm.example.org"},
            headers={"Host": "mdm.example.org"},
        )


def test_a_server_says_when_it_is_ready_and_serves_over_tls(data: Path) -> None:
    """design.md 3: --ready-file; ca.pem is what clients trust."""
    with served(data) as server:
        assert server.ready["pid"] == server.process.pid
        assert server.ready["url"] == "https://mdm.example.org"
        assert ask(server, data, "/healthz").text == "ok\n"
        assert ask(server, data, "/readyz").text == "ready\n"
        assert server.stop() == 0
        assert not server.ready_file.exists()


def test_the_control_socket_is_private_and_goes_with_the_server(data: Path) -> None:
    """0600 from its first moment, removed at the end."""
    control = data / "control.sock"
    with served(data) as server:
        assert stat.S_IMODE(control.stat().st_mode) == 0o600
        assert stat.S_ISSOCK(control.stat().st_mode)
        assert server.stop() == 0
    assert not control.exists()


@pytest.mark.parametrize(
    "command",
    [
        ["device", "list"],
        ["device", "show", "NOBODY"],
        ["enqueue", "NOBODY", "security-info"],
        ["policy", "list", "-o", "json"],
        ["policy", "set", "none", "x"],
        ["token", "list", "--kind", "none"],
        ["push", "NOBODY"],
    ],
)
def test_a_command_says_the_same_with_and_without_a_server(
    data: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """design.md 3: commands talk to the running server; without one they open the store."""
    offline = run(command), capfd.readouterr()
    with served(data):
        online = run(command), capfd.readouterr()
    assert online == offline


def test_a_server_that_was_killed_leaves_nothing_in_the_way(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A stale socket is told from a living one, by commands and by the next server."""
    with served(data) as server:
        server.stop(signal.SIGKILL)
    server.ready_file.unlink()
    assert (data / "control.sock").exists()
    assert run(["policy", "set", "user_login", "digest"]) == 0
    with served(data):
        capfd.readouterr()
        assert run(["policy", "list", "-o", "jsonl"]) == 0
        assert '{"name": "user_login", "value": "digest", ' in capfd.readouterr().out


def test_a_second_server_is_refused_in_one_sentence(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """SQLite is one process and says so. (design.md 3)"""
    with served(data):
        assert run(["serve"]) == 75
        assert "Another process has this database open" in capfd.readouterr().err


@pytest.mark.usefixtures("data")
def test_a_taken_port_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    """users.md 3.1: fail at start with one plain sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run(["serve", "--listen", address]) == 75
    said = capfd.readouterr().err
    assert f"cannot listen on {address}" in said
    assert "Traceback" not in said


def test_a_request_under_way_is_answered_before_the_end(data: Path) -> None:
    """users.md 3.7: graceful stop that drains check-ins."""
    with served(data, env={"OSTIARY_TLS__ENABLED": "false"}) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as device:
            device.sendall(b"POST /enroll HTTP/1.1\r\nHost: mdm\r\nContent-Length: 6\r\n\r\ncode")
            wait_for(server, data)
            server.process.send_signal(signal.SIGTERM)
            while True:  # no more connections are taken, and this one lives
                try:
                    socket.create_connection(("127.0.0.1", server.port)).close()
                except ConnectionError:  # refused, or reset while it stood in line
                    break
            device.sendall(b"=A")
            assert device.recv(4096).startswith(b"HTTP/1.1 403")
        assert server.process.wait(30) == 0


def wait_for(server: Server, data: Path) -> None:
    """One whole request, so that what was sent before it has been read."""
    assert server.process.poll() is None
    assert run(["policy", "list"]) == 0
    assert data.exists()


def test_no_tls_is_plain_http_for_a_proxy(data: Path) -> None:
    """design.md 3: --no-tls."""
    with served(data, env={"OSTIARY_TLS__ENABLED": "false"}) as server:
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").text == "ok\n"


def test_a_socket_path_that_is_too_long_is_no_obstacle(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A Unix socket's address holds some hundred bytes; data directories may be deeper."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    data = copy_installation(template, deep / "data")
    with served(data) as server:
        capfd.readouterr()
        assert run(["device", "list", "--data", str(data), "-o", "json"]) == 0
        assert json.loads(capfd.readouterr().out) == []
        assert "/devices" in server.log.read_text()


def test_the_log_is_json_and_holds_no_query(data: Path) -> None:
    """style.md 8: one line per request, never a body or a query."""
    with served(data) as server:
        ask(server, data, "/enroll?code=planted-code")
        ask(server, data, "/enroll/planted-code")
        ask(server, data, "/planted-path")
        server.stop()
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"].startswith("stop")] == [
        "stopping",
        "stopped",
    ]
    answered = [line for line in lines if line["event"] == "request_answered"]
    assert [line["route"] for line in answered] == ["/enroll", "/enroll/{code}", None]
    assert all({"request_id", "dur_ms", "status", "method"} <= line.keys() for line in answered)
    assert "planted" not in server.log.read_text()
