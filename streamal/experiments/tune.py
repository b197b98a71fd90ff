"""Tuning: search on the first part of a recorded stream, report on the rest of it, which the search has not seen.

The rest is replayed from an empty model, so that every label in a figure has been paid for. Beside the settings found
stand the best model that knows all labels (found on the same first part), the same model asking at random, and
predicting the label before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from streamal.config import Config
from streamal.errors import ConfigError
from streamal.experiments.bench import Bench, Cell, part
from streamal.experiments.compare import ALL, ASK_ALL, CONTROL, Baselines, Summary, baselines, changed, summaries
from streamal.experiments.frames import frame
from streamal.experiments.labels_needed import TUNED, Answer, Goal, answer_of, sentence
from streamal.experiments.runs import Metric, Run, metric_named
from streamal.experiments.search import FINALISTS, Candidate, Search, Trial
from streamal.experiments.shapes import Shape
from streamal.recordings.reading import Stream
from streamal.recordings.writing import toml_of
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import stream_config

__all__ = ["Tuned", "tune"]

_BUDGETS = ("0.01", "0.02", "0.05", "0.1", "0.2")
_ROWS_MIN = 200
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning has found, and what it is worth on the rest of the stream.

    Attributes:
        first, rest: events that were tuned on, and reported on.
        trials, full_trials: the search at the budget, and the one with all labels; figures of the first part only.
        config: the settings found, with the recommended budget.
        batch: events per step that go with them.
        runs: replays of the rest, and of nothing else.
    """

    stream: str
    metric: Metric
    first: int
    rest: int
    trials: Sequence[Trial]
    full_trials: Sequence[Trial]
    baselines: Baselines
    runs: Sequence[Run]
    answer: Answer
    config: Config
    batch: int

    def summaries(self) -> list[Summary]:
        """Return means over the seeds, of the rest of the stream."""
        return summaries(self.runs, self.metric)

    def sentence(self) -> str:
        """Return how few labels are enough, in a sentence."""
        return sentence(self.answer, self.runs, self.metric, self.rest)

    def as_dict(self) -> dict[str, object]:
        """Return everything but curves and trials' settings as JSON-ready values; the same for the same seed."""
        return {
            "stream": self.stream,
            "metric": self.metric,
            "tuned_on": self.first,
            "reported_on": self.rest,
            "no_change": self.baselines.no_change,
            "majority": self.baselines.majority,
            "answer": self.sentence(),
            "wanted": self.answer.wanted,
            "all_labels": self.answer.full,
            "label_shares": list(self.answer.shares),
            "recommended_budget": self.answer.recommended,
            "target_reached": self.answer.reached,
            "settings": self.config.model_dump(mode="json", include={"model", "sampling"}),
            "events_per_step": self.batch,
            "summaries": [{name: getattr(row, name) for name in Summary.__slots__} for row in self.summaries()],
            "runs": [run.figures() for run in self.runs],
            "trials": [_told(trial) for trial in self.trials],
            "trials_all_labels": [_told(trial) for trial in self.full_trials],
        }

    def to_frame(self) -> Any:
        """Return one row for each replay of the rest as a data frame of whichever library is installed."""
        return frame([run.figures() for run in self.runs])

    def trials_frame(self) -> Any:
        """Return one row for each trial: figures of the first part, to look at the search, not at the result."""
        return frame([{k: str(v) if k == "parameters" else v for k, v in _told(t).items()} for t in self.trials])

    def toml(self) -> str:
        """Return the settings as a commented ``config.toml``."""
        return toml_of(self.config, [self.sentence(), *_remarks(self)])

    def write(self, path: Path) -> None:
        """Write the settings as a commented ``config.toml``."""
        path.write_text(self.toml(), encoding="utf-8")

    def save_report(self, path: Path) -> None:
        """Write the report, one HTML file that needs nothing else; needs matplotlib (the extra ``plot``)."""
        from streamal.reports.html import tuned_page  # noqa: PLC0415  (matplotlib takes a second)

        path.write_text(tuned_page(self), encoding="utf-8")

    def save_pictures(self, directory: Path) -> None:
        """Draw the report's pictures into *directory*, as SVG and PNG."""
        from streamal.reports import charts as panels  # noqa: PLC0415
        from streamal.reports import html as pages  # noqa: PLC0415

        panels.save_panels(directory, pages.tuned_study(self))


def tune(
    stream: Stream,
    config: Config | None = None,
    *,
    goal: Goal | None = None,
    trials: int = 30,
    train_share: float = 0.3,
    budgets: Sequence[float | str] = _BUDGETS,
    seeds: int = 3,
    seed: int = 1,
    metric: str = "accuracy",
    annotators: AnnotatorsRules | None = None,
    families: Sequence[str] = (),
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Tuned:
    """Search the first part of *stream* for the best settings; report what they are worth on the rest.

    Args:
        stream: see `read_stream`.
        config: what is not searched (audit share, limits, transport …).
        goal: the budget, or a target; by default 98 % of what all labels give.
        trials: how many settings are tried at the budget; half as many models are tried with all labels.
        train_share: the first part, of all events.
        budgets: the budgets of the report; the searched one is always among them.
        seeds: sets of coins in the report.
        seed: of the search.
        metric: "accuracy" or "balanced_accuracy".
        annotators: how they answer; by default at once and rightly.
        families: search only these models, see `streamal.experiments.model_families.families`.
        cache: a directory of finished replays, so that an interrupted search goes on; None: nothing is kept.
        workers: processes; None is one for each core, 0 is this one. Others are spawned: guard a script with
            ``if __name__ == "__main__"``.
        progress: called with what is done, how many of it have been finished, and of how many.

    Raises:
        ConfigError: Optuna is missing, an argument is wrong, or the stream is too short to be divided.
    """
    measure, rules, goal = metric_named(metric), annotators or AnnotatorsRules(), goal or Goal(target_share=0.98)
    first = int(len(stream.rows) * train_share)
    if min(first, len(stream.rows) - first) < _ROWS_MIN:
        raise ConfigError(f"{len(stream.rows)} rows: both parts need at least {_ROWS_MIN}; see --train-share, --limit")
    base = changed(stream_config(config or Config(), stream), {"budget": {"share": goal.budget}})
    delayed = rules.delay_s > 0 or stream.rows[0].label_time is not None
    with Bench(stream, cache, workers) as bench:
        active = Search(bench, base, Shape.of(stream, measure), measure, rules, first, False, delayed, families)
        full = Search(bench, base, Shape.of(stream, measure), measure, rules, first, True, delayed, families)
        tried = active.run(trials, seed, _steps(progress, "searching at the budget", trials))
        half = max(trials // 2, 1)
        tried_full = full.run(half, seed, _steps(progress, "searching with all labels", half))
        best_full = full.best(_models(tried_full, _top(tried)), seeds=1)
        best = active.best(_top(tried), seeds, _crossed(tried, best_full))
        cells = _report_cells(active, base, best, best_full, _grid(goal, budgets), seeds)
        runs = bench.run(cells, _steps(progress, "replaying the rest", len(cells)))
    answer = answer_of(runs, goal, measure)
    share = {"budget": {"share": Decimal(str(answer.recommended))}}
    # a loop of one event is what a daemon that keeps pace has anyway; a limit of one would only slow it down
    steps = {"limits": {"events_per_step": best.batch}} if best.batch > 1 else {}
    found = changed(base, _FRESH_MODEL, best.sections, share, steps)
    rest = len(stream.rows) - first
    shown = baselines(part(stream, first), measure)
    return Tuned(stream.name, measure, first, rest, tried, tried_full, shown, runs, answer, found, best.batch)


_FRESH_MODEL: Mapping[str, Any] = {"model": {"pipeline": (), "factory": None, "warm_start": None}}


def _steps(progress: Progress, what: str, total: int) -> Callable[[int], object]:
    done = 0
    progress(what, 0, total)

    def count(finished: int) -> None:
        nonlocal done
        done += finished
        progress(what, done, total)

    return count


def _top(trials: Iterable[Trial]) -> list[Candidate]:
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
    return [*_top(full), *(Candidate({"model": c.sections["model"]}, 1, c.family) for c in active[:FINALISTS])]


def _crossed(trials: Sequence[Trial], full: Candidate) -> list[Candidate]:
    """Return the best model with all labels under the best ways to ask."""
    return [Candidate({**c.sections, **full.sections}, c.batch, full.family) for c in _top(trials)[:2]]


def _grid(goal: Goal, budgets: Sequence[float | str]) -> list[Decimal]:
    return sorted({goal.budget, *(Decimal(str(budget)) for budget in budgets)})


def _report_cells(
    search: Search, base: Config, best: Candidate, full: Candidate, budgets: Sequence[Decimal], seeds: int
) -> list[Cell]:
    """Return the replays of the rest: nothing in them has been chosen by what the rest shows."""
    rules, first = search.annotators, search.rows

    def cell(arm: str, candidate: Candidate, *sections: Mapping[str, Any]) -> Cell:
        config = changed(base, _FRESH_MODEL, candidate.sections, *sections)
        return Cell(arm, candidate.family, config, rules, candidate.batch, first)

    cells = [cell(ALL, full, ASK_ALL), cell(f"{ALL}, same model", best, ASK_ALL)]
    for share in budgets:
        for seed in range(base.sampling.seed, base.sampling.seed + seeds):
            spend = {"budget": {"share": share}, "sampling": {"seed": seed}}
            at_random = {"sampling": {"strategy": CONTROL, "damping": None}}
            cells += [cell(TUNED, best, spend), cell(CONTROL, best, spend, at_random)]
    return cells


def _told(trial: Trial) -> dict[str, object]:
    return {
        "number": trial.number,
        "value": trial.value,
        "pruned": trial.pruned,
        "rows": trial.rows,
        "family": trial.candidate.family,
        "parameters": dict(trial.parameters),
    }


def _remarks(tuned: Tuned) -> list[str]:
    """Return what a reader of the configuration should know."""
    steps = "" if tuned.batch == 1 else f" Replayed with {tuned.batch} events per step (`--batch {tuned.batch}`)."
    found = (
        f"Found by `streamal tune` on the first {tuned.first:,} events of {tuned.stream}; the sentence above is about "
        f"the {tuned.rest:,} after them.{steps}"
    )
    how = f"Try it: streamal replay STREAM --config THIS_FILE --batch {tuned.batch}; then set transport and topics."
    return [found, how]
