"""Tiny recorded streams, and the daemon on them, in memory: what several tests share."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from streamal.bootstrap import build
from streamal.bootstrap.rules import topic_names, topic_partitions
from streamal.config import Config
from streamal.core.coins import HashedUniform
from streamal.core.records import OffsetAndMetadata, OutputRecord, Prediction, Record, TopicPartition
from streamal.daemon.daemon import Daemon
from streamal.edge.memory import Broker, MemoryTransport
from streamal.ports import Log, Snapshots, Transport, scan
from streamal.replay import Recorded, Stream
from streamal.replay.replay import Player, StreamClock

CLASSES = ("no", "yes")
QUICK = {"poll_timeout_s": 0.0, "gauges_every_s": 0.0, "backoff_s": 0.0001, "step_target_s": math.inf}
PIPELINE = [{"use": "preprocessing.StandardScaler"}, {"use": "linear_model.LogisticRegression"}]


def easy_stream(count: int, seed: int = 1) -> Stream:
    """Return *count* rows, one per second: "yes" where x1 + x2 > 1, but for one row in ten."""
    coin = HashedUniform(seed, "easy")
    rows = []
    for number in range(count):
        x1, x2, noise = (coin.uniform(f"{number} {what}") for what in ("x1", "x2", "noise"))
        label = CLASSES[(x1 + x2 > 1.0) != (noise < 0.1)]
        rows.append(Recorded({"x1": x1, "x2": x2}, label, float(number), None))
    return Stream("easy", rows, {"x1": "number", "x2": "number"}, CLASSES)


def make_config(**sections: Mapping[str, Any]) -> Config:
    """Return a config for `easy_stream`; *sections* come on top."""
    base: dict[str, dict[str, Any]] = {
        "features": {"declared": {"x1": "number", "x2": "number"}},
        "labels": {"classes": list(CLASSES)},
        "model": {"pipeline": PIPELINE},
    }
    return Config.model_validate({name: {**base.get(name, {}), **sections.get(name, {})} for name in base | sections})


def rows_of(log: Log, topic: str, partition: int = 0) -> list[dict[str, Any]]:
    """Return the JSON records of a partition."""
    return [json.loads(record.value or b"null") for record in scan(log, topic, partition)]


def predictions_of(log: Log, config: Config) -> list[Prediction]:
    """Return all predictions, partition by partition."""
    topic = config.topics.predictions
    return [
        msgspec.json.decode(record.value or b"", type=Prediction)
        for partition in range(log.partitions(topic))
        for record in scan(log, topic, partition)
    ]


class CountingMeter:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.gauges: dict[str, float] = {}
        self.observed: Counter[str] = Counter()

    def count(self, name: str, kind: str, amount: float, at: str = "") -> None:
        self.counts[name, kind] += int(amount)

    def gauge(self, name: str, value: float) -> None:
        self.gauges[name] = value

    def observe(self, name: str, value: float, at: str = "") -> None:
        self.observed[name] += 1


class ListLog:
    """A logger that remembers what was said, as (event, fields)."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.said.append((event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.said.append((event, fields))

    def fields(self, event: str) -> dict[str, object]:
        """Return what was said last of *event*."""
        return next(fields for name, fields in reversed(self.said) if name == event)


class ListSnapshots:
    """Snapshots in a list, newest first."""

    def __init__(self) -> None:
        self.saved: list[bytes] = []
        self.problems: tuple[str, ...] = ()

    def load(self) -> Sequence[bytes]:
        return self.saved

    def save(self, data: bytes) -> bool:
        self.saved.insert(0, data)
        return True


class World:
    """Topics in memory, a clock that is set by hand, and daemons on them, one after the other."""

    def __init__(self, config: Config) -> None:
        self.config, self.topics = config, topic_names(config)
        self.broker, self.clock, self.meter, self.log = Broker(), StreamClock(), CountingMeter(), ListLog()
        for topic, partitions in topic_partitions(config).items():
            self.broker.create(topic, partitions)

    def transport(self) -> MemoryTransport:
        return MemoryTransport(self.broker, self.config.transport.group, "w", self.topics.events, self.topics.labels)

    def daemon(self, snapshots: Snapshots | None = None, transport: Transport | None = None, **how: Any) -> Daemon:
        """Return a daemon that has not started yet; *how* are fields of `Settings`."""
        parts = build(self.config)
        return Daemon(
            dataclasses.replace(parts.settings, **{**QUICK, **how}),
            parts.new_fold,
            transport or self.transport(),
            snapshots,
            self.clock,
            self.meter,
            self.log,
        )

    def event(self, features: Mapping[str, object], partition: int = 0) -> int:
        """Append an event and return its offset."""
        return self.broker.append(self.topics.events, partition, None, msgspec.json.encode({"features": features}))

    def reply(self, request: str, label: object, **fields: object) -> int:
        """Append a reply and return its offset."""
        value = json.dumps({"request": request, "label": label, **fields}).encode()
        return self.broker.append(self.topics.labels, 0, None, value)

    def tell(self, about: Mapping[str, object], label: object, **fields: object) -> int:
        """Append a natural label, *about* an event by its coordinates or about features; return its offset."""
        value = json.dumps({**about, "label": label, **fields}).encode()
        return self.broker.append(self.topics.labels, 0, None, value)

    def player(self, stream: Stream, *arguments: Any) -> Player:
        return Player(self.broker, self.topics, stream, *arguments)

    def drain(self, daemon: Daemon) -> None:
        """Tick until nothing is left to consume."""
        while daemon.tick():
            pass


class FrozenLog:
    """A copy of a log's records that can be tampered with: a `Log` over lists."""

    def __init__(self, log: Log, config: Config) -> None:
        self.topics = topic_names(config)
        self.counts = dict(topic_partitions(config))
        self.records: dict[TopicPartition, list[Record]] = {
            TopicPartition(topic, partition): list(scan(log, topic, partition))
            for topic, count in self.counts.items()
            for partition in range(count)
        }
        self.begins: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.offsets = dict(log.committed(config.transport.group))

    def partitions(self, topic: str) -> int:
        return self.counts.get(topic, 0)

    def begin(self, topic: str, partition: int) -> int:
        return self.begins.get(TopicPartition(topic, partition), 0)

    def end(self, topic: str, partition: int) -> int:
        records = self.records[TopicPartition(topic, partition)]
        return records[-1].offset + 1 if records else self.ends.get(TopicPartition(topic, partition), 0)

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        records = self.records[TopicPartition(topic, partition)]
        return [record for record in records if record.offset >= offset][:records_max]

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        offset = self.end(topic, partition)
        self.records[TopicPartition(topic, partition)].append(Record(topic, partition, offset, key, value))
        return offset

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        return [self.append(each.topic, each.partition, each.key, each.value) for each in outputs]

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        return self.offsets

    def close(self) -> None:
        """Nothing is open."""

    # Tampering.

    def trim(self, topic: str, before_offset: int) -> int:
        """Delete the records of partition 0 below *before_offset*, as retention does, and return how many."""
        place, before = TopicPartition(topic, 0), len(self.of(topic))
        self.ends[place] = self.end(topic, 0)
        self.records[place] = [record for record in self.of(topic) if record.offset >= before_offset]
        self.begins[place] = before_offset
        return before - len(self.of(topic))

    def of(self, topic: str) -> list[Record]:
        """Return the records of partition 0 of *topic*, to be changed in place."""
        return self.records[TopicPartition(topic, 0)]

    def change(self, topic: str, number: int, **fields: object) -> str:
        """Change fields of the JSON record *number* of *topic* and return its key."""
        record = self.of(topic)[number]
        value = {**json.loads(record.value or b""), **fields}
        self.of(topic)[number] = replace(record, value=json.dumps(value).encode())
        return (record.key or b"").decode()


def sums_to_one(prediction: Prediction) -> bool:
    """Whether the probabilities are finite, in [0, 1], and sum to 1."""
    values = prediction.probabilities.values()
    return all(math.isfinite(p) and 0.0 <= p <= 1.0 for p in values) and math.isclose(sum(values), 1.0, abs_tol=1e-6)
