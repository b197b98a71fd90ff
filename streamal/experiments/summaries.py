"""Figures over several runs: means over the seeds, and what asking has gained over asking at random."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from streamal.experiments.runs import Metric, Run
from streamal.recordings.reading import Stream
from streamal.replay.scores import balanced_accuracy, majority_accuracy, no_change_accuracy

__all__ = [
    "ALL",
    "CONTROL",
    "TUNED",
    "Baselines",
    "Gain",
    "Summary",
    "best_gain",
    "gain_sentence",
    "remarks",
    "summaries",
]

ALL = "all labels"
"""The arm that asks for every label."""
CONTROL = "random"
"""The arm that asks at random for as many labels as the others."""
TUNED = "tuned"
"""The arm with the settings that `tune` has found."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """The metric of two predictors without a model: the previous event's label, and always the commonest label."""

    no_change: float
    majority: float

    @classmethod
    def of(cls, stream: Stream, metric: Metric) -> Baselines:
        """Return the baselines of *stream*."""
        labels = [row.label for row in stream.rows]
        if metric == "accuracy":
            return cls(no_change_accuracy(labels), majority_accuracy(labels))
        same = [False, *(a == b for a, b in itertools.pairwise(labels))]
        return cls(balanced_accuracy(labels, same), 1.0 / len(set(labels)))


@dataclass(frozen=True, slots=True)
class Summary:
    """The runs of one arm, model and budget: their mean and standard deviation over the seeds (0 with one seed).

    *value* and *sd* are of the metric; the two accuracies are there whatever the metric.
    """

    arm: str
    model: str
    budget: float
    seeds: int
    share: float
    value: float
    sd: float
    accuracy: float
    balanced_accuracy: float


def summaries(runs: Sequence[Run], metric: Metric) -> list[Summary]:
    """Return mean and standard deviation over the seeds, in the order in which arms, models and budgets came."""
    groups: dict[tuple[str, str, float], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.arm, run.model, run.budget), []).append(run)
    found = []
    for (arm, model, budget), group in groups.items():
        values = [run.value(metric) for run in group]
        found.append(
            Summary(
                arm=arm,
                model=model,
                budget=budget,
                seeds=len(group),
                share=fmean(run.share for run in group),
                value=fmean(values),
                sd=stdev(values) if len(values) > 1 else 0.0,
                accuracy=fmean(run.accuracy for run in group),
                balanced_accuracy=fmean(run.balanced_accuracy for run in group),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """What an arm has gained over asking at random, with the same model, budgets and coins.

    Attributes:
        value: the mean difference in the metric, over budgets and seeds.
        error: the standard error of that mean, over the seeds; with one seed, of so many events.
    """

    arm: str
    model: str
    value: float
    error: float

    @property
    def is_lost(self) -> bool:
        """Whether asking at random was as good, or better."""
        return self.value <= 0.0

    @property
    def is_clear(self) -> bool:
        """Whether the arm was better by more than chance explains: two standard errors."""
        return self.value > 2.0 * self.error

    def sentence(self, name: str) -> str:
        """Return in one sentence whether asking was worth it; *name* is that of the metric."""
        found = f"{self.value:+.4f} in {name}, 2 standard errors are {2 * self.error:.4f}"
        if self.is_clear:
            return f"Asking by {self.arm} was better than asking at random for as many labels: {found}."
        how = "did not win" if self.is_lost else "is within chance"
        return f"Asking by {self.arm} did no better than asking at random for as many labels: it {how} ({found})."


def best_gain(runs: Sequence[Run], metric: Metric) -> Gain | None:
    """Return the largest gain of an arm over asking at random; None if nothing but that was tried."""
    control = {(run.model, run.budget, run.seed): run for run in runs if run.arm == CONTROL}
    arms: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.arm != CONTROL and not run.arm.startswith(ALL) and (run.model, run.budget, run.seed) in control:
            arms.setdefault((run.arm, run.model), []).append(run)
    gains = []
    for (arm, model), group in arms.items():
        by_seed: dict[int, list[float]] = {}
        for run in group:
            other = control[run.model, run.budget, run.seed]
            by_seed.setdefault(run.seed, []).append(run.value(metric) - other.value(metric))
        means = [fmean(differences) for differences in by_seed.values()]
        gains.append(Gain(arm, model, fmean(means), _error(means, group, metric)))
    return max(gains, key=lambda gain: gain.value, default=None)


def gain_sentence(runs: Sequence[Run], metric: Metric) -> str:
    """Return in one sentence whether asking was worth it; "" if nothing but random asking was tried."""
    gain = best_gain(runs, metric)
    return "" if gain is None else gain.sentence(metric.replace("_", " "))


def _error(means: Sequence[float], group: Sequence[Run], metric: Metric) -> float:
    """Return the standard error of the mean of *means*; a few seeds that happen to agree prove no smaller one."""
    value, events = fmean(run.value(metric) for run in group), group[0].events
    # so much through chance, if a tenth of the events are judged otherwise, or all that both may get wrong
    least = math.sqrt(min(0.1, 2.0 * value * (1.0 - value)) / events / len(means))
    return max(least, stdev(means) / math.sqrt(len(means))) if len(means) > 1 else least


def remarks(runs: Sequence[Run]) -> list[str]:
    """Return one sentence for each thing that makes the figures mean less than they seem to."""
    full = next((run for run in runs if run.arm == ALL), None)
    found = [f"with all labels: {remark}" for remark in full.remarks] if full is not None else []
    asked = [run for run in runs if not run.arm.startswith(ALL)]
    blind = [run for run in asked if run.never_labelled]
    if blind:
        names = sorted({name for run in blind for name in run.never_labelled})
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        text = f"in {len(blind)} of {len(asked)} replays a class was never labelled, so never predicted"
        found.append(f"{text}: {', '.join(map(repr, names[:5]))}{more}")
    return found
