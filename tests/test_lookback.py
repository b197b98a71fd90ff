"""A strategy that looks back decides after a restart as if there had been none: its window is in the log."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection

import numpy as np
import pytest

from streamal.bootstrap import build
from streamal.bootstrap.rules import topic_names, topic_partitions, wire_rules
from streamal.config import Config
from streamal.core.records import FeatureValue, Record, TopicPartition
from streamal.core.strategies.base import Memory
from streamal.daemon.daemon import Daemon
from streamal.edge.memory import Broker, MemoryTransport
from streamal.edge.metrics import NullMeter
from streamal.ports import scan
from streamal.recordings.reading import Recorded, Stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import Player, SilentLog, StreamClock, stream_config

ROWS = 330
BAYES = ({"use": "naive_bayes.GaussianNB"},)
COMMITTEE = ({"use": "ensemble.BaggingClassifier", "n_models": 3, "model": [{"use": "naive_bayes.GaussianNB"}]},)


def drifting(partitions: int) -> Stream:
    """Return two overlapping classes that move, with a word beside the numbers, and a number that comes late."""
    rng = np.random.default_rng(8)
    rows = []
    for i in range(ROWS * partitions):
        which = int(rng.integers(2))
        features: dict[str, FeatureValue] = {
            "x": float(rng.normal(which + i / 200)),
            "y": float(rng.normal()) * 50.0,
            "s": f"kind {rng.integers(4)}",
        }
        if i > 150:
            features["z"] = float(i)
        rows.append(Recorded(features, "ab"[which], float(i), None))
    return Stream("drifting", rows, {"x": "number", "y": "number", "s": "string"}, ("a", "b"))


class Forgets(Daemon):
    """Its windows begin empty."""

    def _rebuild_memories(self) -> dict[TopicPartition, Memory]:
        return {}


class Run:
    """A daemon on a memory broker that is replaced whenever the test says so."""

    def __init__(self, strategy: str, batch: int, partitions: int, daemon: type[Daemon] = Daemon) -> None:
        self.kind = daemon
        model = {"pipeline": COMMITTEE if strategy == "committee" else BAYES}
        sampling = {"strategy": strategy, "parameters": {"window": 40} if strategy == "density" else {}}
        raw = {"sampling": sampling, "model": model, "transport": {"partitions": partitions}}
        stream = drifting(partitions)
        self.config = stream_config(Config.model_validate(raw), stream)
        self.partitions, self.batch = partitions, batch
        self.topics, self.broker, self.clock = topic_names(self.config), Broker(), StreamClock()
        for topic, count in topic_partitions(self.config).items():
            self.broker.create(topic, count)
        self.started = 0
        self.daemon = self.start()
        rules = AnnotatorsRules(delay_s=5.0)
        self.player = Player(self.broker, self.topics, stream, rules, wire_rules(self.config))

    def start(self) -> Daemon:
        """Return a new worker; the one before is gone without a word."""
        if self.started:
            self.broker.expel("streamal", f"worker {self.started}")
        self.started += 1
        name = f"worker {self.started}"
        transport = MemoryTransport(self.broker, "streamal", name, self.topics.events, self.topics.labels)
        parts = build(self.config)
        quiet = dataclasses.replace(parts.settings, gauges_every_s=math.inf)
        daemon = self.kind(quiet, parts.new_fold, transport, None, self.clock, NullMeter(), SilentLog())
        daemon.start()
        return daemon

    def play(self, restarts: Collection[int]) -> list[list[Record]]:
        """Return all that was written; before the steps in *restarts* the worker is replaced."""
        for step, first in enumerate(range(0, ROWS * self.partitions, self.batch)):
            if step in restarts:
                self.daemon = self.start()
            numbers = range(first, min(first + self.batch, ROWS * self.partitions))
            self.clock.time = float(first)
            self.player.annotators.respond(self.clock.time)
            self.player.send(numbers)
            while self.daemon.tick():
                pass
            self.player.annotators.read()
        written = (self.topics.predictions, self.topics.requests, self.topics.training)
        return [list(scan(self.broker, t, p)) for t in written for p in range(self.broker.partitions(t))]


@pytest.mark.parametrize("strategy", ["density", "cognitive", "probabilistic", "quantile", "committee", "auto"])
def test_a_restart_changes_no_decision(strategy: str) -> None:
    """Killed every 17 steps, at every kind of place in a block: every topic holds the same bytes."""
    whole = Run(strategy, 3, 1).play(())
    assert Run(strategy, 3, 1).play(range(5, ROWS, 17)) == whole
    assert len(whole[0]) == ROWS
    assert len(whole[1]) > 20


def test_a_worker_that_reads_nothing_back_would_be_noticed() -> None:
    """The same restarts, and other decisions: the test above can fail."""
    whole = Run("density", 3, 1).play(())
    assert Run("density", 3, 1, Forgets).play(range(5, ROWS, 17)) != whole


@pytest.mark.parametrize("strategy", ["density", "cognitive"])
def test_each_partition_has_its_own_past(strategy: str) -> None:
    """Two partitions and a restart at each of some steps: again the same bytes."""
    whole = Run(strategy, 10, 2).play(())
    assert Run(strategy, 10, 2).play({1, 2, 3, 17, 40, 41}) == whole


def test_steps_of_any_size_see_the_same_past() -> None:
    """The window moves with the events, not with the steps: what a fixed model decides does not depend on them."""
    propensities = []
    for batch in (1, 50):
        run = Run("density", batch, 1)
        run.player.annotators.respond = lambda now: 0  # type: ignore[method-assign]  # nobody answers: a fixed model
        run.play(())
        propensities.append([record.value for record in scan(run.broker, run.topics.predictions, 0)])
    assert propensities[0] == propensities[1]
