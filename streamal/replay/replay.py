"""A recorded stream through the production loop, on the memory transport, by the stream's own clock."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from river import base

from streamal.bootstrap import build
from streamal.bootstrap.rules import reading_rules
from streamal.config import Config
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import OutputRecord, coordinates
from streamal.core.rules import TopicNames
from streamal.daemon.daemon import Daemon
from streamal.edge.memory import Broker, MemoryTransport
from streamal.edge.metrics import NullMeter
from streamal.errors import ConfigError
from streamal.ports import Clock, Log
from streamal.recordings.reading import Recorded, Stream, read_stream
from streamal.replay.annotators import Annotators, AnnotatorsRules
from streamal.replay.outcome import Replay, outcome

__all__ = [
    "Player",
    "SilentLog",
    "StreamClock",
    "play",
    "replay",
    "stream_config",
]


_NESTED = WireRules()


class StreamClock(Clock):
    """The stream's own clock: it shows the time that the player has set."""

    def __init__(self) -> None:
        """Start at 0."""
        self.time = 0.0

    def now(self) -> float:
        """Return the time that was set last."""
        return self.time

    def monotonic(self) -> float:
        """Return the same time: what the player sets is no jump."""
        return self.time


class SilentLog:
    """A logger that drops every line."""

    def info(self, event: str, **fields: object) -> None:
        """Drop the line."""

    def warning(self, event: str, **fields: object) -> None:
        """Drop the line."""


class Player:
    """Plays a recorded stream into any `Log`: appends its events, and the annotators' replies when they are due."""

    def __init__(
        self,
        log: Log,
        topics: TopicNames,
        stream: Stream,
        rules: AnnotatorsRules,
        wire: WireRules = _NESTED,
        first_id: int = 0,
        rows_max: float = math.inf,
    ) -> None:
        """Play *stream* into the topics of *log*, round robin over the partitions.

        Args:
            log: where the topics are.
            topics: their names.
            stream: what is played.
            rules: how the annotators reply.
            wire: the format of an event.
            first_id: the id of the first event; it goes up by one.
            rows_max: how many of the newest events can still be asked about, so that an endless stream needs no
                endless memory.
        """
        self._wire, self._first_id, self._rows_max = wire, first_id, rows_max
        self.log, self.topics, self.stream = log, topics, stream
        self._partitions = log.partitions(topics.events)
        self.annotators = Annotators(log, topics.requests, topics.labels, stream, rules)
        self.rows: dict[str, int] = {}
        """Coordinates -> number of the row."""

    def send(self, numbers: Sequence[int]) -> None:
        """Append the rows with these *numbers* to ``events``."""
        outputs = []
        for number in numbers:
            row = self.stream.rows[number]
            value = msgspec.json.encode(self._event(number, row))
            outputs.append(OutputRecord(self.topics.events, number % self._partitions, None, value))
        for number, output, offset in zip(numbers, outputs, self.log.append_all(outputs), strict=True):
            key = coordinates(output.partition, offset)
            self.rows[key] = number
            self.annotators.assign(key, self.stream.rows[number])
        while len(self.rows) > self._rows_max:
            oldest = next(iter(self.rows))
            del self.rows[oldest]
            self.annotators.forget(oldest)

    def _event(self, number: int, row: Recorded) -> dict[str, object]:
        name = self._first_id + number
        if self._wire.format == "flat":
            return {**row.features, self._wire.id: name, self._wire.time: row.time}
        return {"id": name, "time": row.time, "features": row.features}


def stream_config(config: Config, stream: Stream) -> Config:
    """Return *config* with the features and classes of the recording, where *config* declares none.

    What is missing in the recording is missing for a daemon too, if a producer writes it as the recording does.
    """
    features, labels = config.features, config.labels
    if not features.declared and not features.open:
        null = "missing" if stream.lacks_features else features.null  # a producer may write one
        missing = features.missing or tuple(sorted(stream.spellings))
        features = features.model_copy(update={"declared": dict(stream.kinds), "null": null, "missing": missing})
    if not labels.classes:
        labels = labels.model_copy(update={"classes": stream.classes})
    return config.model_copy(update={"features": features, "labels": labels})


def replay(
    stream: Stream | Any,
    config: Config | None = None,
    annotators: AnnotatorsRules | None = None,
    batch: int = 1,
    progress: Callable[[int], object] = lambda _: None,
    *,
    label: str | None = None,
    model: base.Estimator | None = None,
) -> Replay:
    """Run *stream* through the daemon's own loop and return the figures.

    Args:
        stream: the recording; or, if *label* is given, whatever `read_stream` reads: a path, a data frame, rows.
        config: as for a live daemon; declared features and classes default to those of the recording.
        annotators: how they reply; by default at once and rightly.
        batch: events per step; with 1, a label that comes at once is known to the very next prediction.
        progress: called with the number of events done since the last call.
        label: the column of the true label, where *stream* is not read yet.
        model: a classifier of River, which is copied untrained; by default that of *config*.

    Raises:
        ConfigError: the configuration cannot be run, or the stream cannot be read.
    """
    config = config or Config()
    if not isinstance(stream, Stream):
        if label is None:
            raise ConfigError("which column of the stream is the label? give label, or a stream from read_stream")
        stream = read_stream(stream, label, rules=reading_rules(config))
    parts = build(stream_config(config, stream), model)
    topics, broker = parts.topics, Broker()
    for topic, count in parts.topic_partitions.items():
        broker.create(topic, count)
    transport = MemoryTransport(broker, config.transport.group, "replay", topics.events, topics.labels)
    clock = StreamClock()
    # nobody scrapes a replay, and its clock may jump by days from one event to the next; the batches are the caller's
    quiet = dataclasses.replace(parts.settings, gauges_every_s=math.inf, step_target_s=math.inf, step_bytes=math.inf)
    daemon = Daemon(quiet, parts.new_fold, transport, None, clock, NullMeter(), SilentLog())
    player = Player(transport, topics, stream, annotators or AnnotatorsRules(), parts.wire)
    began = time.perf_counter()
    play(daemon, player, clock, batch, progress)
    return outcome(daemon, transport, topics, stream, player.rows, time.perf_counter() - began)


def play(daemon: Daemon, player: Player, clock: StreamClock, batch: int, progress: Callable[[int], object]) -> None:
    """Start *daemon* and play the whole stream through it, *batch* events per step, each reply at its own time."""
    daemon.start()
    rows = player.stream.rows
    for first in range(0, len(rows), batch):
        numbers = range(first, min(first + batch, len(rows)))
        _advance(daemon, player.annotators, clock, rows[numbers[-1]].time)
        player.send(numbers)
        daemon.tick()
        player.annotators.read()
        progress(len(numbers))
    while (due := player.annotators.next_due) is not None:
        _advance(daemon, player.annotators, clock, due)


def _advance(daemon: Daemon, annotators: Annotators, clock: StreamClock, until: float) -> None:
    """Append each reply that is due by *until* at its own time, and run one step after each."""
    while (due := annotators.next_due) is not None and due <= until:
        clock.time = max(clock.time, due)
        annotators.respond(due)
        daemon.tick()
    clock.time = max(clock.time, until)
