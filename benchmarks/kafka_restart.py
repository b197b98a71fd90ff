"""The seconds from start to ready with a long training log, and a check that a snapshot does not change the model."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

from benchmarks.kafka_world import World
from streamal.bootstrap import build
from streamal.config import load_config
from streamal.core.fold import Fold
from streamal.core.records import Event
from streamal.core.snapshot import decode_snapshot
from streamal.edge.snapshots import DirectorySnapshots
from streamal.ports import scan

_PROBES = 1_000
_PATIENCE_S = 300.0


class Restarts(NamedTuple):
    """Medians in seconds, and how many of the probes the two models see otherwise."""

    warm_s: float
    cold_s: float
    differ: int


def measure(world: World, examples: int, repetitions: int, directory: Path) -> Restarts:
    """Start `streamal run` without and with a snapshot, so often each, over so many examples."""
    world.teach(examples)
    world.fill(100)
    settings = [*world.overrides, f"server.port={free_port()}"]
    cold, warm = [], []
    for _ in range(repetitions):
        shutil.rmtree(directory, ignore_errors=True)
        cold.append(seconds_until_ready([*settings, f"snapshots.directory={directory}"]))
        warm.append(seconds_until_ready([*settings, f"snapshots.directory={directory}"]))
    return Restarts(statistics.median(warm), statistics.median(cold), _differences(world, settings, directory))


def seconds_until_ready(overrides: list[str]) -> float:
    """Return how long a worker takes from its start to /readyz; then end it as a supervisor would."""
    command = [sys.executable, "-m", "streamal", "run", "--config", os.devnull]
    command += [part for override in overrides for part in ("--set", override)]
    port = next(each.partition("=")[2] for each in overrides if each.startswith("server.port="))
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    began = time.monotonic()
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    try:
        while not _ready(port):
            assert worker.poll() is None, f"it ended with {worker.returncode}"
            assert time.monotonic() - began < _PATIENCE_S
            time.sleep(0.01)
        return time.monotonic() - began
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=_PATIENCE_S)


def _ready(port: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _differences(world: World, settings: list[str], directory: Path) -> int:
    """Compare the snapshot's model with one folded from the log alone, probability for probability."""
    config = load_config(None, [*settings, f"snapshots.directory={directory}"])
    parts = build(config)
    restored = next(
        fold
        for data in DirectorySnapshots(directory).load()
        if (fold := decode_snapshot(data, parts.settings.fingerprint)) is not None
    )
    folded: Fold = parts.new_fold()
    for record in scan(world.log, world.topics.training, 0):
        if record.offset < restored.books.version.offset:
            folded.apply_training(record.offset, record.value)
    assert folded.books.version == restored.books.version
    events = (Event(0, number, None, None, dict(world.event()[0])) for number in range(_PROBES))
    return sum(folded.learned.predict(event) != restored.learned.predict(event) for event in events)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
