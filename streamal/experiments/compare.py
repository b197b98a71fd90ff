"""Comparing: strategies × models × budgets × seeds through the production loop, always beside three baselines.

All labels (the same model, asking for everything: one replay for each model), a random control at the same budget, and
predicting the label before. The coins are keyed by the seed and the event, so every strategy meets the same ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import ValidationError

from streamal.config import Config
from streamal.errors import ConfigError
from streamal.experiments.bench import Bench, Cell
from streamal.experiments.frames import frame
from streamal.experiments.model_families import families
from streamal.experiments.runs import Metric, Run, balanced, metric_named
from streamal.experiments.search_space import model_section
from streamal.experiments.shapes import Defaults, Shape
from streamal.recordings.reading import Stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import no_change_accuracy

__all__ = [
    "ALL",
    "ASK_ALL",
    "CONTROL",
    "Baselines",
    "Comparison",
    "Summary",
    "baselines",
    "changed",
    "compare",
    "summaries",
]

ALL = "all labels"
CONTROL = "random"
CONFIGURED = "configured"
ASK_ALL: Mapping[str, Any] = {
    "sampling": {"strategy": "fixed", "theta": 1.0, "damping": None, "parameters": {}},
    "budget": {
        **dict.fromkeys(("per_hour", "per_day", "pace_horizon_s", "cost_per_hour", "cost_per_day", "cost_per_month")),
        "share": Decimal(1),
        "quotas": {},
    },
    "limits": {"open_requests": 1_000_000_000},
}
"""Ask for everything, whatever else is configured."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """What costs no model: predicting the label before (it needs all of them), or always the commonest one."""

    no_change: float
    majority: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The runs of one arm, model and budget: their mean and standard deviation over the seeds (0 with one seed)."""

    arm: str
    model: str
    budget: float
    seeds: int
    share: float
    value: float
    sd: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison showed.

    Attributes:
        metric: what `summaries` and `baselines` are about.
        runs: one for each replay, in the order of the grid.
    """

    stream: str
    events: int
    metric: Metric
    baselines: Baselines
    runs: Sequence[Run]

    def summaries(self) -> list[Summary]:
        """Return means over the seeds, in the order of the grid."""
        return summaries(self.runs, self.metric)

    def as_dict(self) -> dict[str, object]:
        """Return everything but the curves as JSON-ready values; the same for the same seed, byte for byte."""
        return {
            "stream": self.stream,
            "events": self.events,
            "metric": self.metric,
            "no_change": self.baselines.no_change,
            "majority": self.baselines.majority,
            "summaries": [{name: getattr(summary, name) for name in Summary.__slots__} for summary in self.summaries()],
            "runs": [run.figures() for run in self.runs],
        }

    def to_frame(self) -> Any:
        """Return one row for each replay as a data frame of pandas, Polars or PyArrow, whichever is installed."""
        return frame([run.figures() for run in self.runs])

    def save_report(self, path: Path) -> None:
        """Write the report, one HTML file that needs nothing else; needs matplotlib (the extra ``plot``)."""
        from streamal.reports.html import comparison_page  # noqa: PLC0415  (matplotlib takes a second)

        path.write_text(comparison_page(self), encoding="utf-8")

    def save_pictures(self, directory: Path) -> None:
        """Draw the report's pictures into *directory*, as SVG and PNG."""
        from streamal.reports import charts as panels  # noqa: PLC0415
        from streamal.reports import html as pages  # noqa: PLC0415

        panels.save_panels(directory, pages.comparison_study(self))


def compare(
    stream: Stream,
    config: Config | None = None,
    *,
    strategies: Sequence[str] = ("randomised_variable", "variable", "quantile", "split"),
    budgets: Sequence[float | str] = ("0.01", "0.05", "0.1", "0.2"),
    models: Sequence[str] = (CONFIGURED,),
    seeds: int = 3,
    metric: str = "accuracy",
    annotators: AnnotatorsRules | None = None,
    batch: int = 1,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Comparison:
    """Replay *stream* with every strategy, model, budget and seed.

    Args:
        stream: see `read_stream`.
        config: what is not varied; its ``model`` is the model "configured".
        strategies: names of `sampling.strategy`; the control is always there.
        budgets: shares of the events.
        models: "configured", or families of `streamal.experiments.model_families.families`, each with its defaults.
        seeds: how many sets of coins: ``sampling.seed`` and the next ones.
        metric: "accuracy" or "balanced_accuracy".
        annotators: how they answer; by default at once and rightly.
        batch: events per step.
        cache: a directory of finished replays, so that an interrupted comparison goes on; None: nothing is kept.
        workers: processes; None is one for each core, 0 is this one. Others are spawned: guard a script with
            ``if __name__ == "__main__"``.
        progress: called with how many replays have been finished, and of how many.

    Raises:
        ConfigError: a strategy, model, budget or metric does not exist or does not fit the stream.
    """
    measure, rules = metric_named(metric), annotators or AnnotatorsRules()
    grid = _grid(stream, config or Config(), strategies, budgets, models, seeds, measure)
    cells = [Cell(arm, model, settings, rules, batch) for arm, model, settings in grid]
    done = 0

    def count(finished: int) -> None:
        nonlocal done
        done += finished
        progress(done, len(cells))

    with Bench(stream, cache, workers) as bench:
        runs = bench.run(cells, count)
    return Comparison(stream.name, len(stream.rows), measure, baselines(stream, measure), runs)


def baselines(stream: Stream, metric: Metric) -> Baselines:
    """Return what the stream's labels alone would give."""
    if metric == "accuracy":
        labels = [row.label for row in stream.rows]
        return Baselines(no_change_accuracy(stream.rows), max(map(labels.count, stream.classes)) / len(labels))
    truths = [row.label for row in stream.rows]
    same = [False, *(a == b for a, b in itertools.pairwise(truths))]
    return Baselines(balanced(truths, same), 1.0 / len(set(truths)))


def summaries(runs: Sequence[Run], metric: Metric) -> list[Summary]:
    """Return mean and standard deviation over the seeds, in the order in which arms, models and budgets came."""
    groups: dict[tuple[str, str, float], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.arm, run.model, run.budget), []).append(run)
    found = []
    for (arm, model, budget), group in groups.items():
        values = [run.value(metric) for run in group]
        share = fmean(run.share for run in group)
        found.append(
            Summary(arm, model, budget, len(group), share, fmean(values), stdev(values) if len(values) > 1 else 0.0)
        )
    return found


def changed(config: Config, *sections: Mapping[str, Any]) -> Config:
    """Return *config* with the keys of *sections* changed, one after the other.

    Raises:
        ConfigError: they do not fit together.
    """
    values = config.model_dump()
    for section in sections:
        for name, keys in section.items():
            values[name] = {**values[name], **keys}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the configuration"
        raise ConfigError(f"{where}: {str(first['msg']).removeprefix('Value error, ')}") from error


def _grid(
    stream: Stream,
    config: Config,
    strategies: Sequence[str],
    budgets: Sequence[float | str],
    models: Sequence[str],
    seeds: int,
    metric: Metric,
) -> list[tuple[str, str, Config]]:
    """Return (arm, model, configuration) of every replay; the slow ones, with all labels, first."""
    shares = [_share(budget) for budget in budgets]
    arms = list(dict.fromkeys([*strategies, CONTROL]))
    based = {name: changed(config, _model(name, stream, metric)) for name in dict.fromkeys(models)}
    grid = [(ALL, name, changed(base, ASK_ALL)) for name, base in based.items()]
    for name, base in based.items():
        for share in shares:
            for arm in arms:
                for seed in range(config.sampling.seed, config.sampling.seed + seeds):
                    settings = {"budget": {"share": share}, "sampling": {"strategy": arm, "seed": seed}}
                    grid.append((arm, name, changed(base, settings)))
    return grid


def _share(budget: float | str) -> Decimal:
    try:
        return Decimal(str(budget))
    except InvalidOperation as error:
        raise ConfigError(f"--budgets: {budget!r} is no number") from error


def _model(name: str, stream: Stream, metric: Metric) -> Mapping[str, Any]:
    """Return the sections that make the model *name*."""
    if name == CONFIGURED:
        return {}
    shape = Shape.of(stream, metric)
    known = families(shape)
    if name not in known:
        raise ConfigError(f"--models: {name!r} does not fit this stream; there are {CONFIGURED}, {', '.join(known)}")
    return {"model": {"factory": None, "warm_start": None, **model_section(shape, Defaults(family=name))}}
