"""What a chaos test torments: real workers, on topics of their own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from streamal.bootstrap import transports
from streamal.config import load_config
from tests.conftest import environment
from tests.kafka_broker import Cluster

PARTITIONS = 4
SESSION_S = 3.0
TTL_S = 5.0

CONFIG = """
[transport]
kind = "kafka"
bootstrap_servers = "{bootstrap}"
partitions = {partitions}
group = "{name}"
session_timeout_s = {session_s}
[topics]
{topics}
[features]
declared = {{ a = "number", b = "number" }}
[labels]
classes = ["no", "yes"]
ttl_s = {ttl_s}
natural = true
[snapshots]
every_s = 1.0
[server]
enabled = false
"""
ROLES = ("events", "labels", "predictions", "requests", "training", "dead_letters")


def configured(cluster: Cluster, directory: Path, partitions: int = PARTITIONS) -> Path:
    """Return a configuration with topics of its own, which are made; its inputs take records of 16 MB."""
    name = f"chaos.{os.getpid()}.{time.monotonic_ns()}"
    topics = "\n".join(f'{role} = "{name}.{role}"' for role in ROLES)
    path = directory / "config.toml"
    made = {"bootstrap": cluster.bootstrap, "name": name, "topics": topics, "partitions": partitions}
    path.write_text(CONFIG.format(**made, session_s=SESSION_S, ttl_s=TTL_S))
    transports.create_topics(load_config(path))
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    wide = {"max.message.bytes": str(16 * 1024 * 1024)}
    topic = ConfigResourceType.TOPIC
    admin.alter_configs([ConfigResource(topic, f"{name}.{role}", configs=wide) for role in ("events", "labels")])
    admin.close()
    return path


FALSE_TIME = """
import pathlib, time
right, ahead = time.time, pathlib.Path(__file__).with_name("ahead.txt")
time.time = lambda: right() + float(ahead.read_text() or 0)
"""
"""Runs at the start of a worker's interpreter; the monotonic clock stays right."""


class Worker:
    """A `streamal run` with a directory of its own, to be killed, frozen and started again."""

    def __init__(self, config: Path, name: str, *arguments: str) -> None:
        self.name, self.directory = name, config.parent / name
        self.directory.mkdir()
        (self.directory / "sitecustomize.py").write_text(FALSE_TIME)
        self.set_clock(0.0)
        self._command = [sys.executable, "-m", "streamal", "run", "--config", str(config), *arguments]
        self._lives = 0
        self.start()

    def start(self) -> None:
        self._lives += 1
        with self._log.open("wb") as log:
            path = os.pathsep.join([str(self.directory), *filter(None, [os.environ.get("PYTHONPATH")])])
            self.process = subprocess.Popen(
                self._command, cwd=self.directory, env=environment(PYTHONPATH=path), stderr=log
            )

    def set_clock(self, ahead_s: float) -> None:
        """Set its clock ahead, or right again (0)."""
        (self.directory / "ahead.txt").write_text(str(ahead_s))

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL, self.log()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=120)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def works(self) -> bool:
        """Whether it has partitions, since it was started last."""
        assert self.process.poll() is None, f"{self.name} has ended with {self.process.poll()}: {self.log()}"
        return any(self.assignments())

    def assignments(self) -> list[list[str]]:
        """Return what it was given, one after the other, since it was started last."""
        lines = [line for line in self.log().splitlines() if line.startswith("{") and line.endswith("}")]
        said = [json.loads(line) for line in lines]
        return [each["partitions"] for each in said if each["event"] == "assigned"]

    def rebalances(self) -> int:
        """Return how often its partitions have changed while it lived, over all its lives."""
        changes = 0
        for path in self.directory.glob("log-*.txt"):
            lines = [line for line in path.read_text().splitlines() if '"assigned"' in line and line.endswith("}")]
            had = [json.loads(line)["partitions"] for line in lines]
            changes += sum(before != after for before, after in itertools.pairwise(had))
        return changes

    def memory_bytes(self) -> int:
        """Return the most memory that it has ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    def log(self) -> str:
        return self._log.read_text()

    @property
    def _log(self) -> Path:
        return self.directory / f"log-{self._lives:03}.txt"


@contextmanager
def worker(config: Path, name: str, *arguments: str) -> Iterator[Worker]:
    """A worker that does not outlive the test."""
    started = Worker(config, name, *arguments)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.thaw()
            started.kill()
