"""`Run`: one replay as figures and curves of bounded size, for tables, pictures and the cache.

A run does not depend on the machine: the same stream, settings and seed give the same `Run`, byte for byte.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal, get_args

import msgspec
from river import drift

from streamal.errors import ConfigError
from streamal.replay.outcome import Replay
from streamal.replay.scores import balanced_accuracy

__all__ = ["METRICS", "Metric", "Point", "Run", "Spending", "measure", "parse_metric"]

Metric = Literal["accuracy", "balanced_accuracy"]
METRICS: tuple[str, ...] = get_args(Metric)

_POINTS = 200
"""Points of a curve: as many as a picture can show."""
_BINS = 10
_NO_FIGURES = frozenset(
    {"curve", "drifts", "spending", "settled", "settled_balanced", "recall", "confusion", "never_labelled", "remarks"}
)


class Point(msgspec.Struct, frozen=True):
    """A curve at one event: all counts and shares are of the events so far, but for *rolling*."""

    events: int
    requests: int
    accuracy: float
    balanced_accuracy: float
    rolling: float
    """Accuracy over the last twentieth of the stream, or 100 events."""


class Spending(msgspec.Struct, frozen=True):
    """The spending of labels: pairs of a number of events and the number of requests among them."""

    uncertainty: list[tuple[int, int]]
    """In ten bins of the uncertainty from 0 to 1."""
    classes: dict[str, tuple[int, int]]
    """By the true class."""
    time: list[tuple[int, int]]
    """In ten equal parts of the stream."""


class Run(msgspec.Struct, frozen=True):
    """One replay.

    Attributes:
        arm: what varies: a strategy, "random", "all labels" …
        model: the name of the pipeline.
        budget: the share of labels that was allowed; *share* is what was spent.
        seed: of the coins.
        settled, settled_balanced: both accuracies without the first third of the events, where every model is new.
        estimated: the accuracy as streamal estimates it from the labels it bought: value, low, high (95 %).
        naive: accuracy among the labels bought.
        recall, confusion, never_labelled: as in `Replay`.
        remarks: what makes the figures mean less than they seem to.
        drifts: events at which ADWIN saw the error rate change, knowing all labels.
    """

    arm: str
    model: str
    budget: float
    seed: int
    events: int
    requests: int
    labels: int
    share: float
    accuracy: float
    balanced_accuracy: float
    settled: float
    settled_balanced: float
    estimated: tuple[float, float, float] | None
    naive: float | None
    recall: dict[str, float]
    confusion: dict[str, dict[str, int]]
    never_labelled: list[str]
    remarks: list[str]
    curve: list[Point]
    drifts: list[int]
    spending: Spending

    def __repr__(self) -> str:
        """Return the main figures on one line."""
        return (
            f"Run({self.arm}, {self.model}, budget {self.budget:.3g}, seed {self.seed}: {self.events} events, "
            f"{self.labels} labels, accuracy {self.accuracy:.4f}, balanced {self.balanced_accuracy:.4f})"
        )

    def value(self, metric: Metric) -> float:
        """Return the figure that *metric* names."""
        return self.accuracy if metric == "accuracy" else self.balanced_accuracy

    def settled_value(self, metric: Metric) -> float:
        """Return the figure that *metric* names, without the cold start."""
        return self.settled if metric == "accuracy" else self.settled_balanced

    def figures(self) -> dict[str, object]:
        """Return the figures that a table shows, flat."""
        value, low, high = self.estimated or (None, None, None)
        named: dict[str, object] = {
            name: getattr(self, name) for name in self.__struct_fields__ if name not in _NO_FIGURES
        }
        return {**named, "estimated": value, "estimated_low": low, "estimated_high": high}


def parse_metric(name: str) -> Metric:
    """Return *name* as a metric.

    Raises:
        ConfigError: there is no such metric.
    """
    for metric in get_args(Metric):
        if metric == name:
            return metric  # type: ignore[no-any-return]
    raise ConfigError(f"--metric {name}: must be one of {', '.join(METRICS)}")


def measure(replay: Replay, arm: str, model: str, budget: float, seed: int) -> Run:
    """Return *replay* as a `Run` of that name."""
    estimate = replay.estimated_accuracy
    late = slice(replay.events // 3, None)
    return Run(
        arm=arm,
        model=model,
        budget=budget,
        seed=seed,
        events=replay.events,
        requests=replay.requests,
        labels=replay.labels,
        share=replay.share,
        accuracy=replay.accuracy,
        balanced_accuracy=replay.balanced_accuracy,
        settled=fmean(replay.correct[late]),
        settled_balanced=balanced_accuracy(replay.truths[late], replay.correct[late]),
        estimated=None if estimate is None else (estimate.value, estimate.low, estimate.high),
        naive=replay.naive_accuracy,
        recall=dict(replay.recall),
        confusion={truth: dict(row) for truth, row in replay.confusion.items()},
        never_labelled=list(replay.never_labelled),
        remarks=replay.remarks(),
        curve=_curve(replay),
        drifts=_drifts(replay.correct),
        spending=_spending(replay),
    )


def _curve(replay: Replay) -> list[Point]:
    """Return some `_POINTS` points, half of them in the first tenth: a cold start is short and steep."""
    n = replay.events
    wanted = {n * (i + 1) // _POINTS for i in range(_POINTS)} | {n * (i + 1) // (10 * _POINTS) for i in range(_POINTS)}
    window, points = max(100, n // 20), []
    last: deque[bool] = deque(maxlen=window)
    hits, asked = 0, 0
    there: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for number, (truth, hit, lane) in enumerate(zip(replay.truths, replay.correct, replay.asked, strict=True), 1):
        hits, asked = hits + hit, asked + (lane is not None)
        there[truth] += 1
        right[truth] += hit
        last.append(hit)
        if number in wanted:
            recall = sum(right[label] / count for label, count in sorted(there.items())) / len(there)
            points.append(Point(number, asked, hits / number, recall, sum(last) / len(last)))
    return points


def _drifts(correct: Sequence[bool]) -> list[int]:
    """Return the events at which ADWIN found that the error rate had changed."""
    make: Any = drift.ADWIN  # River's is not typed
    detector = make()
    found = []
    for number, hit in enumerate(correct):
        detector.update(0.0 if hit else 1.0)
        if detector.drift_detected:
            found.append(number)
    return found


def _spending(replay: Replay) -> Spending:
    bins = [[0, 0] for _ in range(_BINS)]
    parts = [[0, 0] for _ in range(_BINS)]
    classes: dict[str, list[int]] = {label: [0, 0] for label in sorted(set(replay.truths))}
    rows = zip(replay.truths, replay.asked, replay.uncertainties, strict=True)
    for number, (truth, lane, uncertainty) in enumerate(rows):
        for count in (
            bins[min(_BINS - 1, int(uncertainty * _BINS))],
            parts[number * _BINS // replay.events],
            classes[truth],
        ):
            count[0] += 1
            count[1] += lane is not None
    return Spending(
        [(there, asked) for there, asked in bins],
        {label: (there, asked) for label, (there, asked) in classes.items()},
        [(there, asked) for there, asked in parts],
    )
