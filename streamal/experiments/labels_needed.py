"""`labels_needed` reads from the curves of the rest of a stream how few labels reach a goal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from streamal.experiments.options import Goal
from streamal.experiments.results import LabelsNeeded
from streamal.experiments.runs import Metric, Run
from streamal.experiments.summaries import ALL, TUNED, summaries

__all__ = ["labels_needed"]


def labels_needed(runs: Sequence[Run], goal: Goal, metric: Metric, arm: str = TUNED) -> LabelsNeeded:
    """Return how few labels reach the goal if they are asked as in *arm*, and the budget to configure."""
    full = next(run.value(metric) for run in runs if run.arm == ALL)
    wanted = goal.wanted(full)
    tuned = [run for run in runs if run.arm == arm]
    curves: dict[int, list[tuple[float, float]]] = {}
    for run in tuned:
        curves.setdefault(run.seed, []).append((run.share, run.value(metric)))
    shares = tuple(_crossing(curve, wanted) for curve in curves.values())
    rows = summaries(tuned, metric)
    enough = [row for row in rows if row.value - 2 * row.sd / math.sqrt(row.seeds) >= wanted]
    if goal.has_target:
        chosen = enough[0] if enough else rows[-1]
    else:
        chosen = next(row for row in rows if math.isclose(row.budget, float(goal.budget)))
    return LabelsNeeded(wanted, full, shares, chosen.budget, chosen in enough)


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
