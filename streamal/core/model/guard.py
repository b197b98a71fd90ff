"""The guard: it takes a model back that an example has broken, and goes on from the log without that example.

One example can ruin a model: a weight that overflows turns into NaN, and so does whatever is learned on top of it. So
after every `_EVERY` examples the model predicts the features of the last ones. If it raises, or gives NaN, infinity or
less than 0, it is **broken**. If it gives all of the last examples, whatever their labels, to one class with certainty,
and a single example made it so, it has **collapsed**. Then the guard learns the last examples again, one by one, to
find the one that, left out, saves the model. That one is **quarantined**, by every worker alike, since all of this
depends on nothing but the sequence of the examples.

A stream of one class, a model that is rightly sure, a drift that costs accuracy: none of them is a collapse.
A fault that no single example explains stays (`ModelGuard.sick`): leaving out one label after another would not help.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence

from streamal.core.model.checkpoints import Checkpoints, Learner, learn_rehearsed
from streamal.core.model.model import Model
from streamal.core.model.rehearsal import Rehearsal, WeightedExample
from streamal.core.records import FeatureValue
from streamal.core.vectors import Array, ModelFeatures

__all__ = ["ModelGuard"]

_EVERY = 16
"""Examples between two checks: a check is one prediction, and costs a sixteenth of a check after each example."""
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
"""So many examples are tried for the cause of a damage that shows late."""
_NAMES_KEPT = 100

Probe = dict[str, FeatureValue | Array]


class ModelGuard:
    """Lets a model learn its examples and checks what they do to it; part of the fold, and of its snapshots.

    Attributes:
        quarantined: how many examples were left out.
        names: the last of them.
        sick: whether the last check found a fault that no single example explains.
    """

    def __init__(self, rehearsal: Rehearsal | None = None) -> None:
        """Begin with the first example; each goes through *rehearsal*, by default none."""
        self._rehearsal = rehearsal or Rehearsal()
        self._checkpoints: Checkpoints | None = None
        self._unchecked = 0
        self._every = _EVERY
        self._probe: Probe = {}
        self._recent: deque[WeightedExample] = deque(maxlen=_RECENT)
        self.quarantined = 0
        self.names: deque[str] = deque(maxlen=_NAMES_KEPT)
        self.sick = False

    def learn(self, model: Model, example: WeightedExample, name: str) -> Model:
        """Let *model* learn one example, called *name*; return the model to go on with, which may be another one."""
        learner = model, self._rehearsal
        if self._checkpoints is None:
            self._checkpoints = Checkpoints(learner)
        failures = model.failures
        learn_rehearsed(learner, example)
        self._checkpoints.examples.append((example, name))
        self._unchecked += 1
        # F34: an example that the estimator has raised on may have left it half-updated
        if self._unchecked < self._every and model.failures == failures:
            return model
        return self._check(learner, self._checkpoints)

    def _check(self, learner: Learner, checkpoints: Checkpoints) -> Model:
        """Return the model of *learner* if it passes; else without what broke it since the last check."""
        block = [example for example, _ in checkpoints.examples[-self._unchecked :]]
        probe: Probe = {}
        for example in block:
            probe.update(example.features)
        likeliest = _likeliest(learner[0], {**self._probe, **probe})
        if likeliest is None or (likeliest[1] >= _CERTAIN and self._has_collapsed(learner[0])):
            return self._heal(learner, checkpoints, block)
        self._accept(block, probe)
        checkpoints.save(learner)
        return learner[0]

    def _accept(self, block: Sequence[WeightedExample], probe: Probe, *, sick: bool = False) -> None:
        """Take *block* for checked; after each *sick* one the next check comes twice as late."""
        self._recent.extend(block)
        self._probe = probe
        self._unchecked, self.sick = 0, sick
        self._every = min(_EVERY_MAX, 2 * self._every) if sick else _EVERY

    def _heal(self, learner: Learner, checkpoints: Checkpoints, block: Sequence[WeightedExample]) -> Model:
        """Return the model without the examples of *block*, the last ones, that broke it.

        If no single example explains the fault the model is returned as it is, and is sick.
        """
        first = len(checkpoints.examples) - len(block)
        before = checkpoints.restore(first)
        probes = self._probes(learner[0], before[0], block)
        if not self._can_heal(learner[0], before[0], checkpoints, probes):
            self._accept(block, self._probe, sick=True)
            return learner[0]
        healed, first = self._relearn(before, checkpoints, first, probes)
        sound = [example for example, _ in checkpoints.examples[first:]]
        self._accept(sound, dict(sound[-1].features) if sound else self._probe)
        for label in learner[0].classes:
            healed[0].admit(label)  # what was once a class remains one
        self._rehearsal = healed[1]
        checkpoints.save(healed, at_once=True)
        return healed[0]

    def _can_heal(self, model: Model, before: Model, checkpoints: Checkpoints, probes: Sequence[ModelFeatures]) -> bool:
        """Whether something is wrong with *model* that was not wrong *before* the last examples."""
        if not (probes or self._has_collapsed(model)):
            return False
        return not (self._has_collapsed(before) or self._was_broken_before(checkpoints, probes))

    def _relearn(
        self, learner: Learner, checkpoints: Checkpoints, first: int, probes: Sequence[ModelFeatures]
    ) -> tuple[Learner, int]:
        """Learn the examples from *first* on again, and quarantine each that breaks the model.

        Returns:
            The learner after them, and the number of the first of them now.
        """
        number = first
        while number < len(checkpoints.examples):
            culprit = self._learn_and_blame(learner, checkpoints, number, first, probes)
            if culprit is None:
                number += 1
                continue
            self.quarantined += 1
            self.names.append(checkpoints.examples[culprit][1])
            checkpoints.leave_out(culprit)
            first -= culprit < first
            number -= culprit < number
            learner = checkpoints.restore(number)
        return learner, first

    def _learn_and_blame(
        self, learner: Learner, checkpoints: Checkpoints, number: int, first: int, probes: Sequence[ModelFeatures]
    ) -> int | None:
        """Learn example *number*; return the number of the one to blame if the model is broken then, else None."""
        example = checkpoints.examples[number][0]
        accuracy = self._recent_accuracy(learner[0])
        learn_rehearsed(learner, example)
        if any(_likeliest(learner[0], features) is None for features in probes):
            return _culprit(checkpoints, number, first, probes)
        if self._has_collapsed(learner[0]) and accuracy - self._recent_accuracy(learner[0]) >= _CLIFF:
            self._recent.append(example)  # a collapse that more and more labels confirm is the stream's own
            return number
        return None

    def _probes(self, model: Model, sound: Model, block: Sequence[WeightedExample]) -> Sequence[ModelFeatures]:
        """Return features that show that *model* is broken, [] if it is not; of old examples, if they are enough.

        Those of a broken example prove little: 1e100 overflows in many a model that is well. And what a *sound* model
        cannot answer either proves nothing.
        """
        old, new = [self._probe, *(each.features for each in self._recent)], [each.features for each in block]
        for candidates in (old, new):
            answerable = [
                features for features in candidates if _is_finite(features) and _likeliest(sound, features) is not None
            ]
            if any(_likeliest(model, features) is None for features in answerable):
                return answerable
        return []

    def _was_broken_before(self, checkpoints: Checkpoints, probes: Sequence[ModelFeatures]) -> bool:
        """Whether the oldest copy was broken already: then each example would look like the culprit."""
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
            likeliest = _likeliest(model, features)
            if likeliest is None or likeliest[1] < _CERTAIN or (first or likeliest[0]) != likeliest[0]:
                return False
            first = likeliest[0]
        return True

    def _recent_accuracy(self, model: Model) -> float:
        """Return the share of the recent examples that *model* knows; 0.0 if there are none."""
        right = 0
        for each in self._recent:
            likeliest = _likeliest(model, each.features)
            right += likeliest is not None and likeliest[0] == each.label
        return right / len(self._recent) if self._recent else 0.0


def _culprit(checkpoints: Checkpoints, number: int, first: int, probes: Sequence[ModelFeatures]) -> int:
    """Return the number of the example that is to blame for a model that is broken after example *number*.

    Damage may show late: 1e200 makes a scaler's variance infinite, and only the next example, or the one after it,
    NaN. So the culprit may be an earlier one: one before which example *number* would have done no harm, and without
    which nothing breaks. *first* is the first example of the block.
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


def _cures(checkpoints: Checkpoints, suspect: int, first: int, probes: Sequence[ModelFeatures]) -> bool:
    """Whether nothing breaks without *suspect*, though all examples from *first* on are learned twice."""
    learner = checkpoints.restore(suspect)
    block = checkpoints.examples[max(first, suspect + 1) :]
    again = [entry for number, entry in enumerate(checkpoints.examples[first:], first) if number != suspect]
    for example, _ in (*checkpoints.examples[suspect + 1 : first], *block, *again):
        learn_rehearsed(learner, example)
    return all(_likeliest(learner[0], features) is not None for features in probes)


def _breaks(checkpoints: Checkpoints, count: int, example: WeightedExample, probes: Sequence[ModelFeatures]) -> bool:
    """Whether *example*, right after the first *count* examples, breaks the model."""
    learner = checkpoints.restore(count)
    learn_rehearsed(learner, example)
    return any(_likeliest(learner[0], features) is None for features in probes)


def _is_finite(features: ModelFeatures) -> bool:
    # the numbers of a vector are finite and bounded: it has been decoded
    return all(math.isfinite(value) for value in features.values() if isinstance(value, float))


def _likeliest(model: Model, features: ModelFeatures) -> tuple[str, float] | None:
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
