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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from streamal.assembly import budget_rules, new_fold, rules
from streamal.cli import parts
from streamal.config import Config, load_config
from streamal.errors import Uncommitted
from streamal.ports import Log, scan
from streamal.verification import verify
from tests import kafka_broker
from tests.kafka_broker import Cluster

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
    """A configuration on the shared broker."""
    return configured(kafka, tmp_path)


def configured(kafka: Cluster, directory: Path) -> Path:
    """Return a configuration with topics of its own, which are made."""
    name = f"e2e.{os.getpid()}.{time.monotonic_ns()}"
    topics = "\n".join(f'{role} = "{name}.{role}"' for role in ROLES)
    path = directory / "config.toml"
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
            self._append(self.config.topics.events, self._random.randrange(2), value)
            self.sent += 1
            if self.sent % 10 == 0:
                with suppress(Uncommitted):
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
            with suppress(Uncommitted):
                self.answer()
            done = self.log.committed(self.config.transport.group)
            consumed = sum(state.offset for state in done.values())
            places = [(topics.events, 0), (topics.events, 1), (topics.labels, 0)]
            if consumed == sum(self.log.end(*place) for place in places):
                return
            assert time.monotonic() < deadline, f"consumed {consumed}: {done}"
            time.sleep(0.2)

    def _append(self, topic: str, partition: int, value: bytes) -> None:
        while True:
            try:
                self.log.append(topic, partition, None, value)
            except Uncommitted:  # written or not: then it is written twice, as two events or two replies
                continue
            return

    def _reply(self, request: str, label: str) -> None:
        replies = [{"request": request, "label": label}]
        if self.answered % 5 == 0:
            replies.append({"request": request, "label": "no" if label == "yes" else "yes"})
        if self.answered % 7 == 0:
            replies.append({"request": f"0-{10**9 + self.answered}", "label": "yes"})
        for reply in replies:
            self._append(self.config.topics.labels, 0, json.dumps(reply).encode())
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


def require_promises(config: Config, log: Log) -> None:
    """Fail with what the verifier has found, or if it has looked at less than what was consumed."""
    checks = verify(
        log, rules(config, 2), budget_rules(config), config.transport.group, lambda: new_fold(config), rederive=True
    )
    assert [(check.promise, check.where) for check in checks if check.broken] == []
    assert checks[0].looked_at == sum(log.end(config.topics.events, partition) for partition in (0, 1))
    assert all(check.looked_at for check in checks)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_two_workers_survive_kill_9_in_rotation(config: Path, client: str) -> None:
    """Whichever worker is killed, with a name of its own or without, at any moment: all promises hold (F2, F3, F13)."""
    config.write_text(config.read_text().replace("[transport]", f'[transport]\nclient = "{client}"'))
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
        require_promises(loaded, outside.log)


@pytest.mark.slow
def test_a_frozen_worker_and_a_broker_that_restarts_break_nothing(tmp_path: Path) -> None:
    """SIGSTOP until the others have its partitions, SIGCONT, then the broker is killed and returns (F10, F11)."""
    with kafka_broker.fragile() as cluster, ExitStack() as stack:
        path = configured(cluster, tmp_path)
        loaded = load_config(path)
        outside = World(loaded)
        stack.callback(outside.log.close)
        workers = [stack.enter_context(worker(path, name)) for name in ("first", "second", "third")]
        outside.play_until(lambda: all(each.works() for each in workers))
        outside.play(2.0)
        for victim in workers[:2]:
            victim.process.send_signal(signal.SIGSTOP)
            outside.play(9.0, per_second=50)  # beyond the session, and sometimes beyond the transaction
            victim.process.send_signal(signal.SIGCONT)
            outside.play(2.0)
        cluster.nodes[0].kill()
        time.sleep(2.0)
        cluster.nodes[0].start()
        cluster.wait()
        outside.play(3.0)
        outside.until_done(90.0)
        assert [each.stop() for each in workers] == [0, 0, 0]
        require_promises(loaded, outside.log)


@pytest.mark.slow
def test_three_nodes_lose_one(tmp_path: Path) -> None:
    """A cluster with three copies goes on without one broker, and takes it back (F10)."""
    with kafka_broker.fragile(3) as cluster, ExitStack() as stack:
        path = configured(cluster, tmp_path)
        loaded = load_config(path)
        assert list(parts.topic_problems(loaded)) == []
        outside = World(loaded)
        stack.callback(outside.log.close)
        one = stack.enter_context(worker(path, "one"))
        outside.play_until(one.works)
        for node in cluster.nodes:
            outside.play(2.0)
            node.kill()
            outside.play(4.0)
            node.start()
            cluster.wait()
            time.sleep(5.0)  # until it is in sync again: two of three have to be
        outside.until_done(90.0)
        assert one.stop() == 0
        require_promises(loaded, outside.log)
