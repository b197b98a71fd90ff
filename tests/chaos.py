"""What a chaos test needs: real workers to torment, and a world outside that sends, answers, lies and is late."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from streamal.cli import parts
from streamal.config import Config, load_config
from streamal.core.records import Output
from streamal.errors import Uncommitted
from streamal.ports import scan
from tests.conftest import environment
from tests.kafka_broker import Cluster

PARTITIONS = 4
SESSION_S = 3.0
TTL_S = 8.0
CLASSES = ("no", "yes")
HUGE = b'{"features": {"a": "' + b"x" * 10_000_000 + b'"}}'
"""Good JSON of ten megabytes; one is allowed."""

POISON_EVENTS = (
    None,
    b"",
    b"this is no JSON",
    b"\xff\xfe\x00",
    b"[1]",
    b'{"features": {"a": NaN}}',
    b'{"features": {"a": 1e308, "b": 1}}',
    b'{"features": {"a": -1e308}}',
    b'{"features": {"a": 1e999}}',
    b'{"features": {"a": ' + b"9" * 5_000 + b"}}",
    b'{"features": {"a": "one", "b": 1}}',
    b'{"features": {"a": true, "b": 1}}',
    b'{"features": {"a": null}}',
    b'{"features": {"a": [1]}}',
    b'{"features": {}}',
    b'{"id": 7}',
    b'{"features": {"a": "\xff"}}',
    b'{"features": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b', "features": {"a": 1}}',
)
POISON_REPLIES = (
    None,
    b"",
    b"{",
    b"\xff",
    b"[]",
    b'{"label": "no"}',
    b'{"request": "0-0"}',
    b'{"request": 7, "label": "no"}',
    b'{"request": "0-0", "label": 1.5}',
    b'{"request": "0-0", "label": "maybe"}',
    b'{"request": "0-0", "label": "no", "abstain": true}',
    b'{"request": "0-0", "label": "no", "seconds": 1e308}',
    b'{"request": "0-0", "label": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
)

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
    parts.make_topics(load_config(path))
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    wide = {"max.message.bytes": str(16 * 1024 * 1024)}
    topic = ConfigResourceType.TOPIC
    admin.alter_configs([ConfigResource(topic, f"{name}.{role}", configs=wide) for role in ("events", "labels")])
    admin.close()
    return path


class Worker:
    """A `streamal run` with a directory of its own, to be killed, frozen and started again."""

    def __init__(self, config: Path, name: str, *arguments: str) -> None:
        self.name, self.directory = name, config.parent / name
        self.directory.mkdir()
        self._command = [sys.executable, "-m", "streamal", "run", "--config", str(config), *arguments]
        self._lives = 0
        self.start()

    def start(self) -> None:
        self._lives += 1
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(self._command, cwd=self.directory, env=environment(), stderr=log)

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL, self.log()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)

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


class Outside(threading.Thread):
    """Producers and annotators, on a thread of their own.

    What becomes of a request hangs on its coordinates alone: whoever sees it, as often as they see it, says the same
    first; contradictions follow only when that is certain to be before them. So the test knows what must be learned.

    Attributes:
        sending: whether events flow; replies always do.
        in_time: request -> label, of those that were answered for certain before their deadline.
        did: how often what was done.
    """

    def __init__(self, config: Config, seed: int, per_second: float) -> None:
        super().__init__(name="outside", daemon=True)
        self.config, self.log = config, parts.open_log(config)
        self.sending, self.in_time, self.did = True, dict[str, str | None](), Counter[str]()
        self._seed, self._random, self._per_second = seed, random.Random(seed), per_second
        self.left = ""
        self._owed, self._closing, self._failed = 0.0, threading.Event(), list[BaseException]()
        self._open: dict[str, str] = {}
        self._late: list[tuple[float, str]] = []
        self._positions = dict.fromkeys(range(config.transport.partitions), 0)
        self._last = dict.fromkeys(self._positions, -1)
        self._glancing = self._early_reader()

    def run(self) -> None:
        before = time.monotonic()
        try:
            while not self._closing.is_set():
                now = time.monotonic()
                self._owed, before = min(self._owed + (now - before) * self._per_second, 50.0), now
                with suppress(Uncommitted):  # the broker is away; nobody knows what was written
                    self._send()
                    self._glance()
                    self._read()
                    self._be_late()
                time.sleep(0.01)
        except BaseException as error:
            self._failed.append(error)

    def require_well(self) -> None:
        if self._failed:
            raise AssertionError("the world outside has ended") from self._failed[0]

    def play(self, seconds: float) -> None:
        time.sleep(seconds)
        self.require_well()

    def play_until(self, holds: Callable[[], object], patience_s: float = 60.0) -> None:
        """Play on until something has come true."""
        deadline = time.monotonic() + patience_s
        while not holds():
            assert time.monotonic() < deadline, f"it takes too long; {self.left}"
            self.play(0.05)

    def finish(self, patience_s: float = 90.0) -> None:
        """Send no more, and play on until all is consumed and no request is open (I16); then end."""
        self.sending = False
        asking = parts.open_log(self.config)
        try:
            self.play_until(lambda: self._is_done(asking), patience_s)
        finally:
            asking.close()
            self.end()

    def end(self) -> None:
        self._closing.set()
        self.join()
        self._glancing.close()

    def _is_done(self, log: Any) -> bool:
        topics = self.config.topics
        places = [(topics.labels, 0), *((topics.events, partition) for partition in self._positions)]
        try:
            done = log.committed(self.config.transport.group)
            lag = {place: log.end(*place) - (done[place].offset if place in done else 0) for place in places}
        except Uncommitted:
            return False
        self.left = f"lag {[each for each in lag.items() if each[1]]}, open {list(self._open)}, late {self._late}"
        return not any(lag.values()) and not self._open and not self._late

    def _early_reader(self) -> KafkaConsumer:
        """Return what an annotator sees who does not care what is committed."""
        reader = KafkaConsumer(
            bootstrap_servers=self.config.transport.bootstrap_servers.split(","),
            isolation_level="read_uncommitted",
            enable_auto_commit=False,
            fetch_max_wait_ms=5,
        )
        places = [TopicPartition(self.config.topics.requests, partition) for partition in self._positions]
        reader.assign(places)
        reader.seek_to_beginning(*places)
        return reader

    def _send(self) -> None:
        """Send the events that are due; one in twenty is poison, and now and then one is huge."""
        outputs = []
        while self.sending and self._owed >= 1.0:
            self._owed -= 1.0
            self.did["event"] += 1
            partition = self._random.randrange(len(self._positions))
            outputs.append(Output(self.config.topics.events, partition, b"key", self._event()))
        if outputs:
            self.log.append_all(outputs)

    def _event(self) -> bytes | None:
        if self.did["event"] in (200, 2_000):
            self.did["huge"] += 1
            return HUGE
        if self._random.random() < 0.05:
            return self._random.choice(POISON_EVENTS)
        features = {"a": self._random.gauss(0, 1), "b": self._random.gauss(0, 1)}
        if self._random.random() < 0.1:
            features |= {"c": 1.0}  # unknown: dropped
        return json.dumps({"features": features}).encode()

    def _glance(self) -> None:
        """Answer as soon as a request can be seen at all: mostly before it is committed, sometimes before it is not."""
        for place, records in self._glancing.poll(timeout_ms=2).items():
            for record in records:
                key = (record.key or b"").decode()
                if record.value is not None and self._fate(key) == "early":
                    self._reply(key, self._truth(key, record.value))
                    self.did["early"] += 1
                    self.did["overtook"] += self.log.end(place.topic, place.partition) <= record.offset

    def _read(self) -> None:
        """Answer, or not, what is committed."""
        for partition, position in self._positions.items():
            for record in scan(self.log, self.config.topics.requests, partition, position):
                self._positions[partition] = record.offset + 1
                key = (record.key or b"").decode()
                if record.value is not None:
                    self._open[key] = self._truth(key, record.value)
                    self._answer(key, json.loads(record.value)["expires_at"])
                    self._forge(key)
                else:
                    truth = self._open.pop(key)
                    if self._fate(key) == "silent":
                        self._reply(key, truth)
                        self.did["after the expiry"] += 1

    def _answer(self, key: str, expires_at: float) -> None:
        fate, truth = self._fate(key), self._open[key]
        if fate == "slow":
            self._late.append((time.monotonic() + self._random.uniform(0.0, 1.5 * TTL_S), key))
            return
        if fate == "silent":
            return
        label = None if fate == "abstain" else truth
        self._reply(key, label)
        self.did[fate] += 1
        if time.time() < expires_at - 0.5:
            self.in_time[key] = label
        if fate == "contradict":
            self._reply(key, CLASSES[truth == "no"])
            self._reply(key, None)
            self._reply(key, truth)

    def _be_late(self) -> None:
        due, now = [], time.monotonic()
        for each in list(self._late):
            if each[0] <= now:
                self._late.remove(each)
                due.append(each[1])
        for key in due:
            self._reply(key, CLASSES[len(key) % 2])
            self.did["slow"] += 1

    def _forge(self, key: str) -> None:
        """Answer what was never asked: the future, other partitions, and events that were passed over."""
        partition, _, offset = key.partition("-")
        before, self._last[int(partition)] = self._last[int(partition)], int(offset)
        if self._random.random() < 0.3:
            made_up = [f"{partition}-{10**9 + self.did['event']}", f"99-{offset}", "nonsense", f"{partition}-1e3"]
            if before + 1 < int(offset):
                made_up.append(f"{partition}-{self._random.randrange(before + 1, int(offset))}")
            self._reply(self._random.choice(made_up), "yes")
            self.did["forged"] += 1
        if self._random.random() < 0.1:
            huge = self.did["poison reply"] in (3, 30)
            self._append(HUGE if huge else self._random.choice(POISON_REPLIES))
            self.did["poison reply"] += 1

    def _fate(self, key: str) -> str:
        fates = (
            "early",
            "early",
            "early",
            "plain",
            "plain",
            "plain",
            "plain",
            "contradict",
            "abstain",
            "slow",
            "silent",
        )
        return random.Random(f"{self._seed} {key}").choice(fates)

    def _truth(self, key: str, request: bytes) -> str:
        features = json.loads(request)["features"]
        return CLASSES[features["a"] + features["b"] > 0]

    def _reply(self, key: str, label: str | None) -> None:
        answer = {"abstain": True} if label is None else {"label": label}
        self._append(json.dumps({"request": key, **answer, "annotator": "kim"}).encode())

    def _append(self, value: bytes | None) -> None:
        """Write a reply, perhaps twice: where nobody knows whether it was written, it is written again."""
        while not self._closing.is_set():
            with suppress(Uncommitted):
                self.log.append(self.config.topics.labels, 0, b"key", value)
                return
