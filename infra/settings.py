"""Settings, from GRIDTIDE_* environment variables. Built by the command line and the app factory only."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.envelope import LIVE_RUN
from schemas.fleet import FleetFile, FleetFileError, parse_fleet_file
from schemas.units import PositiveSeconds, RunId

DEMO_FLEET_FILE = Path(__file__).parent.parent / "streams" / "simulate" / "demo_fleet.toml"


class ConfigurationError(RuntimeError):
    """Something the operator must mend before a start can succeed; the message is one clear line (exit code 2)."""


class Settings(BaseSettings):
    """Everything that differs between two installations."""

    model_config = SettingsConfigDict(env_prefix="GRIDTIDE_", frozen=True)

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port[,host:port]")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_file: Path | None = Field(None, description="CA bundle; the system's if unset")
    ssl_certificate_file: Path | None = None
    ssl_key_file: Path | None = None

    database_dsn: SecretStr = Field(
        SecretStr("postgresql://gridtide@127.0.0.1:5432/gridtide"), description="PostgreSQL or TimescaleDB"
    )
    # Excluded: a stage has the one that is in its address, and needs no other.
    recorder_password: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, exclude=True, description="`gridtide migrate` gives the role gridtide_recorder a login with it"
    )
    analyst_password: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, exclude=True, description="`gridtide migrate` gives the role gridtide_analyst a login with it"
    )
    record_telemetry: bool = Field(default=True, description="whether raw GPU telemetry goes into the history")
    fleet_file: Path = Field(DEMO_FLEET_FILE, description="fleets, sites, pools, service classes, limits (TOML)")
    run_id: RunId = Field(LIVE_RUN, description="`live`, or the name of a replay whose topics are prefixed with it")

    partitions: Annotated[int, Field(gt=0, le=1024)] = 6
    replication_factor: Annotated[int, Field(gt=0, le=9)] = 1
    session_timeout_seconds: PositiveSeconds = 10.0
    member_name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,200}$")] | None = Field(
        None,
        description="this worker's name in its consumer group, its alone: started again under it within the session "
        "time-out, it gets its partitions back at once and nobody else's are moved",
    )
    stall_seconds: PositiveSeconds = Field(
        60.0, description="how long a stage may read nothing while records wait, before its worker ends"
    )
    commit_interval_seconds: PositiveSeconds = 1.0
    max_poll_records: Annotated[int, Field(gt=0)] = 500
    linger_ms: Annotated[int, Field(ge=0)] = 5
    single_record_batches: bool = Field(
        default=False, description="for the embedded broker, whose end offsets are wrong for larger batches"
    )

    window_seconds: Annotated[PositiveSeconds, Field(ge=0.001, le=300)] = 10.0
    allowed_lateness_seconds: PositiveSeconds = 5.0
    future_tolerance_seconds: PositiveSeconds = 30.0
    forecast_step_seconds: PositiveSeconds = 300.0
    model_dir: Path = Field(
        Path(".gridtide/models"), description="where `gridtide train` keeps models, a folder a run, and forecast reads"
    )
    keys_dir: Path = Field(
        Path(".gridtide/keys"), description="private keys and whose signatures count, a folder a run"
    )
    signing_keys: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, description="private keys besides those in the folder: PEM, one after the other"
    )

    policy: Literal["planner", "rules"] = Field(
        "planner", description="`planner`: the optimiser improves on the rules; `rules`: they stand alone"
    )

    metrics_port: Annotated[int, Field(ge=0, lt=65536)] = Field(0, description="serve /metrics there; 0 is off")
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_hosts_with_ports(cls, servers: str) -> str:
        hosts = [server.strip() for server in servers.split(",")]
        for host in hosts:
            name, colon, port = host.rpartition(":")
            if not (name and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError("must be host:port[,host:port]")
        return ",".join(hosts)

    @property
    def run_model_dir(self) -> Path:
        """Where this run's models lie: what was learnt from a replay's load never serves the live run."""
        return self.model_dir / self.run_id

    @property
    def run_keys_dir(self) -> Path:
        """Where this run's keys lie: what signs a replay's commands moves nothing that is real."""
        return self.keys_dir / self.run_id

    def as_environment(self) -> dict[str, str]:
        """The variables, secrets included, that give another process what is set here; defaults are left out.

        So are the roles' passwords, which only `gridtide migrate` needs.
        """
        written = {}
        for name in sorted(self.model_fields_set):
            if type(self).model_fields[name].exclude:
                continue
            value = getattr(self, name)
            if value is not None:
                shown = value.get_secret_value() if isinstance(value, SecretStr) else value
                written[f"GRIDTIDE_{name.upper()}"] = str(shown)
        return written


def load_settings() -> Settings:
    """Settings from the environment.

    Raises:
        ConfigurationError: a variable is wrong; one line that names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "GRIDTIDE_" + "_".join(str(part) for part in first["loc"]).upper()
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{name}: {said} (got {first['input']!r})") from error


def load_fleet_file(path: Path) -> FleetFile:
    """The fleet file at `path`.

    Raises:
        ConfigurationError: it is missing, unreadable or wrong; one line that names the file and the key.
    """
    try:
        return parse_fleet_file(path.read_text(encoding="utf-8"), name=str(path))
    except FleetFileError as error:
        raise ConfigurationError(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{path}: {reason}") from error
