"""`Study`: the runs that a report shows, of a comparison or of a tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamal.experiments.results import Comparison, Tuned
from streamal.experiments.runs import Metric, Point, Run
from streamal.experiments.summaries import ALL, Baselines, Summary, summaries

__all__ = ["ARMS_MAX", "Study"]

ARMS_MAX = 8
"""Arms in one picture: as many as there are colours."""


@dataclass(frozen=True, slots=True)
class Study:
    """The runs that are drawn.

    Attributes:
        budget: the one whose runs are drawn as curves.
        recommended: the point of the cost curve that is marked, (arm, budget).
        wanted: the target, a level line.
    """

    stream: str
    metric: Metric
    baselines: Baselines
    runs: Sequence[Run]
    budget: float
    recommended: tuple[str, float] | None = None
    wanted: float | None = None

    @classmethod
    def of(cls, result: Comparison | Tuned) -> Study:
        """Return the runs of *result*; curves of a comparison are drawn at the budget nearest to 10 %."""
        if isinstance(result, Tuned):
            needed = result.labels_needed
            marked = (result.asks, needed.recommended)
            return cls(
                result.stream, result.metric, result.baselines, result.runs, needed.recommended, marked, needed.wanted
            )
        budgets = [run.budget for run in result.runs if run.budget < 1]
        budget = min(budgets, key=lambda share: abs(share - 0.1), default=1.0)
        return cls(result.stream, result.metric, result.baselines, result.runs, budget)

    @property
    def name(self) -> str:
        """The metric, for people."""
        return self.metric.replace("_", " ")

    def summaries(self) -> list[Summary]:
        """Return means over the seeds."""
        return summaries(self.runs, self.metric)

    def label(self, run: Run | Summary) -> str:
        """Return the name of a run's arm, with the model where there are several."""
        several = len({other.model for other in self.runs if not other.arm.startswith(ALL)}) > 1
        return f"{run.arm}, {run.model}" if several and not run.arm.startswith(ALL) else run.arm

    def main_runs(self) -> list[Run]:
        """Return one run for each arm: at the study's budget, with the first coins; all labels last."""
        found: dict[str, Run] = {}
        for run in self.runs:
            if run.budget == self.budget:
                found.setdefault(self.label(run), run)
        full = next(run for run in self.runs if run.arm == ALL)
        return [*list(found.values())[: ARMS_MAX - 1], full]

    def curve(self, run: Run) -> list[Point]:
        """Return the curve of *run* without its first events, where a share is noise."""
        return [point for point in run.curve if point.events >= min(20, run.events // 10)]

    def value(self, point: Point) -> float:
        """Return the metric so far at a point of a curve."""
        return point.accuracy if self.metric == "accuracy" else point.balanced_accuracy
