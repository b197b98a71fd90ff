"""`tune`: search the first part of a recorded stream, report on the rest of it, which the search has not seen.

The rest is replayed from an empty model, so that every label in a figure has been paid for. The report compares the
settings found with the best model that knows all labels (found on the same first part), with the same model asking at
random, and with predicting the label before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from streamal.config import Config
from streamal.errors import ConfigError
from streamal.experiments.bench import Bench, Cell, slice_stream
from streamal.experiments.labels_needed import labels_needed
from streamal.experiments.options import Execution, Goal, ReportOptions, SearchOptions
from streamal.experiments.overrides import ASK_ALL, FRESH_MODEL, with_sections
from streamal.experiments.results import Candidate, Trial, Tuned
from streamal.experiments.runs import parse_metric
from streamal.experiments.search import FINALISTS, Search
from streamal.experiments.shapes import Shape
from streamal.experiments.summaries import ALL, CONTROL, TUNED, Baselines, best_gain
from streamal.recordings.reading import Stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import stream_config

__all__ = ["tune"]

_ROWS_MIN = 200
"""Events that each of the two parts needs at least."""
_AT_RANDOM: Mapping[str, Any] = {"sampling": {"strategy": CONTROL, "damping": None}}


def tune(
    stream: Stream,
    config: Config | None = None,
    *,
    goal: Goal | None = None,
    search: SearchOptions | None = None,
    report: ReportOptions | None = None,
    metric: str = "accuracy",
    annotators: AnnotatorsRules | None = None,
    execution: Execution | None = None,
) -> Tuned:
    """Search the first part of *stream* for the best settings; report what they are worth on the rest.

    Args:
        stream: see `read_stream`.
        config: what is not searched (audit share, limits, transport …).
        goal: the budget, or a target; by default 98 % of what all labels give.
        search: how many trials, on which part of the stream, of which models.
        report: the budgets and seeds that are replayed on the rest.
        metric: "accuracy" or "balanced_accuracy".
        annotators: how they reply; by default at once and rightly.
        execution: cache, processes and progress.

    Raises:
        ConfigError: Optuna is missing, an argument is wrong, or the stream is too short to be divided.
    """
    options, report, execution = search or SearchOptions(), report or ReportOptions(), execution or Execution()
    measure, rules, goal = parse_metric(metric), annotators or AnnotatorsRules(), goal or Goal(target_share=0.98)
    first = _first_part(stream, options.train_share)
    base = with_sections(stream_config(config or Config(), stream), {"budget": {"share": goal.budget}})
    delayed = rules.delay_s > 0 or stream.rows[0].label_time is not None
    with Bench(stream, execution.cache, execution.workers) as bench:
        shape, only = Shape.of(stream, measure, base.features.embed), options.families
        active = Search(bench, base, shape, measure, rules, first, False, delayed, only)
        full = Search(bench, base, shape, measure, rules, first, True, delayed, only)
        half = max(options.trials // 2, 1)
        tried = active.run(options.trials, options.seed, execution.counter("searching at the budget", options.trials))
        tried_full = full.run(half, options.seed, execution.counter("searching with all labels", half))
        best_full = full.best(_models(tried_full, _finalists(tried)), seeds=1)
        best = active.best(_finalists(tried), report.seeds, _combinations(tried, best_full))
        cells = _report_cells(active, base, best, best_full, _budgets(goal, report), report.seeds)
        runs = bench.run(cells, execution.counter("replaying the rest", len(cells)))
    gain = best_gain(runs, measure)
    # what lost against chance on the rest is not recommended
    asks = CONTROL if gain is not None and gain.is_lost else TUNED
    needed = labels_needed(runs, goal, measure, asks)
    return Tuned(
        stream=stream.name,
        metric=measure,
        first=first,
        rest=len(stream.rows) - first,
        trials=tried,
        full_trials=tried_full,
        baselines=Baselines.of(slice_stream(stream, first), measure),
        runs=runs,
        labels_needed=needed,
        config=_recommended(base, best, needed.recommended, _AT_RANDOM if asks == CONTROL else {}),
        batch=best.batch,
        asks=asks,
        account=stream.account,
    )


def _first_part(stream: Stream, train_share: float) -> int:
    """Return how many events are searched."""
    first = int(len(stream.rows) * train_share)
    if min(first, len(stream.rows) - first) < _ROWS_MIN:
        raise ConfigError(f"{len(stream.rows)} rows: both parts need at least {_ROWS_MIN}; see --train-share, --limit")
    return first


def _finalists(trials: Iterable[Trial]) -> list[Candidate]:
    """Return the settings of the best trials that have seen the whole first part, and the best of other families.

    Those were cut short: they learn more slowly, and the rest of the stream is longer than what they have seen.
    """
    ranked = sorted(trials, key=lambda t: (t.pruned, -t.value, t.number))
    whole = [trial for trial in ranked if not trial.pruned][:FINALISTS]
    others = {trial.candidate.family: trial for trial in reversed(ranked)}
    for trial in whole:
        others.pop(trial.candidate.family, None)
    cut = sorted(others.values(), key=lambda t: (-t.value, t.number))[:FINALISTS]
    return [trial.candidate for trial in [*whole, *cut]]


def _models(full: Sequence[Trial], active: Sequence[Candidate]) -> list[Candidate]:
    """Return models to be tried with all labels: the best ones found so, and those of the best active settings."""
    return [*_finalists(full), *(Candidate({"model": c.sections["model"]}, 1, c.family) for c in active[:FINALISTS])]


def _combinations(trials: Sequence[Trial], full: Candidate) -> list[Candidate]:
    """Return the best model with all labels under the best ways to ask."""
    return [Candidate({**c.sections, **full.sections}, c.batch, full.family) for c in _finalists(trials)[:2]]


def _budgets(goal: Goal, report: ReportOptions) -> list[Decimal]:
    return sorted({goal.budget, *(Decimal(str(budget)) for budget in report.budgets)})


def _report_cells(
    search: Search, base: Config, best: Candidate, full: Candidate, budgets: Sequence[Decimal], seeds: int
) -> list[Cell]:
    """Return the replays of the rest: nothing in them has been chosen by what the rest shows."""
    rules, first = search.annotators, search.rows

    def cell(arm: str, candidate: Candidate, *sections: Mapping[str, Any]) -> Cell:
        config = with_sections(base, FRESH_MODEL, candidate.sections, *sections)
        return Cell(arm, candidate.family, config, rules, candidate.batch, first)

    cells = [cell(ALL, full, ASK_ALL), cell(f"{ALL}, same model", best, ASK_ALL)]
    for share in budgets:
        for seed in range(base.sampling.seed, base.sampling.seed + seeds):
            spend = {"budget": {"share": share}, "sampling": {"seed": seed}}
            cells += [cell(TUNED, best, spend), cell(CONTROL, best, spend, _AT_RANDOM)]
    return cells


def _recommended(base: Config, best: Candidate, budget: float, asking: Mapping[str, Any]) -> Config:
    """Return the configuration to be written down; *asking* are sections that change how it asks."""
    share = {"budget": {"share": Decimal(str(budget))}}
    # a loop of one event is what a daemon that keeps pace has anyway; a limit of one would only slow it down
    steps = {"limits": {"events_per_step": best.batch}} if best.batch > 1 else {}
    return with_sections(base, FRESH_MODEL, best.sections, asking, share, steps)
