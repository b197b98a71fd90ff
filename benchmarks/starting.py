"""From the start of the process to ready; and the time and size of a snapshot, model by model."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.core_loop import Case, Loop, as_records
from benchmarks.kafka_restart import free_port, seconds_until_ready
from benchmarks.results import Result, Table, machine
from streamal.core.frozen import freeze, thaw

_BATCH = 500
_STARTS = {
    "the interpreter": "pass",
    "… and River": "import river.linear_model, river.preprocessing, river.compose",
    "… and streamal": "import streamal.cli.app",
}


def start(labels: int, repetitions: int) -> Result:
    """Return seconds until ready over SQLite, and what freezing and thawing cost after so many *labels*."""
    found = machine()
    rows = [[name, _seconds(repetitions, [sys.executable, "-c", code])] for name, code in _STARTS.items()]
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
        times = [seconds_until_ready(overrides) for _ in range(repetitions)]
    rows.append(["`streamal run`, a new SQLite file or its own, until /readyz", f"{median(times):.2f}"])
    models = ("linear", "naive Bayes", "Hoeffding tree", "adaptive random forest of 10", "text")
    return Result(
        "start",
        "Start and snapshots",
        "Wall time. A restart folds what was learned since the last snapshot; with 100,000 examples on Kafka that is "
        "in `python -m benchmarks.kafka restart`.",
        [
            Table("From the start of the process", ["", "seconds"], rows),
            Table(
                f"A snapshot after about {labels:,} labels",
                ["model", "kB", "freeze ms", "thaw ms"],
                [[name, *_snapshot(Case(name), labels, repetitions)] for name in models],
                "The whole fold: the model, the closed requests, what quality is measured over, the canary's copy.",
            ),
        ],
        machine=found,
    )


def _seconds(repetitions: int, command: list[str]) -> str:
    times = []
    for _ in range(repetitions):
        began = time.monotonic()
        subprocess.run(command, check=True)
        times.append(time.monotonic() - began)
    return f"{median(times):.2f}"


def _snapshot(case: Case, labels: int, repetitions: int) -> tuple[str, str, str]:
    """Return kilobytes, and milliseconds to freeze and to thaw."""
    rows, truths = case.events(_BATCH)
    values, loop = as_records(rows), Loop(case.config(**{"budget.share": 0.5}), _BATCH)
    while loop.fold.version.records < labels:
        loop.work(values, truths)
    data, froze, thawed = b"", [], []
    for _ in range(repetitions):
        began = time.perf_counter()
        data = freeze(loop.fold, "")
        froze.append(time.perf_counter() - began)
        began = time.perf_counter()
        assert thaw(data, "") is not None
        thawed.append(time.perf_counter() - began)
    return f"{len(data) / 1e3:,.0f}", f"{median(froze) * 1e3:.1f}", f"{median(thawed) * 1e3:.1f}"
