"""The cost that a transport adds to the same daemon: memory, SQLite, none. Kafka: `benchmarks.kafka_commands`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.core_loop import Case, as_records
from benchmarks.endless import Endless, daemon_over
from benchmarks.results import Result, Table, machine, ratio
from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names, topic_partitions
from streamal.config import Config
from streamal.core.records import OutputRecord
from streamal.edge.memory import Broker, MemoryTransport
from streamal.ports import Transport


class Cost(NamedTuple):
    """Of one event."""

    cpu_us: float
    wall_us: float


def measure_transports(events: int, repetitions: int) -> Result:
    """Return what an event costs through each transport that needs no server."""
    found = machine()
    case = Case()
    rows, labels = case.events(events)
    values = as_records(rows)
    runs: dict[str, Callable[[], Cost]] = {
        "none: made up and dropped": lambda: _over_nothing(case.config(), values, labels),
        "memory": lambda: _over(_in_memory(case.config()), case.config(), values, labels),
        "SQLite, synchronous = FULL": lambda: _over_sqlite(case, values, labels),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            costs[name].append(run())
    first = [each.cpu_us for each in next(iter(costs.values()))]
    cells = []
    for name, each in costs.items():
        times = [cost.cpu_us for cost in each]
        rate = 1e6 / median(cost.wall_us for cost in each)
        cells.append([name, f"{rate:,.0f}", f"{median(times):.1f}", f"{ratio(times, first):.2f}"])
    return Result(
        "transports",
        "The same daemon over each transport",
        "The production loop, one worker, 8 numbers, scaler and logistic regression, steps of 500 events, a tenth "
        "asked, answered after the step (that is not counted) and learned. Kafka, where other processes do part of "
        "the work, has a table of its own.",
        [Table("In one process", ["transport", "events/s", "µs/event (CPU)", "× the first"], cells)],
        bars={
            f"streamal over {name.partition(',')[0].partition(':')[0]}": median(cost.cpu_us for cost in each)
            for name, each in costs.items()
        },
        machine=found,
    )


def _over_nothing(config: Config, values: Sequence[bytes], labels: Sequence[str]) -> Cost:
    daemon, _ = daemon_over(config, Endless(config, values, labels))
    daemon.start()
    gc.collect()
    gc.freeze()
    cpu, wall, done = time.process_time(), time.perf_counter(), 0
    while done < len(values):
        done += daemon.tick()
    return Cost((time.process_time() - cpu) / done * 1e6, (time.perf_counter() - wall) / done * 1e6)


def _in_memory(config: Config) -> Transport:
    broker, topics = Broker(), topic_names(config)
    for topic, partitions in topic_partitions(config).items():
        broker.create(topic, partitions)
    return MemoryTransport(broker, config.transport.group, "benchmark", topics.events, topics.labels)


def _over_sqlite(case: Case, values: Sequence[bytes], labels: Sequence[str]) -> Cost:
    with TemporaryDirectory() as directory:
        config = case.config(**{"transport.path": f'"{Path(directory) / "streamal.db"}"'})
        transport = transports.open_transport(config)
        try:
            return _over(transport, config, values, labels)
        finally:
            transport.close()


def _over(transport: Transport, config: Config, values: Sequence[bytes], labels: Sequence[str]) -> Cost:
    """Tick until all events are done, and time only the ticks."""
    topics = topic_names(config)
    transport.append_all([OutputRecord(topics.events, 0, None, value) for value in values])
    daemon, _ = daemon_over(config, transport)
    daemon.start()
    gc.collect()
    gc.freeze()
    cpu = wall = 0.0
    done = at = 0
    while done < len(values):
        cpu_began, wall_began = time.process_time(), time.perf_counter()
        done += daemon.tick()
        cpu, wall = cpu + time.process_time() - cpu_began, wall + time.perf_counter() - wall_began
        asked = transport.read(topics.requests, 0, at, 10_000)
        at = asked[-1].offset + 1 if asked else at
        transport.append_all(
            [
                OutputRecord(
                    topics.labels, 0, None, b'{"request":"%s","label":"%s"}' % (key, labels[int(key[2:])].encode())
                )
                for key in (request.key for request in asked if request.value is not None)
                if key is not None
            ]
        )
    return Cost(cpu / len(values) * 1e6, wall / len(values) * 1e6)
