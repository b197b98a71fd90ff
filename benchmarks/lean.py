"""A replay without the daemon: the same decisions and estimates at a fraction of the time, for hundreds of replays.

The parts are the production ones (model, canary, budget, strategy, quality), and so are their coins; left out are the
log, the transactions and the states between two steps. Answers come at once and right, in one partition.
`require_same` shows on one replay that the daemon's own loop says the same, but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from streamal.bootstrap import build
from streamal.config import Config
from streamal.core.budget.sampler import Sampler
from streamal.core.codec.events import encode
from streamal.core.coins import EventCoins
from streamal.core.fold import Fold
from streamal.core.quality.estimates import Estimate
from streamal.core.quality.quality import log_loss
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import Event, Example, FeatureValue, Lane, coordinates
from streamal.core.rules import Rules
from streamal.core.strategies import EventView, requirements_of
from streamal.core.strategies.uncertainty import MEASURES, smooth
from streamal.recordings.reading import Stream
from streamal.replay import replay
from streamal.replay.replay import stream_config

__all__ = ["Figures", "lean", "require_same"]


class Figures(NamedTuple):
    """The figures of a replay: counts, the true accuracy over all events, and the estimates from the labels bought."""

    events: int
    right: int
    labels: int
    log_loss: float
    accuracy: Estimate | None
    estimated_log_loss: Estimate | None
    naive: float | None
    recalls: Mapping[str, float]


class _Partition:
    """Event by event: predict, decide, and learn the answer at once."""

    def __init__(self, fold: Fold, decides: Rules) -> None:
        self._fold, self._measure, self._requirements = (
            fold,
            MEASURES[decides.uncertainty],
            requirements_of(decides.strategy),
        )
        assert not self._requirements.votes, "the votes of an ensemble are for the daemon's own replay"
        self._sampler = Sampler(decides.budgets[0], decides.strategy, EventCoins(decides.seed), None, None, 0.0)
        self._memory = self._requirements.memory() if self._requirements.lookback else None
        self._seen = RunningTotals()

    def predict(self, offset: int, features: dict[str, FeatureValue], truth: str) -> tuple[str, float]:
        """Return the predicted label and its log loss."""
        probabilities = self._fold.learned.predict(Event(0, offset, None, None, features))
        label = max(probabilities, key=probabilities.__getitem__)
        score, state = self._score(offset, features, probabilities), self._sampler.state
        decision = self._sampler.decide(offset, score, probabilities)
        propensity, lane = decision.propensity, decision.lane
        self._seen = self._seen.add_event(probabilities, propensity)
        if self._memory is not None:
            self._memory.take(offset, features)
        if lane is not None:
            arms: tuple[float, ...] = ()
            if self._requirements.arms and lane is Lane.AUDIT:
                arms = tuple(round(p, 4) for p in self._requirements.arms(score, state))
            example = Example(
                request=coordinates(0, offset),
                label=truth,
                features=features,
                predicted=label,
                propensity=propensity,
                lane=lane,
                asked_at=0.0,
                at=0.0,
                arms=arms,
                seen=self._seen,
                confidence=probabilities[label],
                probability=probabilities.get(truth, 0.0),
            )
            self._fold.apply_training(self._fold.books.version.offset, encode(example))
        return label, log_loss(probabilities.get(truth, 0.0))

    def _score(self, offset: int, features: Mapping[str, FeatureValue], probabilities: Mapping[str, float]) -> Any:
        examples = sum(self._fold.learned.model.learned.values())
        seen = smooth(probabilities, examples)
        uncertainty = self._measure(seen)
        if self._requirements.score is None:
            return uncertainty
        weights = self._fold.learned.bandit.weights() if self._requirements.arms else ()
        return self._requirements.score(
            EventView(uncertainty, seen, features, offset, examples, None, self._memory, weights)
        )


def lean(stream: Stream, config: Config) -> Figures:
    """Return what the daemon's `replay` of *stream* under *config* would show."""
    config = stream_config(config, stream)
    parts = build(config)
    fold = parts.new_fold()
    partition = _Partition(fold, parts.rules)
    predictions = [partition.predict(offset, row.features, row.label) for offset, row in enumerate(stream.rows)]
    quality, right, met = fold.learned.quality, dict.fromkeys(stream.classes, 0), dict.fromkeys(stream.classes, 0)
    for row, (label, _) in zip(stream.rows, predictions, strict=True):
        right[row.label] += label == row.label
        met[row.label] += 1
    return Figures(
        events=len(predictions),
        right=sum(right.values()),
        labels=quality.total.count,
        log_loss=fmean(loss for _, loss in predictions),
        accuracy=quality.total_accuracy(),
        estimated_log_loss=quality.log_loss(),
        naive=quality.total.naive(),
        recalls={label: right[label] / met[label] for label in stream.classes if met[label]},
    )


def require_same(stream: Stream, config: Config) -> None:
    """Assert that `lean` says what the daemon's own replay says."""
    ours, theirs = lean(stream, config), replay(stream, config)
    assert (ours.events, ours.right, ours.labels) == (theirs.events, sum(theirs.correct), theirs.labels), (ours, theirs)
    for one, other in (
        (ours.accuracy, theirs.estimated_accuracy),
        (ours.estimated_log_loss, theirs.estimated_log_loss),
    ):
        assert one is not None
        assert other is not None
        assert np.allclose(one, other, rtol=1e-9), (one, other)  # sums of floats in another order
