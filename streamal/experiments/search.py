"""`Search` looks for settings on the first part of a stream, with Optuna (the extra ``tune``): TPE, successive halving.

Optuna suggests trials in rounds of four and gets their results in that order, however many processes there are: the
same seed finds the same settings everywhere. A trial begins on half of the rows; only the better half sees all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import ModuleType
from typing import Any

from streamal import INSTALL
from streamal.config import Config
from streamal.errors import ConfigError
from streamal.experiments.bench import Bench, Cell
from streamal.experiments.model_families import families
from streamal.experiments.overrides import ASK_ALL, FRESH_MODEL, with_sections
from streamal.experiments.results import Candidate, Trial
from streamal.experiments.runs import Metric
from streamal.experiments.search_space import BATCHES, model_section, sampling_section
from streamal.experiments.shapes import Defaults, Draw, Shape
from streamal.replay.annotators import AnnotatorsRules

__all__ = ["FINALISTS", "Search", "require_optuna"]

_ROUND = 4
_REDUCTION = 2
"""One trial in two goes on. One in three, judged on a third of the rows, favoured fast learners over good models."""
FINALISTS = 4
"""Settings that are tried again with other coins, and the most families of pruned trials that are tried with them."""
_LONG_STEP = 4.0
"""Learning rate at which a linear model follows the last few labels; on some streams it beats every forest."""
_PREFIX_MIN = 500
"""Rows below which the figure of a prefix is noise: no trial is pruned."""


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the best settings on the first rows of a stream.

    Attributes:
        bench: runs the replays.
        config: the settings that are not searched, the budget among them.
        shape: decides which models fit.
        rows: number of rows of the first part; the search never reads a later row.
        all_labels: search for the best model that knows every label: no strategy, one event per step.
        delayed: whether labels come late.
        families: the models to be searched; none: all that fit.
    """

    bench: Bench
    config: Config
    shape: Shape
    metric: Metric
    annotators: AnnotatorsRules
    rows: int
    all_labels: bool
    delayed: bool
    families: Sequence[str] = ()

    def run(self, trials: int, seed: int, done: Callable[[int], object] = lambda _: None) -> list[Trial]:
        """Return *trials* trials in order; call *done* with the number of trials that each round has finished."""
        optuna, known = require_optuna(), families(self.shape)
        for name in self.families:
            if name not in known:
                raise ConfigError(f"families: {name!r} does not fit this stream; there are {', '.join(known)}")
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(5, trials // 3)),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_REDUCTION),
        )
        for values in self._first_trials(list(self.families or known)):
            study.enqueue_trial(values)
        found: list[Trial] = []
        while len(found) < trials:
            suggested = [study.ask() for _ in range(min(_ROUND, trials - len(found)))]
            found += self._round(study, suggested, optuna)
            done(len(suggested))
        return found

    def _first_trials(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the defaults of each family; and of the first, the cheapest, also plain, with short and long steps."""
        plain = {"family": names[0], f"{names[0]}.repeats": 0}
        starts: list[dict[str, Any]] = [
            *({"family": name} for name in names),
            plain,
            {**plain, f"{names[0]}.AdaGrad.lr": _LONG_STEP},
        ]
        found: list[dict[str, Any]] = []
        for fixed in starts:
            draw = Defaults(**fixed)
            self.candidate(draw)
            if draw.values not in found:
                found.append(draw.values)
        return found

    def candidate(self, draw: Draw) -> Candidate:
        """Return the settings that *draw* draws."""
        wanted = list(self.families or families(self.shape))
        model = model_section(self.shape, draw, wanted, self.all_labels)
        family = str(draw.choice("family", wanted))
        if self.all_labels:
            return Candidate({"model": model}, 1, family)
        sampling = sampling_section(self.shape, draw, self.delayed)
        return Candidate({"model": model, "sampling": sampling}, draw.choice("batch", BATCHES), family)

    def cell(self, candidate: Candidate, rows: int, seed: int = 0) -> Cell:
        """Return the replay of *candidate* on the first *rows* rows, with the *seed*-th coins."""
        sections = [FRESH_MODEL, candidate.sections, {"sampling": {"seed": self.config.sampling.seed + seed}}]
        config = with_sections(self.config, *sections, *([ASK_ALL] if self.all_labels else []))
        return Cell("trial", candidate.family, config, self.annotators, candidate.batch, 0, rows)

    def values(self, cells: Sequence[Cell]) -> list[float]:
        """Return the metric of each cell without its cold start: the rest of the stream is longer than this part."""
        return [run.settled_value(self.metric) for run in self.bench.run(cells)]

    def best(self, candidates: Sequence[Candidate], seeds: int, preferred: Sequence[Candidate] = ()) -> Candidate:
        """Return the best of the *candidates* on all rows: of the few best, by the mean over *seeds* sets of coins.

        One of the *preferred* wins against a candidate that is better by less than a standard error: on so few rows
        that is chance.
        """
        once = self.values([self.cell(candidate, self.rows) for candidate in candidates])
        best_once = sorted(range(len(candidates)), key=lambda i: (-once[i], i))[:FINALISTS]
        few = [*preferred, *(candidates[i] for i in best_once)]
        values = self.values([self.cell(candidate, self.rows, seed) for candidate in few for seed in range(seeds)])
        means = [fmean(values[i * seeds : (i + 1) * seeds]) for i in range(len(few))]
        top = max(means)
        error = math.sqrt(top * (1.0 - top) / (self.rows - self.rows // 3))  # of the rows that `values` looks at
        near = [i for i in range(len(preferred)) if means[i] >= top - error]
        return few[max(near or range(len(few)), key=lambda i: (means[i], -i))]

    def _round(self, study: Any, suggested: Sequence[Any], optuna: ModuleType) -> list[Trial]:
        """Return the trials of one round, all tried on the same rows."""
        candidates = [self.candidate(_TrialDraw(trial)) for trial in suggested]
        prefix = self.rows // _REDUCTION
        going = list(range(len(suggested)))
        values, pruned = [0.0] * len(suggested), [False] * len(suggested)
        if prefix >= _PREFIX_MIN:
            for i, value in enumerate(self.values([self.cell(candidate, prefix) for candidate in candidates])):
                suggested[i].report(value, 1)
                values[i] = value
                pruned[i] = suggested[i].should_prune()
            going = [i for i in going if not pruned[i]]
        for i, value in zip(going, self.values([self.cell(candidates[i], self.rows) for i in going]), strict=True):
            values[i] = value
        trials = []
        for trial, candidate, value, cut in zip(suggested, candidates, values, pruned, strict=True):
            state = optuna.trial.TrialState.PRUNED if cut else optuna.trial.TrialState.COMPLETE
            study.tell(trial, None if cut else value, state=state)
            rows = prefix if cut else self.rows
            trials.append(Trial(trial.number, value, cut, rows, dict(trial.params), candidate))
        return trials


class _TrialDraw:
    """Draws the values that Optuna suggests."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def real(self, name: str, low: float, high: float, default: float) -> float:
        """Return a number on a logarithmic scale, with three digits: nobody reads more."""
        del default
        return float(f"{self._trial.suggest_float(name, low, high, log=True):.3g}")

    def choice(self, name: str, options: Sequence[Any]) -> Any:
        """Return one of *options*."""
        return self._trial.suggest_categorical(name, list(options))


def require_optuna() -> ModuleType:
    """Return the module `optuna`, with its log switched off.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna  # noqa: PLC0415  (half a second that nothing else needs)
    except ImportError as error:
        raise ConfigError(f"tune needs Optuna: {INSTALL.format(extra='tune')}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    module: ModuleType = optuna
    return module
