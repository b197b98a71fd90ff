"""The core beside other libraries of online and of active learning, each in a process of its own, in turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from benchmarks import contestants
from benchmarks.contestants import Contestant
from benchmarks.core_loop import Case, as_records
from benchmarks.results import Result, Table, Target, machine, ratio, run_isolated

_ACTIVEML_MIN = 100.0
_SLOW = {"Activeml": 20}
"""The number of events is divided by this."""


class Entry(NamedTuple):
    """A contestant: its class, what the table says of it, and how to get it."""

    made_by: str
    what: str
    package: str = ""


ENTRIES: Mapping[str, Entry] = {
    "streamal": Entry("Streamal", "scaler, logistic regression; asks, joins, logs"),
    "by hand": Entry("ByHand", "pydantic, River's EntropySampler, a metric by name for each event"),
    "Vowpal Wabbit, binding": Entry("Vw", "--active --loss_function logistic", "vowpalwabbit"),
    "Vowpal Wabbit, daemon": Entry("VwDaemon", "the same, asked one by one over loopback", "vowpalwabbit"),
    "CapyMOA, SGD": Entry("Moa", "logistic regression in MOA", "capymoa, and a Java 17"),
    "CapyMOA, naive Bayes": Entry("MoaBayes", "naive Bayes in MOA", "capymoa, and a Java 17"),
    "scikit-activeml": Entry("Activeml", "VariableUncertainty, SGDClassifier, partial_fit", "scikit-activeml"),
}


class Run(NamedTuple):
    """Microseconds of an event: CPU of all processes, and by the clock; and the share of right predictions."""

    cpu_us: float
    wall_us: float
    accuracy: float


def peers(events: int, repetitions: int) -> Result:
    """Return what an event costs with each that is installed."""
    found = machine()
    runs: dict[str, list[Run]] = {}
    left_out: dict[str, str] = {}
    for _ in range(repetitions):
        for name, entry in ENTRIES.items():
            if name in left_out:
                continue
            try:
                count = events // _SLOW.get(entry.made_by, 1)
                runs.setdefault(name, []).append(run_isolated(measure, entry.made_by, count))
            except ImportError as error:
                left_out[name] = f"{error}; pip install {entry.package}"
                runs.pop(name)
    base = [run.cpu_us for run in runs["streamal"]]
    rows = []
    for name, each in runs.items():
        times = [run.cpu_us for run in each]
        right = [run.accuracy for run in each if run.accuracy]
        rows.append(
            [
                name,
                ENTRIES[name].what,
                f"{1e6 / median(run.wall_us for run in each):,.0f}",
                f"{median(times):,.1f}",
                f"{ratio(times, base):.2f}",
                f"{median(right):.3f}" if right else "as the first",
            ]
        )
    columns = ["", "what it does", "events/s", "µs/event (CPU)", "× streamal", "accuracy"]
    return Result(
        "peers",
        "Beside others, without a transport",
        "From an event's JSON to a prediction's JSON, 8 numbers, two classes, one event after the other, a tenth "
        "learned. Every contestant decodes and encodes with msgspec; streamal alone also keeps to a budget, writes "
        "requests, joins replies, logs what it learns and keeps the state that a restart needs. CPU is that of all "
        "processes (of the Java machine's compiler too), accuracy that of all predictions, from the first on.",
        [Table("One event after the other", columns, rows)],
        _targets(runs, base),
        left_out,
        bars={name: median(run.cpu_us for run in each) for name, each in runs.items() if ENTRIES[name].package},
        machine=found,
    )


def _targets(runs: Mapping[str, list[Run]], base: list[float]) -> list[Target]:
    if "scikit-activeml" not in runs:
        return []
    times = ratio([run.cpu_us for run in runs["scikit-activeml"]], base)
    what = "scikit-activeml's stream loop with an incremental model"
    return [Target(what, f"≥ {_ACTIVEML_MIN:.0f} × the cost", f"{times:.0f} ×", times >= _ACTIVEML_MIN)]


def measure(made_by: str, events: int) -> Run:
    """Run one contestant; call this in a process of its own.

    Raises:
        ImportError: its library, or what that one needs, is not there.
    """
    rows, labels = Case().events(events)
    try:
        contestant: Contestant = getattr(contestants, made_by)(as_records(rows), labels)
    except ImportError as error:
        raise ImportError(str(error)) from None  # a plain one: it has to cross to the other process
    except Exception as error:
        if type(error).__module__.startswith(("capymoa", "jpype")):
            raise ImportError(f"{type(error).__name__}: {error}") from None
        raise
    gc.collect()
    gc.freeze()
    helpers, cpu, wall = contestant.helpers_s(), time.process_time(), time.perf_counter()
    contestant.run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu + contestant.helpers_s() - helpers
    contestant.close()
    right = sum(said == label for said, label in zip(contestant.predicted, labels, strict=False))
    return Run(cpu / events * 1e6, wall / events * 1e6, right / events)
