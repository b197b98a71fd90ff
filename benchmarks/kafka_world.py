"""Topics filled with events, and processes that consume them: streamal's own loop, or the bare pipe."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

import kafka
import msgspec
import structlog

from benchmarks import kafka_hand, kafka_pipe, kafka_quix
from streamal.bootstrap import build, edges, transports
from streamal.bootstrap.rules import topic_names
from streamal.cli.run import meter
from streamal.config import Config, load_config
from streamal.core.codec.events import encode
from streamal.core.records import FeatureValue, NaturalExample, OutputRecord
from streamal.core.state import TrainerState, encode_state
from streamal.daemon.daemon import Daemon
from streamal.ports import scan

CLIENTS = ("kafka-python", "confluent")
MODELS = {
    "linear": '[{ use = "preprocessing.StandardScaler" }, { use = "linear_model.LogisticRegression" }]',
    "100 trees": '[{ use = "forest.ARFClassifier", n_models = 100 }]',
}
"""Settings as in a config.toml."""
FEATURES = tuple(f"x{number}" for number in range(8))
_TAUGHT = 500
_CHUNK = 5_000
_NAMES = itertools.count()
_IDLE_S = 2.0
_PATIENCE_S = 600.0


class Cluster(NamedTuple):
    """A broker, and its processes, if they run on this machine."""

    bootstrap: str
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """The figures of one measurement."""

    events: int
    seconds: float
    client_s: float
    broker_s: float

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def client_us(self) -> float:
        """CPU microseconds of all workers per event."""
        return self.client_s / self.events * 1e6

    @property
    def broker_us(self) -> float:
        """CPU microseconds of the broker per event."""
        return self.broker_s / self.events * 1e6


class Share(NamedTuple):
    """The work of one worker after its *first* batch."""

    first: int
    events: int
    began: float
    ended: float
    cpu_s: float


class World:
    """Six topics of their own, and a model that has learned a little."""

    def __init__(self, cluster: Cluster, client: str, pipeline: str, partitions: int = 1, **more: str) -> None:
        self.cluster, self.client, self.partitions = cluster, client, partitions
        name = f"bench.{os.getpid()}.{next(_NAMES)}"
        wanted: dict[str, object] = {
            "transport.kind": "kafka",
            "transport.bootstrap_servers": cluster.bootstrap,
            "transport.client": client,
            "transport.partitions": partitions,
            "transport.group": name,
            "features.declared": "{ " + ", ".join(f'{name} = "number"' for name in FEATURES) + " }",
            "labels.classes": '["no", "yes"]',
            "model.pipeline": pipeline,
            "budget.share": 0.1,
            "limits.open_requests": 1_000_000,
            **{f"topics.{role}": f"{name}.{role}" for role in topic_names(Config())._fields},
            **more,
        }
        self.overrides = [f"{key}={value}" for key, value in wanted.items()]
        self.config = load_config(None, self.overrides)
        self.topics = topic_names(self.config)
        transports.create_topics(self.config)
        self.log = transports.open_log(self.config)
        self.random = random.Random(1)

    def event(self) -> tuple[dict[str, FeatureValue], str]:
        """Return an event of 8 numbers, and its label."""
        numbers = {name: round(self.random.gauss(0.0, 1.0), 6) for name in FEATURES}
        label = "yes" if numbers["x0"] + numbers["x1"] + self.random.gauss(0.0, 0.5) > 0.0 else "no"
        return {**numbers}, label

    def fill(self, events: int) -> None:
        """Append events, in turn to each partition."""
        for begin in range(0, events, _CHUNK):
            self.log.append_all(
                [
                    OutputRecord(
                        self.topics.events,
                        number % self.partitions,
                        None,
                        msgspec.json.encode({"id": str(number), "features": self.event()[0]}),
                    )
                    for number in range(begin, min(events, begin + _CHUNK))
                ]
            )

    def teach(self, examples: int) -> None:
        """Append to the training log, as the trainer would."""
        for begin in range(0, examples, _CHUNK):
            made = (self.event() for _ in range(begin, min(examples, begin + _CHUNK)))
            rows = [encode(NaturalExample(label, dict(features), float(begin))) for features, label in made]
            self.log.append_all([OutputRecord(self.topics.training, 0, None, row) for row in rows])
        self._commit_trainer_state()

    def _commit_trainer_state(self) -> None:
        """Commit what the trainer would have: without its state the daemon does not start on a log with records."""
        offsets = [record.offset for record in scan(self.log, self.topics.training, 0)]
        state = encode_state(TrainerState(offsets[-1] + 1, len(offsets)))
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=self.cluster.bootstrap, group_id=self.config.transport.group, enable_auto_commit=False
        )
        labels = kafka.TopicPartition(self.topics.labels, 0)
        consumer.assign([labels])
        consumer.commit({labels: kafka.OffsetAndMetadata(0, state, -1)})
        consumer.close(autocommit=False)

    def measure(self, what: str, events: int, workers: int) -> Run:
        """Run that many workers until they have consumed that many events; their start is not measured."""
        self.teach(_TAUGHT)
        self.fill(events)
        broker_before = sum(map(cpu_s, self.cluster.pids))
        shares: Queue[Share] = multiprocessing.Queue()
        ready = multiprocessing.Value("i", 0)
        processes = [
            multiprocessing.Process(target=_TARGETS[what], args=(self.overrides, events, workers, ready, shares))
            for _ in range(workers)
        ]
        for process in processes:
            process.start()
        done = [_share(shares, processes) for _ in processes]
        for process in processes:
            process.join()
        broker_s = sum(map(cpu_s, self.cluster.pids)) - broker_before
        self.log.close()
        total = sum(share.events for share in done)
        assert total + sum(share.first for share in done) == events, f"{done} of {events} events"
        seconds = max(share.ended for share in done) - min(share.began for share in done)
        return Run(total, seconds, sum(share.cpu_s for share in done), broker_s)


def _share(shares: Queue[Share], processes: Sequence[BaseProcess]) -> Share:
    """Return the next share; raise if a process has failed, because it sends none."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return shares.get(timeout=1.0)
        except Empty:
            failed = any(process.exitcode for process in processes)
            if failed or time.monotonic() > deadline:
                for process in processes:
                    process.terminate()
                raise AssertionError("a worker has failed, see above" if failed else "a worker does not end") from None


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _streamal(overrides: list[str], events: int, workers: int, ready: Any, shares: Any) -> None:
    """Run the daemon's loop over this worker's share of the events."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    config = load_config(None, overrides)
    transport = transports.open_transport(config)
    parts = build(config)
    daemon = Daemon(
        parts.settings,
        parts.new_fold,
        transport,
        None,
        edges.WallClock(),
        meter(config),
        structlog.get_logger(),
    )
    daemon.start()

    def owned() -> int:
        transport.poll({}, 0.1)
        return sum(place.topic == config.topics.events for place in transport.assignment()[1])

    part = config.transport.partitions // workers
    _join(lambda: owned() in {part, part + 1}, workers, ready)
    shares.put(_work_off(daemon.tick, events))
    transport.close()


def _pipe(overrides: list[str], events: int, workers: int, _ready: Any, shares: Any) -> None:
    _copy_through(kafka_pipe.PIPES, overrides, events, workers, shares)


def _by_hand(overrides: list[str], events: int, workers: int, _ready: Any, shares: Any) -> None:
    _copy_through(kafka_hand.BY_HAND, overrides, events, workers, shares)


def _copy_through(pipes: Mapping[str, Any], overrides: list[str], events: int, workers: int, shares: Any) -> None:
    assert workers == 1, "the pipe is measured alone"
    config = load_config(None, overrides)
    pipe = pipes[config.transport.client](config)
    shares.put(_work_off(pipe.tick, events))
    pipe.close()


def _quix(overrides: list[str], events: int, workers: int, _ready: Any, shares: Any) -> None:
    assert workers == 1, "it is measured alone"
    marks = kafka_quix.run(load_config(None, overrides), events)
    first = events - marks.events
    shares.put(Share(first, marks.events, marks.began, marks.ended, marks.cpu_s))


_TARGETS: Mapping[str, Callable[..., None]] = {
    "pipe": _pipe,
    "streamal": _streamal,
    "by hand": _by_hand,
    "Quix Streams": _quix,
}


def _join(settled: Callable[[], bool], workers: int, ready: Any) -> None:
    """Poll until each worker has its partitions: a worker that does not poll would block the rebalance."""
    while not settled():
        pass
    with ready.get_lock():
        ready.value += 1
    while ready.value < workers or not settled():
        settled()


def _work_off(tick: Callable[[], int], events: int) -> Share:
    """Tick until no event is left; the first batch is not timed."""
    first = 0
    while not first:
        first = tick()
    gc.freeze()  # as `streamal run` does after its start, and the pipe likewise
    consumed, before = first, resource.getrusage(resource.RUSAGE_SELF)
    began = ended = time.monotonic()
    after = before
    while consumed < events and time.monotonic() - ended < _IDLE_S:
        if found := tick():
            consumed, ended, after = consumed + found, time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    return Share(first, consumed - first, began, ended, sum(after[:2]) - sum(before[:2]))
