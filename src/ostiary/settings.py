"""Settings: flag over environment over file over default, into one frozen value that is checked at the start."""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from typing_extensions import override

from ostiary.errors import Malformed, Missing
from ostiary.protocol.mdm.enrollment_profile import UnusableUrl, decode_url

FILE_NAME: Final = "ostiary.toml"
ENV_PREFIX: Final = "OSTIARY_"
PRODUCTION_APNS: Final = "api.push.apple.com"
_USUAL_PORT: Final[Mapping[str, int]] = MappingProxyType({"https": 443, "http": 80})


class SettingsFaulty(Malformed):
    """The settings do not hold."""

    hint = "Settings come from flags, OSTIARY_… variables and ostiary.toml, in this order; see `ostiary init --help`."


class NoInstallation(Missing):
    """There is no ostiary.toml in this directory."""

    hint = (
        "Make an installation with `ostiary init --data DIR --url URL`,"
        " or name the right one with --data or in OSTIARY_DATA."
    )


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie in a data directory."""

    data: Path

    @property
    def settings_file(self) -> Path:
        return self.data / FILE_NAME

    @property
    def database(self) -> Path:
        return self.data / "ostiary.sqlite"

    @property
    def control_socket(self) -> Path:
        return self.data / "control.sock"

    @property
    def api_token(self) -> Path:
        return self.data / "api-token"

    @property
    def ca_bundle(self) -> Path:
        """What a person or an HTTP client may need: the device CA, then the TLS CA if TLS is built in."""
        return self.data / "ca.pem"

    @property
    def keys(self) -> Path:
        return self.data / "keys"

    @property
    def root_key(self) -> Path:
        return self.keys / "root.key"

    @property
    def device_ca(self) -> tuple[Path, Path]:
        """Certificate and key."""
        return self.keys / "device-ca.pem", self.keys / "device-ca.key"

    @property
    def tls_ca(self) -> tuple[Path, Path]:
        """Certificate and key."""
        return self.keys / "tls-ca.pem", self.keys / "tls-ca.key"

    @property
    def tls(self) -> tuple[Path, Path]:
        """Certificate chain and key of the server."""
        return self.keys / "tls.pem", self.keys / "tls.key"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TlsSettings(_Part):
    """How the server speaks TLS: with its own small CA, with files of yours, or not at all behind a proxy."""

    enabled: bool = True
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _come_together(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key are given together or not at all")
        return self


class ApnsSettings(_Part):
    """Where pushes go. Another host than Apple's is for a simulated Apple."""

    host: str = PRODUCTION_APNS
    port: int = Field(default=443, ge=1, le=65535)
    ca: Path | None = None
    repeats_per_second: int = Field(default=100, ge=1, le=100_000)
    """Of each node: repeated pushes, so that the end of an outage makes no storm. First pushes for new commands are
    not counted, and do not wait. (docs/decisions/0015)"""


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value))


class ProxySettings(_Part):
    """Proxies that end TLS before us, and the header in which they hand over a device's certificate.

    The value may be in either form that proxies write: RFC 9440, or URL-escaped PEM.
    """

    trusted: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    certificate_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+$")

    @model_validator(mode="after")
    def _need_each_other(self) -> Self:
        if self.certificate_header is not None and not self.trusted:
            raise ValueError(
                "a certificate header is believed only from proxies listed in `trusted`"
            )
        return self


class LogSettings(_Part):
    """How the log is written."""

    format: Literal["auto", "json", "console"] = "auto"
    """auto: for people on a terminal, JSON everywhere else."""
    level: Literal["debug", "info", "warning", "error"] = "info"


class BoundSettings(_Part):
    """What senders may cost. The defaults fit a fleet of 100,000 devices on one machine."""

    connections: int = Field(default=4096, ge=1)
    header_timeout_seconds: float = Field(default=15, gt=0)
    body_idle_seconds: float = Field(default=15, gt=0)
    body_budget_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    keep_alive_seconds: int = Field(default=75, ge=1)
    drain_seconds: float = Field(default=20, ge=0)


class Settings(BaseSettings):
    """Everything that is the same for the life of one server; policies live in the database instead."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    data: Path
    url: str
    listen: str = "127.0.0.1:8443"
    database: SecretStr | None = None
    """A URL that may hold a password; None means SQLite in the data directory."""
    trust_ca: tuple[Path, ...] = ()
    network_users: Path | None = None
    """Network users of Macs, in a file that Apache's htdigest made."""
    tls: TlsSettings = TlsSettings()
    apns: ApnsSettings = ApnsSettings()
    proxy: ProxySettings = ProxySettings()
    log: LogSettings = LogSettings()
    bounds: BoundSettings = BoundSettings()

    @field_validator("url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        try:
            return decode_url(value).base
        except UnusableUrl as error:
            raise ValueError(error.title) from None

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the last port there is
            raise ValueError("it is HOST:PORT, as 0.0.0.0:8443 or [::]:8443")
        return value

    @property
    def places(self) -> Places:
        return Places(self.data)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host that devices know this server by."""
        return (urlsplit(self.url).hostname or "",)

    @property
    def listen_address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def loopback_address(self) -> tuple[str, int] | None:
        """Host and port that the URL leads to without a proxy; None where it is not on this machine."""
        parts = urlsplit(self.url)
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            return None
        behind_proxy = self.proxy.trusted or (parts.scheme == "https" and not self.tls.enabled)
        if behind_proxy or not loopback:
            return None
        return host, parts.port or _USUAL_PORT[parts.scheme]

    @property
    def database_url(self) -> str:
        if self.database is None:
            return f"sqlite:///{self.places.database}"
        url = self.database.get_secret_value()
        path = url.removeprefix("sqlite:///")
        if path in {url, ""} or Path(path).is_absolute():
            return url
        return f"sqlite:///{self.data / path}"

    def path(self, given: Path) -> Path:
        """A path from the settings, seen from the data directory where it is relative."""
        return given if given.is_absolute() else self.data / given

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _SecretFiles(settings_cls), _TomlFile(settings_cls)


class _TomlFile(PydanticBaseSettingsSource):
    """What `ostiary.toml` says; set for the duration of one load."""

    contents: ClassVar[dict[str, Any]] = {}

    @override
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self.contents.get(field_name), field_name, False

    @override
    def __call__(self) -> dict[str, Any]:
        return self.contents


class _SecretFiles(EnvSettingsSource):
    """`OSTIARY_DATABASE_FILE=/run/secrets/db` for every secret, so that none needs to be in the environment."""

    secrets: ClassVar[tuple[str, ...]] = ("database",)

    @override
    def __call__(self) -> dict[str, Any]:
        found = {}
        for name in self.secrets:
            if path := os.environ.get(f"{ENV_PREFIX}{name.upper()}_FILE"):
                try:
                    found[name] = Path(path).read_text().strip()
                except OSError:
                    raise SettingsFaulty(
                        f"{ENV_PREFIX}{name.upper()}_FILE names a file that cannot be read",
                        path=path,
                    ) from None
        return found


def load_settings(data: Path, **flags: Any) -> Settings:
    """The settings of the installation in `data`; `flags` that are None were not given.

    Raises:
        NoInstallation: there is no ostiary.toml.
        SettingsFaulty: one sentence for each fault, none of which quotes a value.
    """
    file = Places(data).settings_file
    try:
        contents = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise NoInstallation(path=file) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsFaulty(f"{file} cannot be read: {error}") from None
    return check_settings(data, contents, flags)


def check_settings(data: Path, contents: dict[str, Any], flags: dict[str, Any]) -> Settings:
    """The settings that a file's contents and flags make. Raises SettingsFaulty."""
    _TomlFile.contents = contents
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(data=data.absolute(), **given)
    except ValidationError as error:
        raise SettingsFaulty("; ".join(_sentences(error))) from None
    finally:
        _TomlFile.contents = {}


def host_and_port(host: str, port: int) -> str:
    """An address as `listen` is written."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _sentences(error: ValidationError) -> list[str]:
    sentences = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in fault["loc"])
        match fault["type"]:
            case "extra_forbidden":
                sentences.append(f"there is no setting `{name}`")
            case "missing":
                sentences.append(f"the setting `{name}` is missing")
            case _:
                said = fault["msg"].removeprefix("Value error, ")
                sentences.append(f"the setting `{name}` is wrong: {said[:1].lower()}{said[1:]}")
    return sentences
