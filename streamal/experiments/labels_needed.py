"""How few labels are enough: read off the curve of the rest of a stream, over the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

from streamal.experiments.compare import ALL, summaries
from streamal.experiments.runs import Metric, Run

__all__ = ["TUNED", "Answer", "Goal", "answer_of", "sentence"]

TUNED = "tuned"


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted: the best for *budget*; or, if a target is given, the fewest labels that reach it.

    Attributes:
        budget: share of the events at which is searched.
        target_value: the metric that is wanted.
        target_share: … or this part of what the best model with all labels reaches.
    """

    budget: Decimal = Decimal("0.1")
    target_value: float | None = None
    target_share: float | None = None

    def wanted(self, full: float) -> float:
        """Return the metric that is wanted, where all labels give *full*; 98 % of it unless something else is said."""
        if self.target_value is not None:
            return self.target_value
        return (0.98 if self.target_share is None else self.target_share) * full


@dataclass(frozen=True, slots=True)
class Answer:
    """How few labels reach the target, on the rest of the stream.

    Attributes:
        wanted: the target, in the metric.
        full: what the best model with all labels reaches.
        shares: for each seed the share of labels, read off its curve between the budgets; None where none reaches it.
        recommended: the budget to be configured.
        reached: whether the mean at that budget, less two standard errors, reaches the target.
    """

    wanted: float
    full: float
    shares: tuple[float | None, ...]
    recommended: float
    reached: bool


def answer_of(runs: Sequence[Run], goal: Goal, metric: Metric) -> Answer:
    """Return how few labels reach the goal, and the budget to be configured."""
    full = next(run.value(metric) for run in runs if run.arm == ALL)
    wanted = goal.wanted(full)
    tuned = [run for run in runs if run.arm == TUNED]
    curves: dict[int, list[tuple[float, float]]] = {}
    for run in tuned:
        curves.setdefault(run.seed, []).append((run.share, run.value(metric)))
    shares = tuple(_crossing(curve, wanted) for curve in curves.values())
    rows = summaries(tuned, metric)
    enough = [row for row in rows if row.value - 2 * row.sd / math.sqrt(row.seeds) >= wanted]
    asked_for = goal.target_value is not None or goal.target_share is not None
    if not asked_for:
        chosen = next(row for row in rows if math.isclose(row.budget, float(goal.budget)))
    else:
        chosen = enough[0] if enough else rows[-1]
    return Answer(wanted, full, shares, chosen.budget, chosen in enough)


def _crossing(curve: Sequence[tuple[float, float]], wanted: float) -> float | None:
    """Return the share at which *curve* first reaches *wanted*, on a logarithmic scale between two budgets.

    >>> _crossing([(0.01, 0.5), (0.1, 0.7)], 0.6)
    0.0316227766016838
    """
    before: tuple[float, float] | None = None
    for share, value in curve:
        if value >= wanted:
            if before is None or share <= before[0]:
                return share
            part_of = (wanted - before[1]) / (value - before[1])
            return math.exp(math.log(before[0]) + part_of * (math.log(share) - math.log(before[0])))
        before = (share, value)
    return None


def sentence(answer: Answer, runs: Sequence[Run], metric: Metric, rest: int) -> str:
    """Return the answer in a sentence; *runs* are of the *rest* events of the stream."""
    tuned = [run for run in runs if run.arm == TUNED]
    name, shares = metric.replace("_", " "), [share for share in answer.shares if share is not None]
    what = f"{answer.wanted / answer.full:.1%} of the {name} that all labels give ({answer.full:.4f})"
    where = f"On the {rest:,} events that tuning has not seen"
    if len(shares) < len(answer.shares):
        top, best = max(run.budget for run in tuned), max(row.value for row in summaries(tuned, metric))
        missed = len(answer.shares) - len(shares)
        return (
            f"{where}, with {missed} of {len(answer.shares)} seeds {top:.3g} of the labels did not reach {what}; "
            f"the best mean of a budget was {best:.4f}, {best / answer.full:.1%} of it."
        )
    least = "at most " if min(shares) <= min(run.share for run in tuned) else ""
    return (
        f"{where}, {least}{median(shares):.1%} of the labels ({min(shares):.1%} to {max(shares):.1%} over "
        f"{len(shares)} seeds) gave {what}."
    )
