"""Every benchmark behind `benchmarks/RESULTS.md`: each command prints a table of ratios out of one run.

    python -m benchmarks growth       # one of them; --help lists all
    python -m benchmarks page         # RESULTS.md and its picture out of the results so far

Contestants take turns, several times; what counts is the median of the ratios, in CPU time. A result replaces
benchmarks/results/NAME.json, which the page is made from. What others need is in the extra ``benchmarks``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Annotated

import typer

from benchmarks import growth as growing
from benchmarks.results import save

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
Events = Annotated[int, typer.Option(min=1_000, help="Events of one measurement.")]
Repetitions = Annotated[int, typer.Option(min=1, help="The median of so many is shown.")]


@app.command()
def growth(events: Events = 5_000, repetitions: Repetitions = 5) -> None:
    """Cost against features, classes, models and open requests, beside River alone."""
    save(growing.growth(events, repetitions))


@app.command()
def overhead(events: Events = 8_000, repetitions: Repetitions = 5) -> None:
    """What streamal adds to trees and forests."""
    save(growing.overhead(events, repetitions))


if __name__ == "__main__":
    if "PYTHONHASHSEED" not in os.environ:  # as `streamal` itself does: a snapshot is of one hash seed
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    multiprocessing.set_start_method("spawn")
    app()
