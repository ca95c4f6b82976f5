"""A new installation: every file private, nothing half made, nothing overwritten."""

import io
import os
import stat
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from typing_extensions import override

from installation import URL
from ostiary.cli.main import run
from ostiary.settings import load_settings


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_key_is_for_its_owner_alone(data: Path) -> None:
    """design.md 3: keys (0600)."""
    assert mode(data) == mode(data / "keys") == 0o700
    private = [data / "api-token", data / "ostiary.toml", data / "ostiary.sqlite"]
    private += [path for path in (data / "keys").iterdir() if path.suffix == ".key"]
    assert len(private) == 7
    assert {mode(path) for path in private} == {0o600}


def test_modes_do_not_hang_on_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fleet pull request 52552: a world-readable token file. (users.md 5.3)"""
    before = os.umask(0)
    try:
        assert run(["init", "--data", str(tmp_path / "data"), "--url", URL]) == 0
    finally:
        os.umask(before)
    monkeypatch.setenv("OSTIARY_DATA", str(tmp_path / "data"))
    test_every_key_is_for_its_owner_alone(tmp_path / "data")


def test_ca_pem_is_the_device_ca_and_then_the_tls_ca(data: Path) -> None:
    """design.md 5: the device CA and the TLS certificate are different things."""
    names = [
        certificate.subject.rfc4514_string()
        for certificate in x509.load_pem_x509_certificates((data / "ca.pem").read_bytes())
    ]
    assert [name[:17] for name in names] == ["CN=Ostiary Device", "CN=Ostiary TLS CA"]


def test_without_tls_ca_pem_is_the_device_ca_alone(tmp_path: Path) -> None:
    """design.md 3: --no-tls."""
    assert run(["init", "--data", str(tmp_path / "new"), "--url", URL, "--no-tls"]) == 0
    assert len(x509.load_pem_x509_certificates((tmp_path / "new/ca.pem").read_bytes())) == 1
    assert load_settings(tmp_path / "new").tls.enabled is False


def test_a_foreign_authority_is_kept_in_the_installation(data: Path, tmp_path: Path) -> None:
    """design.md 3: --trust-ca."""
    new = tmp_path / "new"
    command = ["init", "--data", str(new), "--url", URL, "--trust-ca", str(data / "ca.pem")]
    assert run(command) == 0
    (kept,) = load_settings(new).trust_ca
    assert (new / kept).read_bytes() == (data / "ca.pem").read_bytes()


def test_the_settings_file_teaches_and_is_read_again(data: Path) -> None:
    """Issue 2: ostiary.toml written with comments."""
    text = (data / "ostiary.toml").read_text()
    assert tomllib.loads(text)["url"] == URL
    assert text.count("\n#") > 20
    everything = "\n".join(
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in text.splitlines()
    )
    tomllib.loads(everything)  # what is commented out is true as well


def test_the_api_token_is_not_in_the_database(data: Path) -> None:
    """design.md 5: stored as digests."""
    token = (data / "api-token").read_bytes().strip()
    assert token.startswith(b"ostiary_")
    for path in data.glob("ostiary.sqlite*"):
        assert token not in path.read_bytes()


def test_a_failed_attempt_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The next attempt finds what the first one found."""
    new = tmp_path / "new"
    command = ["init", "--data", str(new), "--url", URL]
    assert run([*command, "--database", "oracle://scott:tiger@db"]) == 65
    assert not new.exists()
    assert "tiger" not in capfd.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("x")
    command[2] = str(tmp_path / "mine")
    capfd.readouterr()
    assert run(command) == 73  # who asks for a directory of his own gets no mixture
    assert "holds=notes" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]
    (tmp_path / "mine/notes").unlink()
    assert run([*command, "--database", "oracle://scott:tiger@db"]) == 65
    assert list((tmp_path / "mine").iterdir()) == []
    (tmp_path / "mine/lost+found").mkdir()  # a volume of its own
    (tmp_path / "mine/keys").mkdir()  # an attempt that was killed at its start
    assert run(command) == 0


def test_a_directory_that_cannot_be_written_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """users.md 3.1: fail at start with one plain sentence."""
    (tmp_path / "file").write_text("x")
    for where in (tmp_path / "file/data", Path("/proc/nothing/data")):
        assert run(["init", "--data", str(where), "--url", URL]) == 75
        assert "cannot be" in capfd.readouterr().err


def test_for_a_url_on_this_machine_the_server_listens_where_it_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rehearsal needs no --listen; a flag, a variable or a proxy before us still decides."""
    for name, url, more, listen in (
        ("v4", "https://127.0.0.1:18443", [], "127.0.0.1:18443"),
        ("name", "https://localhost:18443", [], "127.0.0.1:18443"),
        ("v6", "https://[::1]:18443", [], "[::1]:18443"),
        ("flag", "https://127.0.0.1:18443", ["--listen", "127.0.0.1:0"], "127.0.0.1:0"),
        ("proxy", "https://127.0.0.1:18443", ["--no-tls"], "127.0.0.1:8443"),
        ("portless", "https://127.0.0.1", [], "127.0.0.1:8443"),
        ("public", "https://mdm.example.org:18443", [], "127.0.0.1:8443"),
    ):
        assert run(["init", "--data", str(tmp_path / name), "--url", url, *more]) == 0
        assert load_settings(tmp_path / name).listen == listen, name
    monkeypatch.setenv("OSTIARY_LISTEN", "127.0.0.1:1")
    assert run(["init", "--data", str(tmp_path / "env"), "--url", "https://[::1]:18443"]) == 0
    monkeypatch.delenv("OSTIARY_LISTEN")
    assert load_settings(tmp_path / "env").listen == "127.0.0.1:1"


def test_an_installation_is_never_overwritten(data: Path) -> None:
    """Its keys cannot be made again."""
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert run(["init", "--data", str(data), "--url", "https://other.example.org"]) == 73
    assert before == {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    (data / "ostiary.toml").unlink()  # what is left is still an installation
    assert run(["init", "--data", str(data), "--url", URL]) == 73


def test_two_installations_share_no_key(data: Path, tmp_path: Path) -> None:
    """users.md 5.3: static keys in a product; ours are made at first start."""
    assert run(["init", "--data", str(tmp_path / "new"), "--url", URL]) == 0
    for path in (data / "keys").iterdir():
        assert path.read_bytes() != (tmp_path / "new/keys" / path.name).read_bytes()


def test_bare_without_a_terminal_it_says_what_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
    """design.md 3: asks as a wizard when called bare on a terminal, and only there."""
    assert run(["init"]) == 2
    assert "--data and --url must be given" in capfd.readouterr().err


def test_the_wizard_asks_three_questions_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """design.md 3: asks as a wizard when called bare on a terminal; what is wrong is asked again."""
    answers = [str(tmp_path / "new"), "http://mdm.example.org", URL, "here", "127.0.0.1:0"]

    class Terminal(io.StringIO):
        @override
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("\n".join(answers) + "\n"))
    assert run(["init"]) == 0
    assert load_settings(tmp_path / "new").url == URL
    assert load_settings(tmp_path / "new").listen == "127.0.0.1:0"
    said = capfd.readouterr().err
    assert "must be https" in said
    assert "HOST:PORT" in said
