"""docker-compose.yml: valid, every image pinned, every long-running service watched."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONE_SHOT = {"setup", "keys", "replay"}
# The image that we build has its check in the Dockerfile.
OURS = "gridtide:local"


@cache
def resolved_services() -> dict[str, str]:
    """The services by name, each as the text that Compose makes of it: anchors and variables resolved."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        probe = subprocess.run([*command, "version"], capture_output=True, check=False)
        if probe.returncode == 0:
            break
    else:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    settings = {"GRIDTIDE_DB_PASSWORD": "p w/#@", "GRIDTIDE_GRAFANA_PASSWORD": "x"}
    settings |= {"GRIDTIDE_RECORDER_PASSWORD": "adds-rows", "GRIDTIDE_ANALYST_PASSWORD": "reads-rows"}
    settings["COMPOSE_PROFILES"] = "controller,replay"
    shown = subprocess.run(
        [*command, "-f", str(ROOT / "docker-compose.yml"), "config"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    # What it prints is regular: a service's name stands two in, what belongs to it further in.
    section = re.search(r"^services:\n((?:[ \t].*\n|\n)+)", shown.stdout, re.MULTILINE)
    assert section
    parts = re.split(r"^  (\S+):\n", section[1], flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_image_is_pinned() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    images = re.findall(r"^\s+image: (\S+)$", text, re.MULTILINE)
    assert OURS in images
    assert {"apache/kafka", "timescale/timescaledb"} <= {image.split(":")[0] for image in images}
    for image in set(images) - {OURS}:
        assert re.search(r":v?\d+\.\d+\.\d+(-pg\d+)?$", image), f"{image} is not pinned to a version"


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    passwords = re.findall(r"^\s+\w*PASSWORD: (.*)$", text, re.MULTILINE)
    assert passwords
    assert all(re.fullmatch(r"\$\{GRIDTIDE_\w+_PASSWORD:\?.+\}", value) for value in passwords)


def test_every_long_running_service_is_watched_and_restarted() -> None:
    services = resolved_services()
    assert {"aggregate", "forecast", "policy", "record", "kafka", "timescaledb"} <= set(services)
    for name, text in services.items():
        if name in ONE_SHOT:
            continue
        assert "restart: unless-stopped" in text, name
        watched = "healthcheck:" in text or f"image: {OURS}" in text
        assert watched, f"{name} has no health check"
    assert "HEALTHCHECK" in (ROOT / "infra/docker/Dockerfile").read_text(encoding="utf-8")


def test_workers_wait_for_setup() -> None:
    services = resolved_services()
    for stage in ("aggregate", "forecast", "policy", "record"):
        assert "condition: service_completed_successfully" in services[stage], stage


def test_trainer_and_forecast_share_the_models_and_forecast_only_reads_them() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    place = "models:/var/lib/gridtide/.gridtide/models"
    assert f'"{place}:ro"' in text.split("\n  forecast:\n")[1].split("\n  trainer:\n")[0]
    assert f'"{place}"' in text.split("\n  trainer:\n")[1].split("\n  policy:\n")[0]
    assert place.split(":")[1] in (ROOT / "infra/docker/Dockerfile").read_text(encoding="utf-8")


def test_each_service_has_the_password_of_its_role_alone() -> None:
    services = resolved_services()
    having = {
        password: {name for name, text in services.items() if password in text}
        for password in ("p w/#@", "adds-rows", "reads-rows")
    }
    assert having == {
        "p w/#@": {"timescaledb", "setup"},
        "adds-rows": {"setup", "record"},
        "reads-rows": {"setup", "grafana", "trainer"},
    }
    assert "postgresql://gridtide_recorder@" in services["record"]
