"""The result of a benchmark: a file for the page, and a table on the screen."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import ParamSpec, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table as Screen

DIRECTORY = Path(__file__).with_name("results")
"""One file for each benchmark, NAME.json."""
_LIBRARIES = (
    "river",
    "msgspec",
    "numpy",
    "pydantic",
    "kafka-python",
    "confluent-kafka",
    "quixstreams",
    "scikit-activeml",
    "scikit-learn",
    "vowpalwabbit",
    "capymoa",
)


Given = ParamSpec("Given")
Found = TypeVar("Found")


class Table(msgspec.Struct):
    """Cells as they are to be read; *note* says under the table what a reader must know."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""


class Target(msgspec.Struct):
    """A number that was to be reached, and whether it was."""

    what: str
    wanted: str
    found: str
    reached: bool


class Result(msgspec.Struct):
    """All that one command has found.

    Attributes:
        name: the command's, and the file's.
        title: the heading on the page.
        meaning: what the numbers mean, a paragraph.
        left_out: whom it could not measure -> why, and how to get it.
        bars: what the picture shows of it: label -> CPU microseconds of an event.
        machine: where and under which load it was taken.
    """

    name: str
    title: str
    meaning: str
    tables: list[Table]
    targets: list[Target] = []
    left_out: dict[str, str] = {}
    bars: dict[str, float] = {}
    machine: dict[str, str] = {}


def interleave(measures: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """Return the values of each of *measures*, which take turns: a slow minute of the machine affects all alike."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repetitions):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of what *times* are of *base*, repetition by repetition."""
    return median(each / one for each, one in zip(times, base, strict=True))


def cpu_us(run: Callable[[], object], events: int) -> float:
    """Return the processor's microseconds for each of so many events; the collector is where the daemon has it."""
    gc.collect()
    gc.freeze()  # as after the daemon's start
    began = time.process_time()
    run()
    return (time.process_time() - began) / events * 1e6


def run_isolated(function: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs) -> Found:
    """Call *function*, which must stand in a module, in a fresh process, and return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def machine() -> dict[str, str]:
    """Return what this is taken on, now; no name and no path of it."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "taken": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "processor": f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def save(result: Result) -> None:
    """Write the result down for the page, and print it."""
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{result.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    show(result)


def load(directory: Path = DIRECTORY) -> dict[str, Result]:
    """Return all results that are there, by name."""
    return {path.stem: msgspec.json.decode(path.read_bytes(), type=Result) for path in sorted(directory.glob("*.json"))}


def show(result: Result) -> None:
    """Print tables, targets and whom it left out."""
    console = Console(width=140)
    for table in result.tables:
        screen = Screen(*table.columns, title=table.title, title_justify="left")
        for row in table.rows:
            screen.add_row(*row)
        console.print(screen)
        if table.note:
            console.print(table.note, markup=False)
    for target in result.targets:
        verdict = "reached" if target.reached else "MISSED"
        console.print(f"{verdict}: {target.what}: {target.wanted}; found {target.found}", markup=False)
    for peer, reason in result.left_out.items():
        console.print(f"left out: {peer}: {reason}", markup=False)
    console.print(", ".join(f"{key} {value}" for key, value in result.machine.items()), markup=False)
