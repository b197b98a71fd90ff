"""Real processes on a real broker, killed in rotation; then the verifier, which knows only the topics, has its say."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kafka_broker import Cluster

from streamal.assembly import budget_rules, new_fold, rules
from streamal.cli import parts
from streamal.config import Config, load_config
from streamal.ports import Log, scan
from streamal.verification import verify

pytestmark = pytest.mark.kafka

CONFIG = """
[transport]
kind = "kafka"
bootstrap_servers = "{bootstrap}"
partitions = 2
group = "{name}"
session_timeout_s = 6.0
[topics]
{topics}
[features]
declared = {{ a = "number", b = "number" }}
[labels]
classes = ["no", "yes"]
[server]
enabled = false
"""
ROLES = ("events", "labels", "predictions", "requests", "training", "dead_letters")


@pytest.fixture
def config(kafka: Cluster, tmp_path: Path) -> Path:
    """A configuration with topics of its own, which are made."""
    name = f"e2e.{os.getpid()}.{time.monotonic_ns()}"
    topics = "\n".join(f'{role} = "{name}.{role}"' for role in ROLES)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(bootstrap=kafka.bootstrap, name=name, topics=topics))
    parts.make_topics(load_config(path))
    return path


class Worker:
    """A `streamal run`, with its own directory, that can be killed and started again."""

    def __init__(self, config: Path, name: str, *settings: str) -> None:
        self.directory = config.parent / name
        self.directory.mkdir()
        self._command = [sys.executable, "-m", "streamal", "run", "--config", str(config)]
        self._command += [part for setting in settings for part in ("--set", setting)]
        self.start()

    def start(self) -> None:
        with (self.directory / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(self._command, cwd=self.directory, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)

    def works(self) -> bool:
        """Whether it has partitions, since it was started last."""
        assert self.process.poll() is None, self.log()
        return '"assigned"' in self.log()

    def log(self) -> str:
        return (self.directory / "log.txt").read_text()


class World:
    """Whoever is outside: a producer, and annotators who also contradict themselves and make things up."""

    def __init__(self, config: Config) -> None:
        self.config, self.log = config, parts.open_log(config)
        self.sent = self.answered = 0
        self._random, self._positions = random.Random(1), {0: 0, 1: 0}

    def play(self, seconds: float, per_second: float = 150.0) -> None:
        """Send events, and answer what is asked."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            a, b = self._random.gauss(0, 1), self._random.gauss(0, 1)
            value = b"this is no JSON" if self.sent % 100 == 99 else json.dumps({"features": {"a": a, "b": b}}).encode()
            self.log.append(self.config.topics.events, self._random.randrange(2), None, value)
            self.sent += 1
            if self.sent % 10 == 0:
                self.answer()
            time.sleep(1 / per_second)

    def play_until(self, holds: Callable[[], bool], patience_s: float = 40.0) -> None:
        """Play on until something has come true."""
        deadline = time.monotonic() + patience_s
        while not holds():
            assert time.monotonic() < deadline
            self.play(0.2)

    def answer(self) -> None:
        for partition, position in self._positions.items():
            for record in scan(self.log, self.config.topics.requests, partition, position):
                self._positions[partition] = record.offset + 1
                if record.value is not None:
                    features = json.loads(record.value)["features"]
                    self._reply((record.key or b"").decode(), "yes" if features["a"] + features["b"] > 0 else "no")

    def until_done(self, patience_s: float) -> None:
        """Answer until everything is consumed and answered."""
        topics, deadline = self.config.topics, time.monotonic() + patience_s
        while True:
            self.answer()
            done = self.log.committed(self.config.transport.group)
            consumed = sum(state.offset for state in done.values())
            places = [(topics.events, 0), (topics.events, 1), (topics.labels, 0)]
            if consumed == sum(self.log.end(*place) for place in places):
                return
            assert time.monotonic() < deadline, f"consumed {consumed}: {done}"
            time.sleep(0.2)

    def _reply(self, request: str, label: str) -> None:
        replies = [{"request": request, "label": label}]
        if self.answered % 5 == 0:
            replies.append({"request": request, "label": "no" if label == "yes" else "yes"})
        if self.answered % 7 == 0:
            replies.append({"request": f"0-{10**9 + self.answered}", "label": "yes"})
        for reply in replies:
            self.log.append(self.config.topics.labels, 0, None, json.dumps(reply).encode())
        self.answered += 1


@contextmanager
def worker(config: Path, name: str, *settings: str) -> Iterator[Worker]:
    """A worker that does not outlive the test."""
    started = Worker(config, name, *settings)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.kill()


def require_promises(config: Config, log: Log, consumed: int) -> None:
    """Fail with what the verifier has found, or if it has looked at less than what was consumed."""
    checks = verify(
        log, rules(config, 2), budget_rules(config), config.transport.group, lambda: new_fold(config), rederive=True
    )
    assert [(check.promise, check.where) for check in checks if check.broken] == []
    assert checks[0].looked_at == consumed
    assert all(check.looked_at for check in checks)


def test_two_workers_survive_kill_9_in_rotation(config: Path) -> None:
    """Whichever worker is killed, with a name of its own or without, at any moment: all promises hold (F2, F3, F13)."""
    loaded = load_config(config)
    outside = World(loaded)
    with ExitStack() as stack:
        stack.callback(outside.log.close)
        named = stack.enter_context(worker(config, "named", "transport.instance=named"))
        nameless = stack.enter_context(worker(config, "nameless"))
        outside.play_until(lambda: named.works() and nameless.works())
        for victim in (named, nameless, named, named):
            outside.play(random.Random(victim.process.pid).uniform(0.5, 1.5))
            victim.kill()
            victim.start()
            outside.play_until(victim.works)
        outside.play(2.0)
        outside.until_done(60.0)
        assert [named.stop(), nameless.stop()] == [0, 0]
        assert outside.answered > 20
        require_promises(loaded, outside.log, outside.sent)
