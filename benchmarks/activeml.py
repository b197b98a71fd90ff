"""Each strategy beside scikit-activeml's implementation of the same one (the extra ``benchmarks``).

    python -m benchmarks.activeml run cells.jsonl --stream elec.csv.gz:class --stream mails.csv.gz:label:time
    python -m benchmarks.activeml table cells.jsonl

A stream is PATH:LABEL[:TIME[:DROPPED,…]]. Both sides have the same default model (River, by way of `streamal`'s own
wrapper), the same smoothed probabilities to be unsure about, the same labelled events at the start and the same
budget; every answer comes at once and right, and nothing is audited. Ours asks at most B·(n + 100) of n events in
every prefix; theirs has the budget manager that it comes with, whose window lets 100·B through at once too. Features
for their distances are standardised over the whole stream at once, which ours cannot know.

A seed is of the coins, and of which tenth of the events is left out, on both sides alike: strategies without a coin
vary too. Finished cells are appended to the file and not run again, so that it may be interrupted; their side costs
milliseconds an event.
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, NamedTuple

import numpy as np
import sklearn
import typer
from skactiveml import stream as theirs
from skactiveml.base import SkactivemlClassifier
from skactiveml.stream.budgetmanager import BalancedIncrementalQuantileFilter

from streamal.bootstrap.model import build_model
from streamal.config import Config, load_config
from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.sampler import Budget, Sampler
from streamal.core.coins import EventCoins
from streamal.core.schema import Schema
from streamal.core.strategies import EventView, SamplingRules, build_strategy, requirements_of
from streamal.core.strategies.points import vectorise
from streamal.core.strategies.uncertainty import least_confidence, margin, smooth
from streamal.replay import Stream, read_stream
from streamal.replay.replay import stream_config

app = typer.Typer(add_completion=False)

_AT_THE_START = 100
"""Events whose budget ours begins with: as much as the window of their budget managers lets through at once."""
_KEPT = 500
"""Labelled examples that their `StreamProbabilisticAL` estimates frequencies from."""

STRATEGIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "random": ("random", {}),
    "periodic": ("periodic", {}),
    "fixed": ("fixed", {}),
    "variable": ("variable", {}),
    "randomised_variable": ("randomised_variable", {}),
    "split": ("split", {}),
    "quantile": ("quantile", {}),
    "density": ("density", {}),
    "cognitive.ran": ("cognitive", {"rule": "random"}),
    "cognitive.fixun": ("cognitive", {"rule": "fixed"}),
    "cognitive.varun": ("cognitive", {"rule": "variable"}),
    "cognitive.ranvarun": ("cognitive", {"rule": "randomised_variable"}),
    "probabilistic": ("probabilistic", {}),
}
"""The strategies that both libraries have, under our name and with our parameters."""

Ask = Callable[[int, Mapping[str, float], int], bool]
"""(number of the event, its smoothed probabilities, labels so far) -> whether to ask."""


class Cell(NamedTuple):
    """One run of one side."""

    stream: str
    budget: float
    strategy: str
    side: str
    seed: int


class Data:
    """Events of one stream, as both sides see them."""

    def __init__(self, stream: Stream, config: Config, left: Iterable[int] | None = None) -> None:
        """Take the events with the numbers *left*, or all; *config* is completed by what the stream tells."""
        self.config = stream_config(config, stream)
        rows = stream.rows if left is None else [stream.rows[i] for i in left]
        schema = Schema(stream.kinds)
        self.labels = [row.label for row in rows]
        self.features: list[Any] = [schema.select(row.features) for row in rows]
        self.classes = sorted(stream.classes)
        self._points: Any = None

    @classmethod
    def load(cls, spec: str, events: int, seed: int) -> Data:
        """Return the first *events* of the stream that *spec* names, without a tenth that *seed* chooses."""
        path, label, when, drop = (*spec.split(":"), "", "")[:4]
        stream = read_stream(path, label, when or None, drop=[name for name in drop.split(",") if name], limit=events)
        left = np.sort(np.random.default_rng(seed).permutation(len(stream.rows))[: len(stream.rows) * 9 // 10])
        return cls(stream, load_config(None, []), left)

    @property
    def points(self) -> Any:
        """The events as vectors: numbers standardised, missing ones in the middle, words hashed as ours are."""
        if self._points is None:
            rows = [vectorise(features) for features in self.features]
            names = sorted({name for numbers, _ in rows for name in numbers})
            table = np.array([[numbers.get(name, np.nan) for name in names] for numbers, _ in rows])
            table = table.reshape(len(rows), len(names))
            spread = np.nanstd(table, axis=0) if names else np.ones(0)
            middle = np.nanmean(table, axis=0) if names else np.zeros(0)
            table = np.nan_to_num((table - middle) / np.where(spread > 1e-12, spread, 1.0), nan=0.0)
            if any(words is not None for _, words in rows):
                width = next(len(words) for _, words in rows if words is not None)
                table = np.hstack([table, [np.zeros(width) if words is None else words for _, words in rows]])
            self._points = table
        return self._points


def ours(data: Data, cell: Cell) -> Ask:
    """Return our side of *cell*: the strategy behind the exact budget, without an audit lane or a burst."""
    name, parameters = STRATEGIES[cell.strategy]
    share, measure = Fraction(str(cell.budget)), margin if name == "density" else least_confidence
    floor = 0.0 if name == "density" else 1.0 / len(data.classes)
    rules = SamplingRules(name, float(share), floor, share=float(share), parameters=parameters)
    strategy = build_strategy(rules)
    partition_budget = Budget(share, Fraction(0), burst=20).partition_budget(0, 1)
    start = round(_AT_THE_START * share) * partition_budget.price
    sampler = Sampler(partition_budget, strategy, EventCoins(cell.seed), BudgetCounters(0, start, 0, 0), None, 0.0)
    requirements = requirements_of(strategy)
    memory = requirements.memory() if requirements.lookback else None

    def ask(i: int, probabilities: Mapping[str, float], examples: int) -> bool:
        score: Any = measure(probabilities)
        if requirements.score is not None:
            score = requirements.score(EventView(score, probabilities, data.features[i], i, examples, memory=memory))
        decision = sampler.decide(i, score)
        if memory is not None:
            memory.take(i, data.features[i])
        return decision.lane is not None

    return ask


class _Given(SkactivemlClassifier):  # type: ignore[misc]
    """Says what it is told: the model's smoothed probabilities of the present event."""

    def __init__(self, classes: Any = None) -> None:
        super().__init__(classes=classes)
        self.present: Any = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Given:  # noqa: ARG002, N803
        """Nothing to fit."""
        return self

    def predict_proba(self, X: Any, **kwargs: Any) -> Any:  # noqa: ARG002, N803
        """Return the probabilities of the present event."""
        return self.present


def _their_strategy(cell: Cell, classes: Sequence[str]) -> Any:
    common = {"budget": cell.budget, "random_state": cell.seed}
    codes = list(range(len(classes)))
    if cell.strategy == "quantile":
        return theirs.VariableUncertainty(
            budget_manager=BalancedIncrementalQuantileFilter(budget=cell.budget), **common
        )
    if cell.strategy == "probabilistic":
        return theirs.StreamProbabilisticAL(metric="rbf", **common)
    made: Mapping[str, Callable[..., Any]] = {
        "random": theirs.StreamRandomSampling,
        "periodic": theirs.PeriodicSampling,
        "fixed": lambda **given: theirs.FixedUncertainty(classes=codes, **given),
        "variable": theirs.VariableUncertainty,
        "randomised_variable": theirs.RandomVariableUncertainty,
        "split": theirs.Split,
        "density": theirs.StreamDensityBasedAL,
        "cognitive.ran": theirs.CognitiveDualQueryStrategyRan,
        "cognitive.fixun": lambda **given: theirs.CognitiveDualQueryStrategyFixUn(classes=codes, **given),
        "cognitive.varun": theirs.CognitiveDualQueryStrategyVarUn,
        "cognitive.ranvarun": theirs.CognitiveDualQueryStrategyRanVarUn,
    }
    return made[cell.strategy](**common)


class Their:
    """Their side of a cell."""

    def __init__(self, data: Data, cell: Cell) -> None:
        """Make the strategy, with its own budget manager."""
        self._data, self._cell = data, cell
        self._clf = _Given(list(range(len(data.classes))))
        self._strategy = _their_strategy(cell, data.classes)
        self._plain = cell.strategy in {"random", "periodic"}
        self._filtered = cell.strategy in {"quantile", "probabilistic"}
        self.learned: list[int] = []

    def __call__(self, i: int, probabilities: Mapping[str, float], examples: int) -> bool:  # noqa: ARG002
        """Say whether to ask about event *i*."""
        candidate = self._data.points[i : i + 1]
        if self._plain:
            asked, _ = self._strategy.query(candidate, return_utilities=True)
            self._strategy.update(candidate, asked)
            return len(asked) > 0
        self._clf.present = np.array([[probabilities.get(label, 0.0) for label in self._data.classes]])
        past: dict[str, Any] = {}
        if self._cell.strategy == "probabilistic":
            kept = self.learned[-_KEPT:]
            codes = [self._data.classes.index(self._data.labels[j]) for j in kept]
            past = {"X": self._data.points[kept], "y": np.array(codes, dtype=float)}
        asked, utilities = self._strategy.query(candidate, clf=self._clf, return_utilities=True, **past)
        more = {"budget_manager_param_dict": {"utilities": utilities}} if self._filtered else {}
        self._strategy.update(candidate, asked, **more)
        return len(asked) > 0


def run_cell(data: Data, cell: Cell, warm_up: int) -> dict[str, Any]:
    """Return accuracy and share of the events after the *warm_up* labels that both sides begin with."""
    began = time.process_time()
    model = build_model(data.config)
    ask: Ask = ours(data, cell) if cell.side == "ours" else Their(data, cell)
    right = asked = examples = 0
    for i, (features, label) in enumerate(zip(data.features, data.labels, strict=True)):
        wanted = i < warm_up
        if not wanted:
            probabilities = model.predict(features)
            right += max(probabilities, key=probabilities.__getitem__) == label
            wanted = ask(i, smooth(probabilities, examples), examples)
            asked += wanted
        if wanted:
            model.learn(features, label)
            examples += 1
            if isinstance(ask, Their):
                ask.learned.append(i)
    events = len(data.labels) - warm_up
    took = time.process_time() - began
    return {"events": events, "accuracy": right / events, "share": asked / events, "seconds": round(took, 1)}


def silence_checks() -> None:
    """Leave out their checks of every call, which cost more than what they check, and a warning about a default."""
    warnings.filterwarnings("ignore", message="force_full_budget is set to False")
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)


def _load_cells(path: Path) -> dict[Cell, dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {Cell(**{name: row[name] for name in Cell._fields}): row for row in rows}


@app.command()
def run(
    cells: Path,
    streams: Annotated[list[str], typer.Option("--stream", metavar="PATH:LABEL[:TIME[:DROPPED,…]]")],
    budgets: Annotated[str, typer.Option(metavar="B,…")] = "0.1,0.01,0.05,0.2",
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    strategies: Annotated[str, typer.Option(metavar="NAME,…")] = ",".join(STRATEGIES),
    sides: Annotated[str, typer.Option(metavar="SIDE,…")] = "ours,theirs",
    events: Annotated[int, typer.Option(min=500)] = 5_000,
    warm_up: Annotated[int, typer.Option(min=0)] = 50,
) -> None:
    """Run what is not in CELLS yet, seed by seed, and append it."""
    silence_checks()
    done = _load_cells(cells)
    for seed in range(seeds):
        for spec in streams:
            name = Path(spec.split(":")[0]).name.partition(".")[0]
            data: Data | None = None
            for cell in _plan(name, budgets, strategies, sides, seed):
                if cell in done:
                    continue
                data = data or Data.load(spec, events, seed)
                row = {**cell._asdict(), **run_cell(data, cell, warm_up)}
                with cells.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), file=sys.stderr)


def _plan(stream: str, budgets: str, strategies: str, sides: str, seed: int) -> Iterator[Cell]:
    for budget in budgets.split(","):
        for strategy in strategies.split(","):
            for side in sides.split(","):
                yield Cell(stream, float(budget), strategy, side, seed)


@app.command()
def table(cells: Path) -> None:
    """Print for each stream, budget and strategy both sides' accuracy ± standard error and share, as Markdown.

    "Held": our mean is not below theirs by more than one standard error of the paired differences. Of two equal ones a
    sixth would not hold by chance. Where theirs has spent a twentieth more than the budget it stands in brackets.
    """
    rows = _load_cells(cells)
    seeds = {(cell.stream, cell.budget, cell.strategy): set[int]() for cell in rows}
    for cell in rows:
        if cell.side == "ours" and cell._replace(side="theirs") in rows:
            seeds[cell.stream, cell.budget, cell.strategy].add(cell.seed)
    held, overspent, compared = 0, 0, 0
    by_strategy: dict[str, list[float]] = {}
    print("| stream | budget | strategy | seeds | ours | spent | scikit-activeml | spent | difference | held |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (stream, budget, strategy), paired in seeds.items():
        if not paired:
            continue
        ours_, theirs_ = (
            [rows[Cell(stream, budget, strategy, side, seed)] for seed in sorted(paired)] for side in ("ours", "theirs")
        )
        differences = [a["accuracy"] - b["accuracy"] for a, b in zip(ours_, theirs_, strict=True)]
        mean, error = fmean(differences), _error(differences)
        holds, over = mean >= -error, fmean(row["share"] for row in theirs_) > 1.05 * budget
        by_strategy.setdefault(strategy, []).append(mean)
        compared, held, overspent = compared + 1, held + holds, overspent + (over and not holds)
        print(
            f"| {stream} | {budget:.0%} | {strategy} | {len(paired)} "
            f"| {_format_figures(ours_)} | {_format_spend(ours_)} "
            f"| {_format_figures(theirs_)} | {_format_spend(theirs_)} | {mean:+.3f} ± {error:.3f} "
            f"| {'yes' if holds else '(no)' if over else 'no'} |"
        )
    print(
        "\n| strategy | streams and budgets | mean difference ± standard error | not worse by 0.01 |\n|---|---|---|---|"
    )
    for strategy, found in by_strategy.items():
        near = sum(difference >= -0.01 for difference in found)
        print(f"| {strategy} | {len(found)} | {fmean(found):+.3f} ± {_error(found):.3f} | {near} |")
    print(f"\n{held} of {compared} held; {overspent} of the others where scikit-activeml overspent")


def _error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _format_figures(rows: Sequence[Mapping[str, Any]]) -> str:
    values = [row["accuracy"] for row in rows]
    return f"{fmean(values):.3f} ± {_error(values):.3f}"


def _format_spend(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"{fmean(row['share'] for row in rows):.1%}"


if __name__ == "__main__":
    app()
