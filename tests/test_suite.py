"""The benchmark suite: ours and the others' on one recording, the others at whatever they spend."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import opponents, suite
from benchmarks.opponents import Outcome
from streamal.config import Config
from streamal.replay import Stream
from tests.recorded import easy_stream


@dataclass(frozen=True)
class Oracle:
    """An opponent that spends its budget and is always right."""

    name: str = "oracle"
    budgeted: bool = True

    def run(self, stream: Stream, config: Config, budget: float, seed: int) -> Outcome:
        """Say so."""
        del stream, config, seed
        return Outcome(budget, 1.0)


def recording(directory: Path, count: int) -> Path:
    """Write easy.csv into *directory* and return that."""
    with (directory / "easy.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x1", "x2", "y"])
        rows = easy_stream(count).rows
        writer.writerows([row.features["x1"], row.features["x2"], row.label] for row in rows)
    return directory


def lines_of(directory: Path, arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Run the suite on easy.csv; return its lines, and what it says beside them."""
    app = typer.Typer()
    app.command()(suite.main)
    common = "--streams easy.csv --label y --strategies variable --seeds 1 --workers 0"
    done = CliRunner().invoke(app, [str(directory), *common.split(), *arguments.split()])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], done.stderr


def test_the_suite_compares_at_the_spend_that_the_sampler_reaches(tmp_path: Path) -> None:
    """River's sampler has no budget: it is run first, and streamal at the very share that it has spent."""
    lines, _ = lines_of(recording(tmp_path, 200), "--budgets 0.1")
    river = next(line for line in lines if line["arm"] == "river EntropySampler")
    assert 0 < river["share"] < 1
    budgets = {line["budget"] for line in lines if line["arm"] == "variable"}
    assert sorted(budgets) == sorted([0.1, round(river["share"], 4)])
    assert {"all labels", "random", "no change", "majority"} < {line["arm"] for line in lines}


def test_an_opponent_with_a_budget_meets_every_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run at each budget of the table, and ours are not run again at what it has spent."""
    monkeypatch.setattr(suite, "OPPONENTS", [Oracle()])
    lines, _ = lines_of(recording(tmp_path, 60), "--budgets 0.1,0.2")
    assert [line["share"] for line in lines if line["arm"] == "oracle"] == [0.1, 0.2]
    assert [line["budget"] for line in lines if line["arm"] == "variable"] == [0.1, 0.2]


def test_who_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-activeml the suite runs all the same, and says how to have it."""
    monkeypatch.setattr(suite, "OPPONENTS", [Oracle()])
    monkeypatch.setattr(suite, "LEFT_OUT", opponents.missing_opponents(installed=False))
    lines, said = lines_of(recording(tmp_path, 60), "--budgets 0.1")
    assert "scikit-activeml is left out" in said
    assert lines


@pytest.mark.slow
def test_scikit_activeml_asks_as_much_as_its_budget(tmp_path: Path) -> None:
    """Each of its strategies in the suite runs, with the share that it was given and what its window lets through.

    Slow, for it needs what only the extra ``benchmarks`` brings.
    """
    pytest.importorskip("skactiveml")
    lines, said = lines_of(recording(tmp_path, 300), "--budgets 0.2")
    theirs = [line for line in lines if line["arm"].startswith("scikit-activeml")]
    assert not said
    assert len(theirs) == 4
    assert all(0.05 < line["share"] < 0.35 and line["accuracy"] > 0.5 for line in theirs)
