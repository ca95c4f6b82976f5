"""Where settings come from, and what is said when they do not hold."""

from pathlib import Path

import pytest

from ostiary.settings import NoInstallation, Settings, SettingsFaulty, load_settings

URL = 'url = "https://mdm.example.org"\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path, "")
    return tmp_path


def write(data: Path, text: str) -> None:
    (data / "ostiary.toml").write_text(URL + text)


def test_the_file_needs_no_more_than_the_address(data: Path) -> None:
    """design.md 3: flag, environment, file, default."""
    settings = load_settings(data)
    assert settings.url == "https://mdm.example.org"
    assert settings.hosts == ("mdm.example.org",)
    assert settings.database_url == f"sqlite:///{data}/ostiary.sqlite"
    assert settings.apns.host == "api.push.apple.com"


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """design.md 3."""
    write(data, 'listen = "127.0.0.1:1"\n')
    assert load_settings(data).listen_address == ("127.0.0.1", 1)
    monkeypatch.setenv("OSTIARY_LISTEN", "127.0.0.1:2")
    assert load_settings(data).listen_address == ("127.0.0.1", 2)
    assert load_settings(data, listen="127.0.0.1:3").listen_address == ("127.0.0.1", 3)
    assert load_settings(data, listen=None).listen_address == ("127.0.0.1", 2)


def test_a_nested_setting_has_a_variable_with_two_underscores(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """design.md 3: `__` nests; the rest of the table in the file still counts."""
    write(data, '[apns]\nhost = "localhost"\n')
    monkeypatch.setenv("OSTIARY_APNS__PORT", "2197")
    settings = load_settings(data)
    assert (settings.apns.host, settings.apns.port) == ("localhost", 2197)


def test_a_secret_may_lie_in_a_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """design.md 3: `_FILE` for secrets."""
    secret = tmp_path / "db"
    secret.write_text("sqlite:////elsewhere.sqlite\n")
    monkeypatch.setenv("OSTIARY_DATABASE_FILE", str(secret))
    settings = load_settings(data)
    assert settings.database_url == "sqlite:////elsewhere.sqlite"
    assert "elsewhere" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('listn = "a:1"\n', "there is no setting `listn`"),
        ('listen = "8443"\n', "the setting `listen` is wrong: it is HOST:PORT"),
        ("[tls]\nenabled = 7\n", "the setting `tls.enabled` is wrong"),
        ('[tls]\nkey = "k.pem"\n', "a certificate and its key are given together"),
        ('[proxy]\ncertificate_header = "Client-Cert"\n', "only from proxies listed in `trusted`"),
        ('[proxy]\ntrusted = ["here"]\n', "the setting `proxy.trusted.0` is wrong"),
        ("[apns]\nport = 0\n", "the setting `apns.port` is wrong"),
        ("]", "cannot be read"),
    ],
)
def test_a_fault_is_one_plain_sentence(data: Path, text: str, said: str) -> None:
    """users.md 3.1: fail at start with one plain sentence."""
    write(data, text)
    with pytest.raises(SettingsFaulty) as fault:
        load_settings(data)
    assert said in str(fault.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://mdm.example.org",
        "https://",
        "https://mdm.example.org/tenant",
        "https://u@mdm.example",
    ],
)
def test_an_address_that_devices_would_not_keep_is_refused(data: Path, url: str) -> None:
    """design.md 3: device addresses are built from `--url` alone, without tenant, version or secret."""
    with pytest.raises(SettingsFaulty):
        load_settings(data, url=url)


def test_a_directory_without_settings_is_named(tmp_path: Path) -> None:
    """style.md 7: the fact, and what helps."""
    with pytest.raises(NoInstallation) as fault:
        load_settings(tmp_path / "none")
    assert "none/ostiary.toml" in str(fault.value)
    assert "ostiary init" in fault.value.hint


def test_settings_do_not_change(data: Path) -> None:
    """style.md 3: one frozen Settings."""
    settings: Settings = load_settings(data)
    with pytest.raises(ValueError, match="frozen"):
        settings.listen = "127.0.0.1:9"  # type: ignore[misc]  # that it is refused is the point
