"""Every benchmark behind `benchmarks/RESULTS.md`: each command prints a table of ratios out of one run.

    python -m benchmarks growth       # one of them; --help lists all
    python -m benchmarks page         # RESULTS.md and its picture out of the results so far
    python -m benchmarks all          # every one of them with its defaults, then the page: half an hour

Contestants take turns, several times; what counts is the median of the ratios, in CPU time. A result replaces
benchmarks/results/NAME.json, which the page is made from. What others need is in the extra ``benchmarks``.
Workers, latency and restart on Kafka: ``python -m benchmarks.kafka_commands``; strategies: `suite`, `activeml`,
`accuracy`.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from benchmarks import engine_table, kafka_peers, process, scraping, starting
from benchmarks import growth as growth_benchmark
from benchmarks import kafka_vectors as kafka_vectors_benchmark
from benchmarks import memory as memory_benchmark
from benchmarks import page as results_page
from benchmarks import peers as peers_benchmark
from benchmarks import recordings as recordings_benchmark
from benchmarks import transports as transports_benchmark
from benchmarks import vectors as vectors_benchmark
from benchmarks.kafka_commands import Bootstrap, cluster
from benchmarks.results import save

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
Events = Annotated[int, typer.Option(min=1_000, help="Events of one measurement.")]
Repetitions = Annotated[int, typer.Option(min=1, help="The median of so many is shown.")]


@app.command()
def engine(events: Events = 10_000, repetitions: Repetitions = 7) -> None:
    """The engine alone, beside the loop by hand and the bare parts."""
    save(engine_table.measure_engine(events, repetitions))


@app.command()
def vectors(events: Events = 3_000, repetitions: Repetitions = 7) -> None:
    """One vector an event, beside decoding its JSON and the bare products."""
    save(vectors_benchmark.measure_vectors(events, repetitions))


@app.command()
def growth(events: Events = 5_000, repetitions: Repetitions = 5) -> None:
    """Cost against features, classes, models and open requests, beside River alone."""
    save(growth_benchmark.growth(events, repetitions))


@app.command()
def overhead(events: Events = 8_000, repetitions: Repetitions = 5) -> None:
    """The overhead of streamal with trees and forests."""
    save(growth_benchmark.overhead(events, repetitions))


@app.command()
def memory(
    early: Annotated[int, typer.Option(help="Events before the first look.")] = 200_000,
    late: Annotated[int, typer.Option(help="Events before the second.")] = 2_000_000,
    forged: Annotated[int, typer.Option(help="Names that nobody declared.")] = 100_000,
) -> None:
    """Resident memory over millions of events, and under forged feature names."""
    save(memory_benchmark.memory(early, late, forged))


@app.command()
def transports(events: Events = 20_000, repetitions: Repetitions = 5) -> None:
    """The same daemon over nothing, memory and SQLite."""
    save(transports_benchmark.measure_transports(events, repetitions))


@app.command()
def scrape(
    window_s: Annotated[float, typer.Option(min=1.0, help="Seconds of each look.")] = 10.0, repetitions: Repetitions = 5
) -> None:
    """GET /metrics under full load, and what it costs the loop."""
    save(scraping.scrape(window_s, repetitions))


@app.command()
def start(
    labels: Annotated[int, typer.Option(min=500, help="Learned before the snapshot.")] = 2_000,
    repetitions: Repetitions = 5,
) -> None:
    """From the start to ready, and the time and size of a snapshot of each model."""
    save(starting.start(labels, repetitions))


@app.command()
def recordings(
    rows: Annotated[int, typer.Option(min=1_000, help="Rows of the recording.")] = 50_000, repetitions: Repetitions = 5
) -> None:
    """Reading a clean recording, beside the plainest loop."""
    save(recordings_benchmark.read_recordings(rows, repetitions))


@app.command()
def peers(events: Events = 20_000, repetitions: Repetitions = 5) -> None:
    """The core beside Vowpal Wabbit, CapyMOA, scikit-activeml and the loop by hand."""
    save(peers_benchmark.peers(events, repetitions))


@app.command()
def kafka(events: Events = 20_000, repetitions: Repetitions = 5, bootstrap: Bootstrap = None) -> None:
    """Through Kafka: the bare pipe, streamal, the loop by hand, Quix Streams, with both clients."""
    with cluster(bootstrap) as found:
        save(kafka_peers.kafka(found, events, repetitions))


@app.command()
def kafka_vectors(events: Events = 5_000, repetitions: Repetitions = 5, bootstrap: Bootstrap = None) -> None:
    """Through Kafka, one vector of 384 numbers an event: the bare pipe and streamal, with both clients."""
    with cluster(bootstrap) as found:
        save(kafka_vectors_benchmark.kafka_vectors(found, events, repetitions))


@app.command()
def page() -> None:
    """RESULTS.md and its picture, from the results so far."""
    results_page.write()


@app.command(name="all")
def everything() -> None:
    """All of them, each in a process of its own, and then the page."""
    for name in results_page.ORDER:
        subprocess.run([sys.executable, "-m", "benchmarks", name], check=True)
    results_page.write()


if __name__ == "__main__":
    process.run(app)
