"""Events of one vector through Kafka: streamal beside the bare pipe with the same bytes, with both clients."""

from __future__ import annotations

from statistics import median

import numpy as np

from benchmarks.kafka_world import CLIENTS, Cluster, Run, World
from benchmarks.results import Result, Table, Target, machine
from streamal.core.records import FeatureValue

_LENGTH = 384
_OF_THE_PIPE = 0.7


class VectorWorld(World):
    """Six topics of events with a unit vector each, and the default model."""

    def __init__(self, cluster: Cluster, client: str) -> None:
        """Draw the direction in which the labels lie."""
        more = {"features.declared": f'{{ embedding = "vector({_LENGTH})" }}'}
        super().__init__(cluster, client, "[]", 1, **more)
        self._rng = np.random.default_rng(1)
        self._direction = self._rng.normal(size=_LENGTH)

    def event(self) -> tuple[dict[str, FeatureValue], str]:
        """Return an event in single precision, as embedders give it, and its label."""
        vector = self._rng.normal(size=_LENGTH)
        vector /= np.linalg.norm(vector)
        return {"embedding": vector.astype(np.float32).tolist()}, "yes" if vector @ self._direction > 0.0 else "no"


def kafka_vectors(cluster: Cluster, events: int, repetitions: int) -> Result:
    """Return events per second of each, in turns."""
    found, keys = machine(), [(client, what) for client in CLIENTS for what in ("pipe", "streamal")]
    runs: dict[tuple[str, str], list[Run]] = {key: [] for key in keys}
    for _ in range(repetitions):
        for client, what in keys:
            runs[client, what].append(VectorWorld(cluster, client).measure(what, events, workers=1))
    rows, targets = [], []
    for (client, what), each in runs.items():
        base = runs[client, "pipe"]
        times = median(run.rate / other.rate for run, other in zip(each, base, strict=True))
        rates = sorted(run.rate for run in each)
        shown = f"{median(rates):,.0f} ({rates[0]:,.0f} - {rates[-1]:,.0f})"
        rows.append([client, what, shown, f"{times:.2f}", f"{median(run.client_us for run in each):.0f}"])
        if what != "pipe":
            target = f"{client}: throughput of {_LENGTH} numbers against the pipe"
            targets.append(Target(target, f"≥ {_OF_THE_PIPE:.2f} ×", f"{times:.2f} ×", times >= _OF_THE_PIPE))
    return Result(
        "kafka-vectors",
        "Vectors through Kafka",
        f"One worker, one partition, one vector of {_LENGTH} numbers in each event, the default model, which has "
        "learned 500 examples; read committed; nobody answers. The bare pipe is consume, JSON, produce, with the same "
        "bytes.",
        [
            Table(
                "Events that wait are worked off",
                ["client", "what", "events/s (from - to)", "of the pipe", "worker µs/event"],
                rows,
            )
        ],
        targets,
        machine=found,
    )
