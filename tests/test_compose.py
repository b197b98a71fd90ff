"""The compose file as it stands, on a Docker engine (slow): all healthy, it asks, a killed worker alerts, down and up.

It needs a Docker daemon that answers, its compose, and every image that the file names: they are built and pulled where
that is possible, and taken as they are where they are there already. Images that somebody has made of something else
under the same names are taken for them, and what this test then shows is shown with stand-ins. Grafana is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus_tools import wait_until

DOCKER = Path(__file__).parents[1] / "docker"
SERVICES = ("kafka", "topics", "worker-1", "worker-2", "label", "simulator", "prometheus", "alertmanager")
READ = (
    "import sys, urllib.request as r; "
    "print(r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=9).read().decode())"
)
PATIENCE_S = 300.0
pytestmark = pytest.mark.slow


class Compose:
    """The project of the compose file, under a name of its own."""

    def __init__(self) -> None:
        """Find Docker's compose, or skip."""
        if (
            shutil.which("docker") is None
            or subprocess.run(["docker", "info"], check=False, capture_output=True).returncode
        ):
            pytest.skip("no Docker daemon answers")
        plugin = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
        command = ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]
        if shutil.which(command[0]) is None:
            pytest.skip("Docker has no compose here")
        self._command = [*command, "--project-name", f"streamal-test-{os.getpid()}"]

    def __call__(self, *words: str, check: bool = True) -> str:
        """Run a command of compose, and return what it printed."""
        done = subprocess.run([*self._command, *words], cwd=DOCKER, check=False, capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        """Start all but Grafana, and wait until they are healthy."""
        self("up", "--detach", "--no-build", *SERVICES)
        wait_until(
            lambda: all(self.health(name) == "healthy" for name in ("kafka", "worker-1", "worker-2", "label")),
            PATIENCE_S,
        )

    def health(self, service: str) -> str:
        """Return what the health check of a service says."""
        name = self("ps", "--quiet", service).strip()
        said = subprocess.run(
            ["docker", "inspect", "--format", "{{.State.Health.Status}}", name],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        return said.stdout.strip()

    def read(self, url: str) -> Any:
        """Return the JSON at an address of the containers' network, which need not be this machine's."""
        said = self("exec", "-T", "worker-2", "python", "-c", READ, url, check=False)
        return json.loads(said) if said else {"data": {"result": []}}

    def value(self, expression: str) -> float:
        """Return the value of a query that Prometheus answers with one series; 0 without any."""
        result = self.read(f"http://prometheus:9090/api/v1/query?query={expression}")["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """The project, up; it is taken down with its volumes in the end."""
    made = Compose()
    version = dict(line.split("=", 1) for line in (DOCKER / ".env").read_text().splitlines() if "=" in line)
    image = f"streamal:{version['STREAMAL_VERSION']}"
    if subprocess.run(["docker", "image", "inspect", image], check=False, capture_output=True).returncode:
        made("build", "worker-1")
    try:
        made.up()
        yield made
    finally:
        made("down", "--volumes", check=False)


def test_everything_is_healthy_and_asks(compose: Compose) -> None:
    """Both workers are scraped, with the token; labels are asked for, and no alert is up."""
    wait_until(lambda: compose.value("sum(up)") == 2.0, PATIENCE_S)
    wait_until(lambda: compose.value("sum(streamal_requests_total)") > 0, PATIENCE_S)
    assert compose.read("http://alertmanager:9093/api/v2/alerts") == []


def test_a_killed_worker_alerts(compose: Compose) -> None:
    """Alertmanager has the alert (within three minutes on a machine that is not busy); the other worker goes on."""
    compose("kill", "worker-1")
    alerts: list[Any] = []

    def alerted() -> bool:
        alerts[:] = compose.read("http://alertmanager:9093/api/v2/alerts")
        return bool(alerts)

    wait_until(alerted, PATIENCE_S)
    assert {(alert["labels"]["alertname"], alert["labels"]["instance"]) for alert in alerts} == {
        ("StreamalDown", "worker-1:9464")
    }
    before = compose.value("sum(streamal_requests_total)")
    wait_until(lambda: compose.value("sum(streamal_requests_total)") > before, PATIENCE_S)


def test_after_down_and_up_it_goes_on(compose: Compose) -> None:
    """On the same day: what was spent is still known, and more is asked for."""
    spent = compose.value("sum(streamal_spend)")
    compose("down")
    compose.up()
    wait_until(lambda: compose.value("sum(streamal_spend)") >= spent > 0, PATIENCE_S)
    wait_until(lambda: compose.value("sum(streamal_requests_total)") > 0, PATIENCE_S)
