"""streamal on Kafka beside the bare pipe, the loop by hand and Quix Streams, each with both clients where it can."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from benchmarks import kafka_quix
from benchmarks.kafka_world import CLIENTS, MODELS, Cluster, Run, World
from benchmarks.peers import measure
from benchmarks.results import Result, Table, Target, machine, run_isolated

_OF_THE_PIPE = {"kafka-python": 0.75, "confluent": 0.50}
_OF_BY_HAND = {"kafka-python": 1.15, "confluent": 2.0}
_OF_QUIX = 2.0
_OF_VW = 1.5
_VW = "Vowpal Wabbit's daemon, one by one, no Kafka"
Key = tuple[str, str]


def kafka(cluster: Cluster, events: int, repetitions: int) -> Result:
    """Return events per second of each, in turns."""
    found, left_out = machine(), dict[str, str]()
    whats: list[Key] = [(client, what) for client in CLIENTS for what in ("pipe", "streamal", "by hand")]
    if kafka_quix.installed():
        whats.append(("confluent", "Quix Streams"))
    else:
        left_out["Quix Streams"] = "it is not installed; pip install quixstreams"
    runs: dict[Key, list[Run]] = {key: [] for key in whats}
    vw: list[float] = []
    for _ in range(repetitions):
        for client, what in whats:
            runs[client, what].append(World(cluster, client, MODELS["linear"]).measure(what, events, workers=1))
        if _VW not in left_out:
            try:
                vw.append(1e6 / run_isolated(measure, "VwDaemon", min(events, 10_000)).wall_us)
            except ImportError as error:
                left_out[_VW] = f"{error}; pip install vowpalwabbit"
    rows = [_row(client, what, each, runs) for (client, what), each in runs.items()]
    if vw:
        rows.append(["none", _VW, f"{median(vw):,.0f}", "", "", "", ""])
    columns = [
        "client",
        "what",
        "events/s (from - to)",
        "of the pipe",
        "of by hand",
        "worker µs/event",
        "broker µs/event",
    ]
    return Result(
        "kafka",
        "Through Kafka",
        "One worker, one partition, 8 numbers, scaler and logistic regression that have learned 500 examples, in "
        "transactions of 500 events, read committed; nobody answers. The bare pipe is consume, JSON, produce. By hand "
        "is pydantic, River's EntropySampler and a metric by name for each event inside of that pipe; Quix Streams "
        "(exactly-once, commit_every = 500) runs the same sampler. Broker, worker and probe share the machine.",
        [Table("Events that wait are worked off", columns, rows)],
        _targets(runs, vw),
        left_out,
        bars={
            f"Kafka, {client}: {what}": median(run.client_us for run in each) for (client, what), each in runs.items()
        },
        machine=found,
    )


def _row(client: str, what: str, each: list[Run], runs: Mapping[Key, list[Run]]) -> list[str]:
    rates = sorted(run.rate for run in each)
    return [
        client,
        what,
        f"{median(rates):,.0f} ({rates[0]:,.0f} - {rates[-1]:,.0f})",
        f"{_times(each, runs[client, 'pipe']):.2f}",
        f"{_times(each, runs[client, 'by hand']):.2f}",
        f"{median(run.client_us for run in each):.0f}",
        f"{median(run.broker_us for run in each):.0f}",
    ]


def _times(each: list[Run], base: list[Run]) -> float:
    """Return how many times the throughput of *base* that is, the median over the repetitions."""
    return median(run.rate / other.rate for run, other in zip(each, base, strict=True))


def _targets(runs: Mapping[Key, list[Run]], vw: list[float]) -> list[Target]:
    found = []
    for client in CLIENTS:
        ours = runs[client, "streamal"]
        for what, least in (("pipe", _OF_THE_PIPE[client]), ("by hand", _OF_BY_HAND[client])):
            found.append(_target(f"{client}: throughput against {what}", least, _times(ours, runs[client, what])))
    ours = runs["confluent", "streamal"]
    if ("confluent", "Quix Streams") in runs:
        quix = _times(ours, runs["confluent", "Quix Streams"])
        found.append(_target("confluent: throughput against Quix Streams exactly-once", _OF_QUIX, quix))
    if vw:
        times = median(run.rate / other for run, other in zip(ours, vw, strict=True))
        found.append(_target("confluent: throughput against Vowpal Wabbit's daemon asked one by one", _OF_VW, times))
    return found


def _target(what: str, least: float, times: float) -> Target:
    return Target(what, f"≥ {least:.2f} ×", f"{times:.2f} ×", times >= least)
