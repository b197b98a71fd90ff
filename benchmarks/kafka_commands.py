"""The cost of streamal on a real Kafka, compared with the least that a program can do there: ratios from one run.

    python -m benchmarks.kafka_commands throughput      # one worker against the bare pipe, both clients
    python -m benchmarks.kafka_commands scaling         # two workers against one
    python -m benchmarks.kafka_commands latency         # from a reply to the first prediction that knows it
    python -m benchmarks.kafka_commands restart         # 100,000 examples, with a snapshot and without

Each starts a one-node broker of its own (see `tests.kafka_broker`) unless ``--bootstrap`` names one. The bare pipe is
consume → JSON → produce with the same client, batches of 500 and the same transactions, without a model.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import kafka_latency, kafka_restart, process
from benchmarks.kafka_world import CLIENTS, MODELS, Cluster, Run, World
from tests import kafka_broker

_PARTITIONS = 15
"""With the one of the labels they make 16: each of two workers has eight, so nearly half of the events."""

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)
Bootstrap = Annotated[str | None, typer.Option(help="A running broker; by default one is started.")]
Events = Annotated[int, typer.Option(min=1_000, help="Events of one measurement.")]
Repetitions = Annotated[int, typer.Option(min=1, help="The median of so many is shown.")]


@app.command()
def throughput(events: Events = 40_000, repetitions: Repetitions = 5, bootstrap: Bootstrap = None) -> None:
    """One worker: 8 numbers, scaler and logistic regression, 10 % asked, in transactions of 500 events."""
    runs: dict[tuple[str, str], list[Run]] = {}
    with cluster(bootstrap) as found:
        for _ in range(repetitions):
            for client in CLIENTS:
                for what in ("pipe", "streamal"):
                    run = World(found, client, MODELS["linear"]).measure(what, events, workers=1)
                    runs.setdefault((client, what), []).append(run)
    table = Table("client", "what", "events/s", "of the pipe", "client µs/event", "broker µs/event")
    for (client, what), found_runs in runs.items():
        ratio = statistics.median(
            run.rate / pipe.rate for run, pipe in zip(found_runs, runs[client, "pipe"], strict=True)
        )
        table.add_row(client, what, *figures(found_runs, f"{ratio:.2f}"))
    show(table)


@app.command()
def scaling(events: Events = 20_000, repetitions: Repetitions = 3, bootstrap: Bootstrap = None) -> None:
    """Two workers against one, with a light model and with one whose cost hides the broker's."""
    table = Table("client", "model", "workers", "events/s", "of one worker", "client µs/event", "broker µs/event")
    with cluster(bootstrap) as found:
        for client in CLIENTS:
            for name, pipeline in MODELS.items():
                count = events if name == "linear" else events // 4
                runs: dict[int, list[Run]] = {1: [], 2: []}
                for _ in range(repetitions):
                    for workers, kept in runs.items():
                        kept.append(World(found, client, pipeline, _PARTITIONS).measure("streamal", count, workers))
                for workers, kept in runs.items():
                    ratio = statistics.median(a.rate / b.rate for a, b in zip(kept, runs[1], strict=True))
                    table.add_row(client, name, str(workers), *figures(kept, f"{ratio:.2f}"))
    show(table)


@app.command()
def latency(
    replies: Annotated[int, typer.Option(min=10)] = 300, rate: float = 100.0, bootstrap: Bootstrap = None
) -> None:
    """From the reply's append to the arrival of the first committed prediction made with it, default settings."""
    table = Table("client", "replies", "p50 ms", "p90 ms", "p99 ms", "most ms")
    with cluster(bootstrap) as found:
        for client in CLIENTS:
            times = sorted(kafka_latency.measure(World(found, client, MODELS["linear"]), replies, rate))
            marks = [times[min(len(times) - 1, int(len(times) * part))] * 1e3 for part in (0.5, 0.9, 0.99, 1.0)]
            table.add_row(client, str(len(times)), *(f"{mark:.0f}" for mark in marks))
    show(table)


@app.command()
def restart(
    examples: Annotated[int, typer.Option(min=1_000)] = 100_000,
    repetitions: Repetitions = 3,
    bootstrap: Bootstrap = None,
) -> None:
    """Seconds from the start of `streamal run` to ready, and whether both ways lead to the same model."""
    table = Table("client", "examples", "with a snapshot s", "without s", "predictions that differ")
    with cluster(bootstrap) as found, TemporaryDirectory() as directory:
        for client in CLIENTS:
            world = World(found, client, MODELS["linear"])
            measured = kafka_restart.measure(world, examples, repetitions, Path(directory) / client)
            table.add_row(
                client, f"{examples:,}", f"{measured.warm_s:.1f}", f"{measured.cold_s:.1f}", str(measured.differ)
            )
    show(table)


@contextmanager
def cluster(bootstrap: str | None) -> Iterator[Cluster]:
    """Give the broker that is named, or one of our own."""
    if bootstrap:
        yield Cluster(bootstrap, ())
        return
    with kafka_broker.kafka() as started:
        yield Cluster(started.bootstrap, tuple(node.process.pid for node in started.nodes if node.process is not None))


def figures(runs: list[Run], ratio: str) -> tuple[str, ...]:
    """Return the cells of a row: medians over the repetitions, the rate with its extremes."""
    rates = sorted(run.rate for run in runs)
    return (
        f"{statistics.median(rates):,.0f} ({rates[0]:,.0f}-{rates[-1]:,.0f})",
        ratio,
        f"{statistics.median(run.client_us for run in runs):.0f}",
        f"{statistics.median(run.broker_us for run in runs):.0f}",
    )


def show(table: Table) -> None:
    """Print what was measured, and on what."""
    console = Console(width=120)
    console.print(table)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, medians")


if __name__ == "__main__":
    process.run(app)
