"""Honest quality from labels that were bought where the model is weak: a fold of ``training``.

The share of correct predictions *among the labels asked* is wrong by 10 to 20 points, since the hard events were
asked. `streamal.core.quality.estimates` corrects that; this module keeps what it needs: the last labels in the order
of their events, and the totals of the partitions when each was asked (`RunningTotals`). Their differences say how many
events lie between two labels and how sure the model was of all of them, though only few were ever labelled.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter, deque
from typing import NamedTuple

from streamal.core.quality.confidence_sequence import ConfidenceSequence
from streamal.core.quality.estimates import Estimate, Sums, mean_recall
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import Closing, Example, partition_of

__all__ = ["LabelledEvent", "Population", "Quality", "log_loss"]

_PROBABILITY_MIN = 1e-6
"""A log loss is at most 13.8 nats: one confident mistake of a large weight shall not be the whole figure."""


def log_loss(probability: float) -> float:
    """Return the log loss of a prediction that gave the truth this *probability*, in nats.

    >>> round(log_loss(0.5), 3)
    0.693
    """
    return -math.log(max(_PROBABILITY_MIN, min(1.0, probability)))


class LabelledEvent(NamedTuple):
    """One label, as far as quality needs it; in order of its event."""

    asked_at: float
    offset: int
    request: str
    weight: float
    correct: bool
    label: str
    confidence: float
    probability: float
    seen: RunningTotals

    @classmethod
    def of(cls, example: Example) -> LabelledEvent:
        """Return what *example*, of a propensity above 0, tells."""
        return cls(
            example.asked_at,
            int(example.request.partition("-")[2]),
            example.request,
            1.0 / example.propensity,
            example.label == example.predicted,
            example.label,
            example.confidence,
            example.probability,
            example.seen,
        )

    @property
    def loss(self) -> float:
        """The log loss of the prediction, in nats."""
        return log_loss(self.probability)


class Population:
    """All events between the first and the last of some labels, in every partition."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        """Start at the beginning of every partition."""
        self._first: dict[int, RunningTotals] = {}
        self._last: dict[int, RunningTotals] = {}

    def add(self, labelled: LabelledEvent) -> None:
        """Reach up to this label."""
        partition = partition_of(labelled.request)
        self._last[partition] = max(self._last.get(partition, RunningTotals()), labelled.seen)

    def begin(self, labelled: LabelledEvent) -> None:
        """Begin after this label."""
        partition = partition_of(labelled.request)
        self._first[partition] = max(self._first.get(partition, RunningTotals()), labelled.seen)

    def between(self) -> RunningTotals:
        """Return how many events there are, how sure the model was of all of them together, and so on."""
        ends = [(self._first.get(partition, RunningTotals()), last) for partition, last in self._last.items()]
        pairs = [(first, last) for first, last in ends if last > first]
        return RunningTotals(*(sum(last[i] - first[i] for first, last in pairs) for i in range(3)))

    def confidence(self) -> float | None:
        """Return the mean confidence over all events, None where it is not known."""
        events, confidence, _ = self.between()
        return confidence / events / 1_000_000 if events else None


class Quality:
    """The estimates over everything, and over the last labels in order of their events."""

    def __init__(self, window: int, floor: float | None = None) -> None:
        """Keep *window* examples for the figures that follow the present.

        With a *floor*, the audit lane's propensity, there is a confidence sequence over everything too.
        """
        self._window_max = window
        self._window: list[LabelledEvent] = []
        self._begin: dict[int, LabelledEvent] = {}
        self.total = Sums()
        self._everything = Population()
        self._sequence = None if floor is None else ConfidenceSequence(floor)
        self.closed: Counter[str] = Counter()
        """How many requests of each lane ended how: "audit example", "strategy expiry" …"""
        self._natural: deque[bool] = deque(maxlen=window)
        self.natural_count = 0

    def fold(self, record: Closing) -> None:
        """Take in one closed request."""
        self.closed[f"{record.lane} {record.kind}"] += 1
        if not isinstance(record, Example) or record.propensity <= 0.0:
            return
        labelled = LabelledEvent.of(record)
        self.total.add(labelled.weight, labelled.correct, labelled.confidence)
        self._everything.add(labelled)
        if self._sequence is not None:
            self._sequence.add(labelled.weight, labelled.correct, labelled.confidence)
        bisect.insort(self._window, labelled)
        if len(self._window) > self._window_max:
            self._drop(self._window.pop(0))

    @property
    def labels(self) -> int:
        """How many labels were folded, bought and natural."""
        return self.total.count + self.natural_count

    def accuracy(self) -> Estimate | None:
        """Return the accuracy over the window; over everything, ever valid, if there is a confidence sequence."""
        if self._sequence is None:
            return self.recent_sums().proportion(self._population().confidence())
        events, confidence, _ = self._everything.between()
        return self._sequence.accuracy(events, confidence / 1_000_000)

    def total_accuracy(self) -> Estimate | None:
        """Return the accuracy over everything."""
        return self.total.proportion(self._everything.confidence())

    def log_loss(self) -> Estimate | None:
        """Return the mean log loss over the window, in nats."""
        sums, population = Sums(), self._population()
        for labelled in self._window:
            sums.add(labelled.weight, labelled.loss, labelled.confidence)
        return sums.mean(population.confidence())

    def recalls(self) -> dict[str, Estimate]:
        """Return class -> share of its events that were predicted as such, over the window; commonest class first."""
        by_class = self._by_class()
        order = sorted(by_class, key=lambda label: (-by_class[label].w, label))
        found = ((label, by_class[label].proportion()) for label in order)
        return {label: estimate for label, estimate in found if estimate is not None}

    def balanced_accuracy(self) -> Estimate | None:
        """Return the mean of `recalls`."""
        by_class = self._by_class()
        return mean_recall(by_class[label] for label in sorted(by_class))

    def recent_sums(self) -> Sums:
        """Return the sums over the window, added up afresh so that no rounding gathers over the years."""
        sums = Sums()
        for labelled in self._window:
            sums.add(labelled.weight, labelled.correct, labelled.confidence)
        return sums

    def never_askable(self) -> float | None:
        """Return the share of the window's events that had no chance of being asked: no estimate speaks of them."""
        population = self._population()
        between = population.between()
        return between.never_askable / between.events if between.events else None

    def natural(self, correct: bool) -> None:
        """Take in a natural label: whether the model, as it was just before learning it, says the same."""
        self._natural.append(correct)
        self.natural_count += 1

    def natural_accuracy(self) -> float | None:
        """Return the share of the last natural labels that the model knew already; biased by which of them arrive."""
        return sum(self._natural) / len(self._natural) if self._natural else None

    def unanswered_share(self) -> float | None:
        """Return the share of closed requests that brought no label: what the estimate cannot see."""
        total = sum(self.closed.values())
        examples = sum(count for how, count in self.closed.items() if how.endswith("example"))
        return 1.0 - examples / total if total else None

    def _population(self) -> Population:
        """Return the events of the window: from each partition's last label that has left it on."""
        population = Population()
        for labelled in self._window:
            population.add(labelled)
        for labelled in self._begin.values():
            population.begin(labelled)
        return population

    def _drop(self, labelled: LabelledEvent) -> None:
        partition = partition_of(labelled.request)
        if partition not in self._begin or labelled[:2] > self._begin[partition][:2]:
            self._begin[partition] = labelled

    def _by_class(self) -> dict[str, Sums]:
        by_class: dict[str, Sums] = {}
        for labelled in self._window:
            by_class.setdefault(labelled.label, Sums()).add(labelled.weight, labelled.correct)
        return by_class
