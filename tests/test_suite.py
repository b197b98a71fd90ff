"""The benchmark suite: ours and the others' on one recording, the others at whatever they spend."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from benchmarks import suite
from tests.recorded import easy_stream


def test_the_suite_compares_at_the_spend_that_the_sampler_reaches(tmp_path: Path) -> None:
    """River's sampler has no budget: it is run first, and streamal at the very share that it has spent."""
    stream = easy_stream(200)
    with (tmp_path / "easy.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x1", "x2", "y"])
        writer.writerows([row.features["x1"], row.features["x2"], row.label] for row in stream.rows)
    app = typer.Typer()
    app.command()(suite.main)
    arguments = "--streams easy.csv --label y --budgets 0.1 --strategies variable --seeds 1 --workers 0"
    done = CliRunner().invoke(app, [str(tmp_path), *arguments.split()])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    river = next(line for line in lines if line["arm"] == "river EntropySampler")
    assert 0 < river["share"] < 1
    budgets = {line["budget"] for line in lines if line["arm"] == "variable"}
    assert sorted(budgets) == sorted([0.1, round(river["share"], 4)])
    assert {"all labels", "random", "no change", "majority"} < {line["arm"] for line in lines}
