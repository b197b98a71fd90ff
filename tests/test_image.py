"""The image, built and run for real: locked down, as a demo and as a daemon, its health, its end (slow).

An engine builds and runs it: Docker where its daemon answers, else buildah and podman. The base image must be there or
be reachable; a base image that somebody has made of something else under the same name is taken for it, and what this
test then shows is shown with a stand-in. Whatever is missing is the reason of the skip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prometheus_tools import free_port, wait_until

ROOT = Path(__file__).parents[1]
TAG = "localhost/streamal:test"
LOCKED = [
    *("--user", "10001:10001", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp", "--network", "host"),
    "--no-healthcheck",  # it is run by hand: podman's needs systemd
]
PROXIES = ["--env=http_proxy=http://127.0.0.1:9", "--env=HTTP_PROXY=http://127.0.0.1:9"]
UPGRADE_MEGABYTES_MAX = 10
pytestmark = pytest.mark.slow


class Engine:
    """A container engine, by its command line."""

    def __init__(self) -> None:
        """Choose an engine, or skip."""
        answers = (
            subprocess.run(["docker", "info"], check=False, capture_output=True) if shutil.which("docker") else None
        )
        if answers is not None and answers.returncode == 0:
            self.program, self.build = "docker", ["docker", "build"]
        elif shutil.which("buildah") and shutil.which("podman"):
            self.program, self.build = "podman", ["buildah", "bud", "--isolation=chroot", "--pull=missing", "--layers"]
            self.build.append("--format=docker")  # the other one has no health check
        else:
            pytest.skip("no Docker daemon answers, and buildah and podman are not both installed")

    def make(self) -> None:
        """Build the image, or skip where its base cannot be had."""
        ignore = [] if self.program == "docker" else ["--ignorefile=docker/Dockerfile.dockerignore"]
        certificates = os.environ.get("STREAMAL_TEST_BUILD_OPTIONS", "").split()
        command = [*self.build, "--network=host", *certificates, *ignore, "-f", "docker/Dockerfile", "-t", TAG, "."]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode and re.search(r"FROM|pull|manifest|registry", done.stderr.splitlines()[-1]):
            pytest.skip(f"the base image cannot be had: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr[-3_000:]

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run a command of the engine; return what it printed, on both streams."""
        done = subprocess.run([self.program, *words], check=False, capture_output=True, text=True)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine that has the image."""
    made = Engine()
    made.make()
    return made


@pytest.fixture
def daemon(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """The name of a container in which a daemon works, on an address and port of its own, with a proxy that is none."""
    tmp_path.chmod(0o755)
    (tmp_path / "config.toml").write_text(f'[server]\nhost = "127.0.0.7"\nport = {free_port()}\n')
    name = f"streamal-test-{os.getpid()}"
    run = ["run", "--detach", "--name", name, *LOCKED, *PROXIES, "-v", f"{tmp_path}:/etc/streamal:ro"]
    engine(*run, TAG)
    try:
        wait_until(lambda: '"assigned"' in engine("logs", name), 120)
        yield name
    finally:
        engine("rm", "--force", "--volumes", name)


def test_the_demo_runs_locked_down(engine: Engine) -> None:
    """Without root, capabilities or a root file system to write to."""
    assert '"events"' in engine("run", "--rm", *LOCKED, TAG, "demo", "--json")


def test_there_is_nothing_to_break_in_with(engine: Engine) -> None:
    """No pip, nothing to make one from, no setuid program; HOME can be written to."""
    script = (
        "set -e; touch $HOME/x; ! command -v pip; ! python -m pip --version; ! python -m ensurepip --version; "
        "find / -xdev -perm /6000 -type f 2>/dev/null || true"
    )
    said = engine("run", "--rm", *LOCKED, "--entrypoint", "sh", TAG, "-c", script)
    assert re.sub(r".*: No module named .*\n", "", said) == ""


def test_an_upgrade_of_streamal_alone_is_small(engine: Engine) -> None:
    """The last layer, which has streamal and nothing else, is at most 10 MB."""
    history = engine("history", "--no-trunc", "--format", "{{.Size}}|{{.CreatedBy}}", TAG)
    copied = [line.partition("|")[0] for line in history.splitlines() if "COPY" in line]
    number, unit = re.fullmatch(r"([\d.]+)\s*([kM]?B)", copied[0]).groups()  # type: ignore[union-attr]
    assert float(number) * {"B": 1e-6, "kB": 1e-3, "MB": 1.0}[unit] <= UPGRADE_MEGABYTES_MAX


def test_the_health_check_follows_the_configuration(engine: Engine, daemon: str) -> None:
    """The image's own command, with `http_proxy` set, on another host and another port: 0; on a wrong port 1."""
    [image] = json.loads(engine("inspect", TAG))
    health = image.get("Healthcheck") or image["Config"]["Healthcheck"]  # podman's place, Docker's
    assert health["Test"][0] == "CMD"
    engine("exec", daemon, *health["Test"][1:])
    engine("exec", daemon, *health["Test"][1:], "--set", "server.port=1", code=1)


def test_sigterm_ends_it_in_good_order(engine: Engine, daemon: str) -> None:
    """Exit code 0 within five seconds; SIGKILL would give 137."""
    engine("stop", "--time", "5", daemon)
    assert engine("inspect", "--format", "{{.State.ExitCode}}", daemon).strip() == "0"
