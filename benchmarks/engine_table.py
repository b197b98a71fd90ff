"""The contestants of `benchmarks.engine`, in turns, against what was to be reached."""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from unittest import mock

from benchmarks import engine
from benchmarks.results import Result, Table, Target, cpu_us, interleave, machine, ratio

_FIRST = "streamal, batches of 500"
_TAUGHT = "taught, batches of 500"
_ONE_BY_ONE = "taught, one prediction at a time"
_HUNDREDS = "taught, batches of 100"


def measure_engine(events: int, repetitions: int) -> Result:
    """Return what an event costs from bytes to bytes: the core, the loop by hand, the bare parts."""
    found = machine()
    values, labels = engine.make_events(events, 8)

    def one_by_one() -> float:
        # the number of events from which on a batch is predicted as columns: out of reach
        with mock.patch("streamal.core.learned._MANY", sys.maxsize, create=True):
            return cpu_us(engine.streamal(values, labels, 500, taught=True), events)

    measures: dict[str, Callable[[], float]] = {
        _FIRST: lambda: cpu_us(engine.streamal(values, labels, 500), events),
        _TAUGHT: lambda: cpu_us(engine.streamal(values, labels, 500, taught=True), events),
        _HUNDREDS: lambda: cpu_us(engine.streamal(values, labels, 100, taught=True), events),
        _ONE_BY_ONE: one_by_one,
        "by hand": lambda: cpu_us(engine.by_hand(values, labels), events),
        "bare parts": lambda: cpu_us(engine.bare_parts(values, labels), events),
    }
    times = interleave(measures, repetitions)
    rows = [[name, f"{median(each):.1f}", f"{ratio(each, times[_FIRST]):.2f}"] for name, each in times.items()]
    targets = []
    for name, least in ((_ONE_BY_ONE, 2.3), (_HUNDREDS, 4.0), (_FIRST, 2.3)):
        faster = ratio(times["by hand"], times[name])
        targets.append(Target(f"{name}, against by hand", f"≥ {least} ×", f"{faster:.2f} ×", faster >= least))
    for name in (_FIRST, _TAUGHT):
        cost = ratio(times[name], times["bare parts"])
        targets.append(Target(f"{name}, cost of the bare parts", "≤ 1.25 ×", f"{cost:.2f} ×", cost <= 1.25))
    return Result(
        "engine",
        "The engine alone",
        "From an event's bytes to a prediction's bytes, 8 numbers, scaler and logistic regression, 10 % learned. "
        "streamal is the whole core: decode, predict, decide within the budget, encode, join replies, fold what was "
        "learned and asked; taught, every tenth label goes straight to the model, as in the loop by hand. By hand is "
        "pydantic in and out, River's EntropySampler and a metric by name for each event. "
        "The bare parts are what no program can do without: msgspec, River's predict and learn, an argmax, the "
        "coins of both lanes, the encoded prediction; they predict one by one, streamal a batch as columns where it "
        "can, with the same result to the last bit.",
        [Table("No transport", ["what", "µs/event (CPU)", "× the first"], rows)],
        targets,
        bars={f"engine: {name}": median(each) for name, each in times.items()},
        machine=found,
    )
