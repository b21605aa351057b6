"""Configuration: everything that an operator may turn, read once from YIKA_… variables.

True here: a value that is wrong or unsafe stops the start and says which variable and why. Never here: a secret in a
message, a repr or a log. Keys are not configuration; they live in the keyring.
"""

from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from service.gateways.settings import GatewaySettings


class ConfigError(Exception):
    """The configuration cannot be used. The text names variables and reasons, never values."""


class Config(GatewaySettings):
    """All settings, those of gateways among them. Durations are in seconds, sizes in bytes.

    `docs/configuration.md` is the table for operators.
    """

    model_config = SettingsConfigDict(
        env_prefix="YIKA_", frozen=True, hide_input_in_errors=True, extra="ignore", validate_default=True
    )

    environment: Literal["sandbox", "production"] = Field(
        "production", description="`sandbox` opens /sandbox/… and the personas; anything else is real."
    )
    host: str = Field("127.0.0.1", description="Address that the public API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the public API.")
    workers: int = Field(1, ge=1, le=256, description="Processes that `serve` puts on the public port; more than 1: Linux.")
    admin_host: str = Field("127.0.0.1", description="Address of the admin port: metrics, documents, health.")
    admin_port: int | None = Field(None, ge=0, le=65535, description="Admin port; by default the public port + 1.")
    mongodb_uri: SecretStr = Field(SecretStr(""), description="Replica set or cluster; required in production.")
    mongodb_database: str = Field("yika", min_length=1, max_length=38, description="Database name.")
    mongodb_pool: int = Field(64, ge=1, le=1000, description="Most connections a process keeps to each member.")
    data_dir: Path = Field(Path(".yika"), description="Where the keyring and an embedded database live.")
    keyring: Path | None = Field(None, description="Keyring file; by default keyring.json in the data directory.")
    issuer: str = Field("https://yika.example", min_length=1, description="`iss` of tokens and receipts.")
    audience: str = Field("yika", min_length=1, description="`aud` of access tokens.")
    public_url: str = Field("", description="Where clients reach this API, for links in answers; empty: relative.")
    regions_dir: Path | None = Field(None, description="Region policy packs; by default the ones of the sandbox.")
    default_region: str = Field("990100", pattern=r"^\d{6}$", description="Region of pages when none is named.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that browsers may call from, comma-separated, no wildcard."
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="Networks whose X-Forwarded-For is believed, comma-separated."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line logged.")
    request_seconds: float = Field(10, gt=0, le=60, description="Deadline of one request, carried to the driver.")
    header_seconds: float = Field(10, gt=0, le=60, description="Deadline for a connection's request headers.")
    body_seconds: float = Field(15, gt=0, le=60, description="Deadline for a request's body.")
    notice_seconds: float = Field(
        0.5, ge=0, le=60, description="How long a stop still serves, unready, so that balancers look away."
    )
    drain_seconds: float = Field(20, gt=0, le=60, description="How long a stop waits for requests under way.")
    relay: Literal["inside", "outside"] = Field(
        "inside", description="Who carries happenings and sends messages: `serve` itself, or `worker` processes beside it."
    )
    traces_endpoint: str = Field("", pattern=r"^(https?://.+)?$", description="Where traces go by OTLP/HTTP; empty: nowhere.")
    traces_share: float = Field(1, ge=0, le=1, description="Share of requests that are traced, 0 to 1.")
    queries_per_minute: int = Field(60, ge=1, description="Look-ups a holder may make in a minute.")

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _no_wildcard(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("*" in origin or not origin.startswith(("https://", "http://")) for origin in value):
            raise ValueError("each origin is a scheme and a host; a wildcard is not accepted")
        return value

    @field_validator("traces_endpoint")
    @classmethod
    def _tracing_is_installed(cls, value: str) -> str:
        if value and find_spec("opentelemetry") is None:
            raise ValueError("install the packages of deploy/lock/tracing.txt first")
        return value

    @model_validator(mode="after")
    def _ports_enough(self) -> Self:
        if self.admin_port_or_next + self.workers - 1 > 65535:  # noqa: PLR2004  the last port there is
            raise ValueError("YIKA_ADMIN_PORT: there are too few ports after it for YIKA_WORKERS")
        return self

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.environment == "production":
            if not self.mongodb_uri.get_secret_value():
                raise ValueError("production needs YIKA_MONGODB_URI")
            if self.issuer == "https://yika.example":
                raise ValueError("production needs its own YIKA_ISSUER")
            if self.regions_dir is None:
                raise ValueError("production needs YIKA_REGIONS_DIR: the regions that ship here are invented")
        return self

    @property
    def sandbox(self) -> bool:
        return self.environment == "sandbox"

    @property
    def keyring_path(self) -> Path:
        return self.keyring or self.data_dir / "keys" / "keyring.json"

    @property
    def admin_port_or_next(self) -> int:
        """The admin port: as set, else the one after the public port, else any free one."""
        if self.admin_port is not None:
            return self.admin_port
        return self.port + 1 if 0 < self.port < 65535 else 0  # noqa: PLR2004  the last port there is


def read_config(**overrides: object) -> Config:
    """Read the environment. Raises ConfigError with one line per wrong variable."""
    try:
        return Config(**overrides)  # type: ignore[arg-type]  # pydantic checks what mypy cannot see through
    except ValidationError as error:
        lines = [
            f"YIKA_{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            if item["loc"]
            else item["msg"].removeprefix("Value error, ")
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise ConfigError("\n".join(lines)) from None
