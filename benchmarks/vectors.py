"""The cost of an event that is one vector: the core from bytes to bytes, beside decoding its JSON and the products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np

from benchmarks.core_loop import Loop
from benchmarks.results import Result, Table, Target, cpu_us, interleave, machine, ratio
from streamal.config import Config, load_config

LENGTHS = (384, 1_536)
_LEARNED_EVERY = 10
_COST_MAX = 2.0
_BATCHES = (500, 100)


class _Features(msgspec.Struct):
    embedding: list[float]


class _Event(msgspec.Struct):
    features: _Features
    id: str | None = None


def make_vectors(count: int, length: int) -> tuple[list[bytes], list[str]]:
    """Return events of one unit vector as JSON, in single precision as embedders give them, and their labels."""
    rng = np.random.default_rng(1)
    direction = rng.normal(size=length)
    rows = rng.normal(size=(count, length))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    values = [
        msgspec.json.encode({"id": str(number), "features": {"embedding": row.astype(np.float32).tolist()}})
        for number, row in enumerate(rows)
    ]
    return values, ["yes" if each > 0.0 else "no" for each in rows @ direction]


def vector_config(length: int, **more: object) -> Config:
    """Return the default configuration for such events; a tenth is asked."""
    wanted: dict[str, object] = {
        "features.declared": f'{{ embedding = "vector({length})" }}',
        "labels.classes": '["no", "yes"]',
        "budget.share": 0.1,
        "limits.open_requests": 1_000_000,
        "limits.open_bytes": 10_000_000_000,
        **more,
    }
    return load_config(None, [f"{key}={value}" for key, value in wanted.items()])


def streamal(values: Sequence[bytes], labels: Sequence[str], length: int, batch: int) -> Callable[[], object]:
    """Return the production core over *values*: a tenth is asked, answered at once and learned."""
    loop = Loop(vector_config(length), batch)
    return lambda: loop.work(values, labels)


def bare(values: Sequence[bytes], labels: Sequence[str], length: int) -> Callable[[], object]:
    """Return what no program can do without: the JSON decoded, one product an event, a gradient step in every tenth."""
    decode = msgspec.json.Decoder(_Event).decode
    weights = np.zeros(length)

    def run() -> None:
        for number, value in enumerate(values):
            x = np.array(decode(value).features.embedding)
            p = 1.0 / (1.0 + math.exp(-float(weights @ x)))
            if number % _LEARNED_EVERY == 0:
                np.subtract(weights, 3.0 * (p - (labels[number] == "yes")) * x, out=weights)

    return run


def _core_us(length: int, batch: int, values: Sequence[bytes], labels: Sequence[str]) -> float:
    return cpu_us(streamal(values, labels, length, batch), len(values))


def _bare_us(length: int, values: Sequence[bytes], labels: Sequence[str]) -> float:
    return cpu_us(bare(values, labels, length), len(values))


def measure_vectors(events: int, repetitions: int) -> Result:
    """Return what an event of one vector costs, for each length."""
    found, rows, targets, bars = machine(), [], [], {}
    for length in LENGTHS:
        values, labels = make_vectors(events, length)
        measures = {
            f"streamal, batches of {batch}": partial(_core_us, length, batch, values, labels) for batch in _BATCHES
        }
        measures["bare"] = partial(_bare_us, length, values, labels)
        times = interleave(measures, repetitions)
        for name, each in times.items():
            cost = ratio(each, times["bare"])
            rows.append([str(length), name, f"{np.median(each):.1f}", f"{cost:.2f}"])
            bars[f"vector of {length}: {name}"] = float(np.median(each))
            if name != "bare":
                what = f"{length} numbers, {name}, cost of JSON and products"
                targets.append(Target(what, f"≤ {_COST_MAX:g} ×", f"{cost:.2f} ×", cost <= _COST_MAX))
    return Result(
        "vectors",
        "One vector an event",
        "From an event's bytes to a prediction's bytes: one vector of 384 or 1,536 numbers, the default model, 10 % "
        "asked, answered at once and learned. Bare is msgspec's decoding with the exact type, one NumPy array and one "
        "product an event, and a gradient step in every tenth: no request, no log, no prediction written.",
        [Table("No transport", ["numbers", "what", "µs/event (CPU)", "× bare"], rows)],
        targets,
        bars=bars,
        machine=found,
    )
