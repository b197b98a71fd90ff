"""`compare`: strategies × models × budgets × seeds through the production loop, always beside three baselines.

The baselines are all labels (the same model, asking for everything: one replay for each model), a random control at the
same budget, and predicting the label before. The coins are keyed by the seed and the event, so every strategy meets the
same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from streamal.config import Config
from streamal.errors import ConfigError
from streamal.experiments.bench import Bench, Cell
from streamal.experiments.model_families import families
from streamal.experiments.options import CONFIGURED, Execution, Grid
from streamal.experiments.overrides import ASK_ALL, with_sections
from streamal.experiments.results import Comparison
from streamal.experiments.runs import Metric, parse_metric
from streamal.experiments.search_space import model_section
from streamal.experiments.shapes import Defaults, Shape
from streamal.experiments.summaries import ALL, CONTROL, Baselines
from streamal.recordings.reading import Stream
from streamal.replay.annotators import AnnotatorsRules

__all__ = ["compare"]


def compare(
    stream: Stream,
    config: Config | None = None,
    grid: Grid | None = None,
    *,
    metric: str = "accuracy",
    annotators: AnnotatorsRules | None = None,
    batch: int = 1,
    execution: Execution | None = None,
) -> Comparison:
    """Replay *stream* with every strategy, model, budget and seed of *grid*.

    Args:
        stream: see `read_stream`.
        config: what is not varied; its ``model`` is the model "configured".
        grid: what is varied.
        metric: "accuracy" or "balanced_accuracy".
        annotators: how they reply; by default at once and rightly.
        batch: events per step.
        execution: cache, processes and progress.

    Raises:
        ConfigError: a strategy, model, budget or metric does not exist or does not fit the stream.
    """
    measure, rules, execution = parse_metric(metric), annotators or AnnotatorsRules(), execution or Execution()
    arms = _arms(stream, config or Config(), grid or Grid(), measure)
    cells = [Cell(arm, model, settings, rules, batch) for arm, model, settings in arms]
    with Bench(stream, execution.cache, execution.workers) as bench:
        runs = bench.run(cells, execution.counter(f"comparing on {stream.name}", len(cells)))
    return Comparison(stream.name, len(stream.rows), measure, Baselines.of(stream, measure), runs, stream.account)


def _arms(stream: Stream, config: Config, grid: Grid, metric: Metric) -> list[tuple[str, str, Config]]:
    """Return (arm, model, configuration) of every replay; the slow ones, with all labels, first."""
    shares = [_share(budget) for budget in grid.budgets]
    names = list(dict.fromkeys([*grid.strategies, CONTROL]))
    bases = {
        name: with_sections(config, _model(name, stream, metric, config.features.embed))
        for name in dict.fromkeys(grid.models)
    }
    arms = [(ALL, name, with_sections(base, ASK_ALL)) for name, base in bases.items()]
    for model, base in bases.items():
        for share in shares:
            for arm in names:
                for seed in range(config.sampling.seed, config.sampling.seed + grid.seeds):
                    settings = {"budget": {"share": share}, "sampling": {"strategy": arm, "seed": seed}}
                    arms.append((arm, model, with_sections(base, settings)))
    return arms


def _share(budget: float | str) -> Decimal:
    try:
        return Decimal(str(budget))
    except InvalidOperation as error:
        raise ConfigError(f"--budgets: {budget!r} is no number") from error


def _model(name: str, stream: Stream, metric: Metric, embedded: Collection[str]) -> Mapping[str, Any]:
    """Return the sections that make the model *name*."""
    if name == CONFIGURED:
        return {}
    shape = Shape.of(stream, metric, embedded)
    known = families(shape)
    if name not in known:
        raise ConfigError(f"--models: {name!r} does not fit this stream; there are {CONFIGURED}, {', '.join(known)}")
    return {"model": {"factory": None, "warm_start": None, **model_section(shape, Defaults(family=name))}}
