"""From the start of the process to ready; and the time and size of a snapshot, model by model."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.core_loop import Case, Loop, as_records
from benchmarks.kafka_restart import free_port, seconds_until_ready
from benchmarks.results import Result, Table, machine
from streamal.core.snapshot import decode_snapshot, encode_snapshot

_BATCH = 500
_STARTS = {
    "the interpreter": "pass",
    "… and River": "import river.linear_model, river.preprocessing, river.compose",
    "… and streamal": "import streamal.cli.app",
}


def start(labels: int, repetitions: int) -> Result:
    """Return seconds until ready over SQLite, and what freezing and thawing cost after so many *labels*."""
    found = machine()
    rows = [
        [name, *_measure_start(repetitions, lambda code=code: _run(code))]  # type: ignore[misc]
        for name, code in _STARTS.items()
    ]
    with TemporaryDirectory() as directory:
        config = Case().config()
        declared = ", ".join(f'{name} = "{kind}"' for name, kind in config.features.declared.items())
        overrides = [
            f"transport.path={Path(directory) / 'streamal.db'}",
            f"snapshots.directory={Path(directory) / 'snapshots'}",
            f"features.declared={{ {declared} }}",
            'labels.classes=["c0", "c1"]',
            f"model.pipeline={Case().pipeline}",
            f"server.port={free_port()}",
        ]
        until_ready = _measure_start(repetitions, lambda: seconds_until_ready(overrides))
    rows.append(["`streamal run`, a new SQLite file or its own, until /readyz", *until_ready])
    models = ("linear", "naive Bayes", "Hoeffding tree", "adaptive random forest of 10", "text")
    return Result(
        "start",
        "Start and snapshots",
        "By the clock. A restart folds what was learned since the last snapshot; over 100,000 examples on Kafka: see "
        "`python -m benchmarks.kafka_commands restart`.",
        [
            Table("From the start of the process", ["", "seconds", "of the processor"], rows),
            Table(
                f"A snapshot after about {labels:,} labels",
                ["model", "kB", "freeze ms", "thaw ms"],
                [[name, *_snapshot(Case(name), labels, repetitions)] for name in models],
                "The whole fold: the model, the closed requests, what quality is measured over, the canary's copy.",
            ),
        ],
        machine=found,
    )


def _measure_start(repetitions: int, start: Callable[[], float]) -> tuple[str, str]:
    """Return what *start* tells in seconds, and the CPU seconds of the process that it has started and ended."""
    walls, cpus = [], []
    for _ in range(repetitions):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(start())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(sum(after[:2]) - sum(before[:2]))
    return f"{median(walls):.2f}", f"{median(cpus):.2f}"


def _run(code: str) -> float:
    """Return how many seconds an interpreter takes to run *code*."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - began


def _snapshot(case: Case, labels: int, repetitions: int) -> tuple[str, str, str]:
    """Return kilobytes, and milliseconds to freeze and to thaw."""
    rows, truths = case.events(_BATCH)
    values, loop = as_records(rows), Loop(case.config(**{"budget.share": 0.5}), _BATCH)
    while loop.fold.books.version.records < labels:
        loop.work(values, truths)
    data, froze, thawed = b"", [], []
    for _ in range(repetitions):
        began = time.perf_counter()
        data = encode_snapshot(loop.fold, "")
        froze.append(time.perf_counter() - began)
        began = time.perf_counter()
        assert decode_snapshot(data, "") is not None
        thawed.append(time.perf_counter() - began)
    return f"{len(data) / 1e3:,.0f}", f"{median(froze) * 1e3:.1f}", f"{median(thawed) * 1e3:.1f}"
