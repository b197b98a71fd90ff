"""From a reply to the first prediction that knows it, as somebody outside sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from rich.progress import track

from benchmarks.kafka_world import World
from streamal.core.records import coordinates

_PATIENCE_S = 30.0
_PAUSE_S = 0.05  # between a reply that was seen to work and the next one


class Outside:
    """Producer, annotator and reader in one: what arrives is noted with the time at which it did."""

    def __init__(self, world: World) -> None:
        self.topics, self.world = world.topics, world
        servers = world.config.transport.bootstrap_servers
        self.producer = KafkaProducer(bootstrap_servers=servers, acks="all")
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        read = (self.topics.predictions, self.topics.requests, self.topics.training)
        self._consumer.assign([TopicPartition(topic, 0) for topic in read])
        self.open: list[str] = []
        self.trained: dict[str, int] = {}
        """Request → version of the model that has learned it."""
        self.predicted: list[tuple[int, float]] = []
        """(version, arrival) of the predictions, those with a version that was new."""
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextmanager
    def running(self, rate: float) -> Iterator[None]:
        """Send *rate* events a second and read whatever comes, each in a thread of its own."""
        self._threads = [
            threading.Thread(target=self._send, args=(1.0 / rate,)),
            threading.Thread(target=self._read),
        ]
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
            self._consumer.close(autocommit=False)
            self.producer.close(timeout=2)

    def until(self, found: Any) -> Any:
        """Return what *found* returns, once that is true."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (value := found()):
            if time.monotonic() > deadline:
                raise TimeoutError("the daemon does not answer")
            time.sleep(0.001)
        return value

    def reply(self, request: str, label: str) -> float:
        """Append a reply; return when that was acknowledged."""
        body = msgspec.json.encode({"request": request, "label": label})
        self.producer.send(self.topics.labels, body, partition=0).get(timeout=_PATIENCE_S)
        return time.monotonic()

    def _send(self, pause_s: float) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            body = msgspec.json.encode({"features": self.world.event()[0]})
            self.producer.send(self.topics.events, body, partition=0)
            due += pause_s
            time.sleep(max(0.0, due - time.monotonic()))

    def _read(self) -> None:
        while not self._stop.is_set():
            polled = self._consumer.poll(timeout_ms=100)
            now = time.monotonic()
            for place, records in polled.items():
                for record in records:
                    self._take(place.topic, record, now)

    def _take(self, topic: str, record: Any, now: float) -> None:
        if topic == self.topics.predictions:
            version = json.loads(record.value)["version"]
            if not self.predicted or version > self.predicted[-1][0]:
                self.predicted.append((version, now))
        elif topic == self.topics.requests and record.value is not None:
            self.open.append(record.key.decode())
        elif topic == self.topics.training and record.key is not None:
            self.trained[record.key.decode()] = record.offset + 1


def measure(world: World, replies: int, rate: float) -> list[float]:
    """Return how many seconds each of so many replies took, while *rate* events come in a second."""
    outside = Outside(world)
    command = [sys.executable, "-m", "streamal", "run", "--config", os.devnull, "--set", "server.enabled=false"]
    command += [part for override in world.overrides for part in ("--set", override)]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    times: list[float] = []
    try:
        with outside.running(rate):
            for _ in track(range(replies), description=f"latency, {world.client}"):
                request = outside.until(lambda: outside.open and outside.open.pop())
                replied_at = outside.reply(request, "yes" if len(times) % 2 else "no")
                version = outside.until(lambda: outside.trained.get(request))  # noqa: B023  (called at once)
                times.append(
                    outside.until(lambda: _arrival(outside.predicted, version)) - replied_at  # noqa: B023
                )
                time.sleep(_PAUSE_S)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=_PATIENCE_S)
    assert worker.returncode == 0
    assert coordinates(0, 0) in outside.trained or outside.trained
    return times


def _arrival(predicted: list[tuple[int, float]], version: int) -> float | None:
    """Return when the first prediction of *version* or later came."""
    return next((arrival for made_with, arrival in predicted if made_with >= version), None)
