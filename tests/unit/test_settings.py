"""Settings come from GRIDTIDE_* variables; a wrong one is named in one clear line."""

import re
import ssl
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.bus import client_options, unreachable
from infra.embedded.process import free_port
from infra.settings import DEMO_FLEET_FILE, ConfigurationError, Settings, load_fleet_file, load_settings

WRONG = {
    "PARTITIONS": ("six", "valid integer"),
    "REPLICATION_FACTOR": ("0", "greater than 0"),
    "METRICS_PORT": ("65536", "less than 65536"),
    "WINDOW_SECONDS": ("inf", "finite"),
    "ALLOWED_LATENESS_SECONDS": ("-5", "greater than 0"),
    "RUN_ID": ("My run", "pattern"),
    "LOG_LEVEL": ("loud", "'debug', 'info'"),
    "SECURITY_PROTOCOL": ("TLS", "'SSL'"),
    "SASL_MECHANISM": ("GSSAPI", "'PLAIN'"),
    "SINGLE_RECORD_BATCHES": ("perhaps", "boolean"),
    "RECORDER_PASSWORD": ("", "at least 1"),
    "BOOTSTRAP_SERVERS": ("kafka-1:9092,kafka-2", "must be host:port[,host:port]"),
}


def sasl(**fields: object) -> Settings:
    """Settings of a broker that asks for a name and a password."""
    own = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "gridtide", "sasl_password": SecretStr("s3cret")}
    return Settings.model_validate({**own, **fields})


def test_load_settings_without_variables_takes_the_defaults() -> None:
    settings = load_settings()
    assert (settings.run_id, settings.partitions, settings.fleet_file) == ("live", 6, DEMO_FLEET_FILE)


def test_load_settings_takes_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BOOTSTRAP_SERVERS": "kafka-1:9092, [::1]:9093",
        "RUN_ID": "replay-1",
        "WINDOW_SECONDS": "2.5",
        "SINGLE_RECORD_BATCHES": "true",
        "DATABASE_DSN": "postgresql://u:p@h/d",
    }.items():
        monkeypatch.setenv(f"GRIDTIDE_{name}", value)
    settings = load_settings()
    assert settings.bootstrap_servers == "kafka-1:9092,[::1]:9093"
    assert (settings.run_id, settings.window_seconds, settings.single_record_batches) == ("replay-1", 2.5, True)
    assert "u:p" not in repr(settings)
    assert settings.database_dsn.get_secret_value() == "postgresql://u:p@h/d"


@pytest.mark.parametrize("name", WRONG)
def test_load_settings_names_the_wrong_variable_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, said = WRONG[name]
    monkeypatch.setenv(f"GRIDTIDE_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"GRIDTIDE_{name}: ")
    assert said in message
    assert message.endswith(f"(got {value!r})")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "servers", ["", "kafka", ":9092", "kafka:", "kafka:ninety", "kafka:0", "kafka:65536", "a:1,,b:2"]
)
def test_bootstrap_servers_need_hosts_and_ports(servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDTIDE_BOOTSTRAP_SERVERS", servers)
    with pytest.raises(ConfigurationError, match=r"^GRIDTIDE_BOOTSTRAP_SERVERS: must be host:port"):
        load_settings()


def test_client_options_of_a_plain_broker_are_its_addresses() -> None:
    assert client_options(Settings(bootstrap_servers="a:1,b:2")) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_client_options_carry_sasl(mechanism: str) -> None:
    options = client_options(sasl(sasl_mechanism=mechanism))
    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert options["sasl_mechanism"] == mechanism
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("gridtide", "s3cret")
    assert "ssl_context" not in options


@pytest.mark.parametrize("missing", ["sasl_username", "sasl_password"])
def test_client_options_of_sasl_without_name_or_password_are_refused(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^GRIDTIDE_SASL_USERNAME and GRIDTIDE_SASL_PASSWORD: SASL_PLAINTEXT"):
        client_options(sasl(**{missing: None}))


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_client_options_carry_tls_that_checks_who_answers(protocol: str) -> None:
    context = client_options(sasl(security_protocol=protocol))["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("field", ["ssl_ca_file", "ssl_certificate_file"])
@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_client_options_of_wrong_tls_files_are_refused_in_one_line(
    field: str, content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^TLS files of the broker: .*[^\n]$") as caught:
        client_options(sasl(security_protocol="SSL", **{field: path}))
    assert len(str(caught.value).splitlines()) == 1


def test_unreachable_names_the_brokers() -> None:
    servers = f"127.0.0.1:{free_port()}"
    assert str(unreachable(Settings(bootstrap_servers=servers))) == f"no Kafka broker answers at {servers}"


def test_load_fleet_file_reads_the_demos() -> None:
    assert len(list(load_fleet_file(DEMO_FLEET_FILE).sites())) == 7


def test_load_fleet_file_names_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    missing, latin = tmp_path / "missing.toml", tmp_path / "latin.toml"
    latin.write_bytes("id = 'Zürich'".encode("latin-1"))
    for path, said in ((missing, "No such file"), (tmp_path, "Is a directory"), (latin, "not UTF-8 text")):
        with pytest.raises(ConfigurationError) as caught:
            load_fleet_file(path)
        assert str(caught.value).startswith(f"{path}: {said}")


def test_load_fleet_file_names_the_file_and_the_wrong_key(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(DEMO_FLEET_FILE.read_text().replace("pue = 1.25", "pue = 0.5"))
    with pytest.raises(ConfigurationError, match=r"fleet\.toml: fleets\[0\]\.sites\[0\]\.pue: .*\(got 0\.5\)$"):
        load_fleet_file(path)


def test_every_setting_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/settings.md").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"`GRIDTIDE_{name.upper()}`" in page
    for name in re.findall(r"`GRIDTIDE_(\w+)`", page):
        assert name.lower() in Settings.model_fields


def test_as_environment_gives_another_process_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDTIDE_PARTITIONS", "3")
    settings = Settings(
        bootstrap_servers="a:1,b:2",
        database_dsn=SecretStr("postgresql://u:secret@h/d"),
        single_record_batches=True,
        member_name=None,
    )
    written = settings.as_environment()
    assert "GRIDTIDE_MAX_POLL_RECORDS" not in written
    assert written["GRIDTIDE_PARTITIONS"] == "3"
    monkeypatch.delenv("GRIDTIDE_PARTITIONS")
    for name, value in written.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_as_environment_gives_nobody_the_passwords_of_roles() -> None:
    settings = Settings(recorder_password=SecretStr("adds-rows"), analyst_password=SecretStr("reads-rows"))
    assert settings.as_environment() == {}
    assert "rows" not in repr(settings)
