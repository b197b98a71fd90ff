"""The suite behind the table of docs/replay.md: strategies × budgets on recorded streams, against others' samplers.

    python -m benchmarks.suite DATA_DIR
    python -m benchmarks.suite DATA_DIR --streams mails,elec --budgets 0.05,0.1 --seeds 5 --markdown
    python -m benchmarks.suite . --streams my.csv --label y --time t

DATA_DIR holds the public streams as NAME.csv.gz (`KNOWN` says how each is read); any other file of it is taken with
--label. One JSON line for each arm and budget: mean and standard deviation over the seeds of the coins, of all events
(prequential). scikit-activeml's side needs the extra `benchmarks`, and is left out without it; it costs
milliseconds an event, which --limit bounds. An opponent without a budget (River's EntropySampler) is run first, and
streamal then at whatever share it has happened to spend.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from benchmarks.opponents import LEFT_OUT, OPPONENTS
from streamal.cli.experiment_options import ProgressLine, split_names
from streamal.cli.options import with_options
from streamal.config import Config, load_config
from streamal.experiments import Execution, Grid, compare
from streamal.replay import Stream, read_stream

KNOWN: dict[str, dict[str, Any]] = {
    "mails": {"label": "label", "time": "time"},
    "noaa_weather": {"label": "rain"},
    "elec": {"label": "class"},
    "flights": {"label": "delay15", "time": "event_time", "label_time": "label_time", "drop": ["outcome"]},
    "gas_sensor_drift": {"label": "gas"},
    "outdoor": {"label": "target"},
}
STRATEGIES = "randomised_variable,variable,quantile,split,selective"


class Line(NamedTuple):
    """A row of the table."""

    stream: str
    arm: str
    budget: float
    share: float
    accuracy: float
    accuracy_sd: float
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a stream that `KNOWN` does not name."""

    label: Annotated[str | None, typer.Option(help="Of streams that are not known.")] = None
    time: Annotated[str | None, typer.Option()] = None
    label_time: Annotated[str | None, typer.Option()] = None
    drop: Annotated[str, typer.Option()] = ""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `read_stream` that are given."""
        given = {"label": self.label, "time": self.time, "label_time": self.label_time, "drop": split_names(self.drop)}
        return {key: value for key, value in given.items() if value}


def read(directory: Path, name: str, columns: Columns, limit: int | None) -> Stream:
    """Return the stream NAME(.csv.gz) of *directory*, read as *columns* or else `KNOWN` says."""
    path = directory / name if (directory / name).exists() else directory / f"{name}.csv.gz"
    return read_stream(str(path), **{**KNOWN.get(name, {}), **columns.arguments()}, limit=limit)


def opponents(stream: Stream, name: str, config: Config, budgets: Sequence[str], seeds: int, cores: int) -> list[Line]:
    """Return a line for each opponent and budget."""
    lines = []
    with ProcessPoolExecutor(cores or 1) as pool:
        mapped = pool.map if cores else map
        for opponent in OPPONENTS:
            for budget in map(float, budgets) if opponent.budgeted else [1.0]:
                runs = list(mapped(partial(opponent.run, stream, config, budget), range(1, seeds + 1)))
                values = [run.accuracy for run in runs]
                lines.append(
                    Line(
                        name, opponent.name, budget, fmean(run.share for run in runs), fmean(values), sd(values), seeds
                    )
                )
    return lines


def ours(
    stream: Stream, name: str, config: Config, strategies: Sequence[str], budgets: Sequence[str], seeds: int, cores: int
) -> Iterator[Line]:
    """Yield a line for each strategy and budget, and for the baselines."""
    grid = Grid(strategies=strategies, budgets=budgets, seeds=seeds)
    with ProgressLine(name) as line:
        result = compare(stream, config, grid, execution=Execution(workers=cores, progress=line.update))
    for row in result.summaries():
        yield Line(name, row.arm, row.budget, row.share, row.value, row.sd, row.seeds)
    yield Line(name, "no change", 1.0, 1.0, result.baselines.no_change, 0.0, 1)
    yield Line(name, "majority", 0.0, 0.0, result.baselines.majority, 0.0, 1)


def sd(values: Sequence[float]) -> float:
    """Return the standard deviation, 0 of one value."""
    return stdev(values) if len(values) > 1 else 0.0


def markdown(lines: Sequence[Line]) -> str:
    """Return the lines as a table."""
    rows = [
        f"| {line.stream} | {line.arm} | {line.budget:.3g} | {line.share:.1%} "
        f"| {line.accuracy:.3f} ± {line.accuracy_sd:.3f} |"
        for line in lines
    ]
    return "\n".join(["| stream | asks | budget | spent | accuracy |", "|---|---|---|---|---|", *rows])


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The arms that run on every stream."""

    budgets: Annotated[str, typer.Option(metavar="B,…")] = "0.05,0.1,0.2"
    strategies: Annotated[str, typer.Option(metavar="A,…")] = STRATEGIES
    seeds: Annotated[int, typer.Option(min=1)] = 5
    workers: Annotated[int, typer.Option(min=0, help="0: this process.")] = os.cpu_count() or 1


@with_options
def main(
    directory: Path,
    arms: Arms,
    columns: Columns,
    streams: Annotated[str, typer.Option(metavar="NAME,…")] = ",".join(KNOWN),
    limit: Annotated[int | None, typer.Option()] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Run the suite and print one JSON object a line, or a table."""
    config, seeds, workers = load_config(None, overrides or ()), arms.seeds, arms.workers
    wanted, shares = split_names(arms.strategies), split_names(arms.budgets)
    lines: list[Line] = []
    if LEFT_OUT:
        typer.echo(LEFT_OUT, err=True)
    for name in split_names(streams):
        stream = read(directory, name, columns, limit)
        theirs = opponents(stream, name, config, shares, seeds, workers)
        found = list(ours(stream, name, config, wanted, shares, seeds, workers))
        for line in theirs:
            reached = round(line.share, 4)
            if 0 < reached < 1 and line.budget == 1.0:
                same = ours(stream, name, config, wanted[:1], [str(reached)], seeds, workers)
                found += [row for row in same if row.budget == reached]
        lines += [*found, *theirs]
        if not as_markdown:
            for line in [*found, *theirs]:
                print(json.dumps(line._asdict()), flush=True)
    if as_markdown:
        Console().print(markdown(lines), markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
