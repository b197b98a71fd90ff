"""Fixtures: the command line, inside this process (quick) or as a process of its own (real), and one demo for all."""

from __future__ import annotations

import logging
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from typer.testing import CliRunner

from streamal.cli import app
from tests import kafka_broker
from tests.kafka_secured import Secured, secured
from tests.kafka_world import World as KafkaWorld

settings.register_profile("streamal", deadline=None)  # how long an example takes is the machine's load, not a defect
settings.load_profile("streamal")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def line(self) -> str:
        """What it said on standard error, which is one line."""
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.strip()


Cli = Callable[..., Ended]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, the present one; no variable of ours is set."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("STREAMAL_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def cli(directory: Path) -> Iterator[Cli]:
    """Runs a command inside this process, in `directory`, with *more* in its environment."""

    def call(*arguments: str | Path, **more: str) -> Ended:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=more, prog_name="streamal")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield call
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def environment(**more: str) -> Mapping[str, str]:
    """Return ours without any STREAMAL_ variable, and without a hash seed: the command sets one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMAL_", "PYTHONHASHSEED"))}
    return {**kept, **more}


def process(*arguments: str | Path, cwd: Path, **more: str) -> Ended:
    """Run a command as a process of its own."""
    began, worked = time.monotonic(), children_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "streamal", *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    seconds = time.monotonic() - began
    return Ended(done.returncode, done.stdout, done.stderr, seconds, children_seconds() - worked)


def children_seconds() -> float:
    """Return what the processes that have ended here took of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def streamal() -> Cli:
    """Runs a command as a process of its own."""
    return process


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """What one `streamal demo --json` left behind, and how it ended."""
    place = tmp_path_factory.mktemp("demo")
    return place, process("demo", "--json", cwd=place)


@pytest.fixture(scope="session")
def kafka() -> kafka_broker.Cluster:
    """A real one-node Kafka for all tests of this process; see `kafka_broker.shared`."""
    return kafka_broker.shared()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One cluster with TLS, SASL and permissions, for all tests of this process."""
    with secured(tmp_path_factory.mktemp("secured")) as cluster:
        yield cluster


@pytest.fixture
def world(kafka: kafka_broker.Cluster) -> Iterator[KafkaWorld]:
    """Topics of its own on that Kafka, and workers that are closed in the end."""
    made = KafkaWorld(kafka)
    yield made
    made.close()


@pytest.fixture(scope="module")
def fragile() -> Iterator[kafka_broker.Cluster]:
    """A Kafka to torment."""
    with kafka_broker.fragile(apart=True) as cluster:
        yield cluster


KAFKA_GROUPS = {
    "kafka in trouble": re.compile("chaos|kafka_(codecs|defects|security|skip|trouble|weather)"),
    "kafka": re.compile("kafka|confluent|transport_contract|blocks|test_send"),
}


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless ``-m`` speaks of it; with ``-n`` a file goes to one process.

    What several tests share (a broker, a demo, a page) is then made once for each process. The files of Kafka are two
    groups: they wait more than they work, and one process would wait for all of them in turn.
    """
    left_out = [item for item in items if item.get_closest_marker("slow")]
    if left_out and "slow" not in config.getoption("-m"):
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        name = item.path.name
        group = next((group for group, files in KAFKA_GROUPS.items() if files.search(name)), name)
        item.add_marker(pytest.mark.xdist_group(group))
