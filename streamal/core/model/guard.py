"""The guard: a model that an example has broken is taken back, and goes on from the log without that example.

One example can be the end of a model: a weight that overflows turns into NaN, and so does whatever is learned on top
of it (0.4). So after every `_EVERY` examples the model is asked about the features of the last ones. If it raises, or
answers with NaN, infinity or less than 0, it is **broken**; if it gives all of the last examples, whatever their
labels, to one class with certainty, and a single example made it so, it has **collapsed**. Then the examples before
are gone through again: which of them, left out, would have saved the model? That one is **quarantined**, by every
worker alike, since all of this depends on nothing but the sequence of the examples.

A stream of one class, a model that is rightly sure, a drift that costs accuracy: none of them is a collapse.
A fault that no single example explains is let be (`ModelGuard.sick`): leaving out one label after another would not
help.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from streamal.core.model.checkpoints import Checkpoints, Learner, learn_rehearsed
from streamal.core.model.model import Model
from streamal.core.model.rehearsal import Rehearsal, WeightedExample
from streamal.core.records import Scalar

__all__ = ["ModelGuard"]

_EVERY = 16
"""Examples between two checks: a check asks for one prediction, a sixteenth of what it would cost after each."""
_EVERY_MAX = 512
"""Examples between two checks of a model whose fault no example explains."""
_RECENT = 32
_RECENT_MIN = 16
_MIXED = 0.75
"""A collapse shows only where no class has a larger share of the recent examples."""
_CERTAIN = 1.0 - 1e-9
_CLIFF = 0.25
"""How much accuracy, on the recent examples, a single one must have cost to be the cause of a collapse."""
_HARMLESS = 4
"""So many of the recent examples are tried on an old copy: one that breaks by all of them was broken before."""
_SUSPECTS = 4
"""So many lessons are tried for the cause of a damage that shows late."""
_NAMES_KEPT = 100

Features = Mapping[str, Scalar]


class ModelGuard:
    """Teaches a model its lessons and watches what they do to it; part of the fold, and of its snapshots.

    Attributes:
        quarantined: how many examples were left out.
        names: the last of them.
        sick: whether the last check found a fault that no single example explains.
    """

    def __init__(self, rehearsal: Rehearsal | None = None) -> None:
        """Watch from the first lesson on; each goes through *rehearsal*, by default none."""
        self._rehearsal = rehearsal or Rehearsal()
        self._checkpoints: Checkpoints | None = None
        self._unchecked = 0
        self._every = _EVERY
        self._probe: dict[str, Scalar] = {}
        self._recent: deque[WeightedExample] = deque(maxlen=_RECENT)
        self.quarantined = 0
        self.names: deque[str] = deque(maxlen=_NAMES_KEPT)
        self.sick = False

    def learn(self, model: Model, example: WeightedExample, name: str) -> Model:
        """Teach *model* one lesson, called *name*; return the model to go on with, which may be another one."""
        learner = model, self._rehearsal
        if self._checkpoints is None:
            self._checkpoints = Checkpoints(learner)
        failures = model.failures
        learn_rehearsed(learner, example)
        self._checkpoints.examples.append((example, name))
        self._unchecked += 1
        # one that the estimator has raised on may have left it half-updated (F34)
        if self._unchecked < self._every and model.failures == failures:
            return model
        return self._check(learner, self._checkpoints)

    def _check(self, learner: Learner, checkpoints: Checkpoints) -> Model:
        block = [example for example, _ in checkpoints.examples[-self._unchecked :]]
        probe: dict[str, Scalar] = {}
        for example in block:
            probe.update(example.features)
        surest = _likeliest(learner[0], {**self._probe, **probe})
        if surest is None or (surest[1] >= _CERTAIN and self._has_collapsed(learner[0])):
            return self._heal(learner, checkpoints, block)
        self._accept(block, probe)
        checkpoints.save(learner)
        return learner[0]

    def _accept(self, block: Sequence[WeightedExample], probe: dict[str, Scalar], *, sick: bool = False) -> None:
        self._recent.extend(block)
        self._probe = probe
        self._unchecked, self.sick = 0, sick
        self._every = min(_EVERY_MAX, 2 * self._every) if sick else _EVERY

    def _heal(self, learner: Learner, checkpoints: Checkpoints, block: Sequence[WeightedExample]) -> Model:
        """Return the model without what broke it in *block*, the last lessons; as it is if that cannot be said."""
        first = number = len(checkpoints.examples) - len(block)
        sound = checkpoints.restore(first)
        probes = self._probes(learner[0], sound[0], block)
        if (
            not (probes or self._has_collapsed(learner[0]))
            or self._has_collapsed(sound[0])
            or self._was_broken_before(checkpoints, probes)
        ):
            self._accept(block, self._probe, sick=True)
            return learner[0]
        while number < len(checkpoints.examples):
            example = checkpoints.examples[number][0]
            before = self._recent_accuracy(sound[0])
            learn_rehearsed(sound, example)
            if any(_likeliest(sound[0], f) is None for f in probes):
                culprit = _culprit(checkpoints, number, first, probes)
            elif self._has_collapsed(sound[0]) and before - self._recent_accuracy(sound[0]) >= _CLIFF:
                culprit = number
                self._recent.append(example)  # a collapse that more and more labels confirm is the stream's own
            else:
                number += 1
                continue
            self.quarantined += 1
            self.names.append(checkpoints.examples[culprit][1])
            checkpoints.leave_out(culprit)
            first -= culprit < first
            number -= culprit < number
            sound = checkpoints.restore(number)
        left = [example for example, _ in checkpoints.examples[first:]]
        self._accept(left, dict(left[-1].features) if left else self._probe)
        for label in learner[0].classes:
            sound[0].admit(label)  # what was once a class remains one
        self._rehearsal = sound[1]
        checkpoints.save(sound, at_once=True)
        return sound[0]

    def _probes(self, model: Model, sound: Model, block: Sequence[WeightedExample]) -> Sequence[Features]:
        """Return features that show that *model* is broken, [] if it is not; of old examples, if they are enough.

        Those of a broken example prove little: 1e100 overflows in many a model that is well. And what a *sound* model
        cannot answer either proves nothing.
        """
        old, new = [self._probe, *(each.features for each in self._recent)], [each.features for each in block]
        for asked in (old, new):
            told = [features for features in asked if _is_finite(features) and _likeliest(sound, features) is not None]
            if any(_likeliest(model, features) is None for features in told):
                return told
        return []

    def _was_broken_before(self, checkpoints: Checkpoints, probes: Sequence[Features]) -> bool:
        """Whether the oldest copy was broken already: then each lesson would look like the culprit."""
        tried = list(self._recent)[-_HARMLESS:]
        return bool(tried) and all(_breaks(checkpoints, 0, example, probes) for example in tried)

    def _has_collapsed(self, model: Model) -> bool:
        """Whether *model* gives all recent examples to one class, with certainty, though their labels are mixed."""
        recent = self._recent
        if len(recent) < _RECENT_MIN:
            return False
        if max(Counter(each.label for each in recent).values()) > _MIXED * len(recent):
            return False
        first = None
        one_each = {each.label: each.features for each in recent}.values()  # where a sound model soon differs
        for features in (*one_each, *(each.features for each in recent)):
            surest = _likeliest(model, features)
            if surest is None or surest[1] < _CERTAIN or (first or surest[0]) != surest[0]:
                return False
            first = surest[0]
        return True

    def _recent_accuracy(self, model: Model) -> float:
        """Return the share of the recent examples that *model* knows; 0.0 if there are none."""
        right = 0
        for each in self._recent:
            surest = _likeliest(model, each.features)
            right += surest is not None and surest[0] == each.label
        return right / len(self._recent) if self._recent else 0.0


def _culprit(checkpoints: Checkpoints, number: int, first: int, probes: Sequence[Features]) -> int:
    """Return the number of the lesson that is to blame for a model that is broken after lesson *number*.

    Damage may show late: 1e200 makes a scaler's variance infinite, and only the next example, or the one after it,
    NaN. So it is one of those before which *number* would have done no harm, if leaving that one out is a cure.
    *first* is the first lesson of the block.
    """
    example = checkpoints.examples[number][0]
    harmless, harmful = 0, number
    if number == 0 or _breaks(checkpoints, 0, example, probes):
        return number
    while harmful - harmless > 1:
        middle = (harmless + harmful) // 2
        if _breaks(checkpoints, middle, example, probes):
            harmful = middle
        else:
            harmless = middle
    suspects = range(harmful - 1, max(-1, harmful - 1 - _SUSPECTS), -1)
    return next((suspect for suspect in suspects if _cures(checkpoints, suspect, first, probes)), number)


def _cures(checkpoints: Checkpoints, suspect: int, first: int, probes: Sequence[Features]) -> bool:
    """Whether nothing breaks without *suspect*, though all lessons from *first* on are taught, and then again."""
    learner = checkpoints.restore(suspect)
    block = checkpoints.examples[max(first, suspect + 1) :]
    again = [entry for number, entry in enumerate(checkpoints.examples[first:], first) if number != suspect]
    for example, _ in (*checkpoints.examples[suspect + 1 : first], *block, *again):
        learn_rehearsed(learner, example)
    return all(_likeliest(learner[0], features) is not None for features in probes)


def _breaks(checkpoints: Checkpoints, count: int, example: WeightedExample, probes: Sequence[Features]) -> bool:
    """Whether *example*, right after the first *count* lessons, breaks the model."""
    learner = checkpoints.restore(count)
    learn_rehearsed(learner, example)
    return any(_likeliest(learner[0], features) is None for features in probes)


def _is_finite(features: Features) -> bool:
    return all(math.isfinite(value) for value in features.values() if not isinstance(value, str))


def _likeliest(model: Model, features: Features) -> tuple[str, float] | None:
    """Return the likeliest class and its probability ("", 0.0 if there is none), or None from a broken model."""
    try:
        probabilities = model.raw(features)
    except Exception:
        return None
    # a NaN anywhere makes the sum a NaN, and fails the comparison
    if not sum(probabilities.values()) < float("inf") or min(probabilities.values(), default=0.0) < 0.0:
        return None
    best = max(probabilities, key=probabilities.__getitem__, default="")
    return best, probabilities.get(best, 0.0)
