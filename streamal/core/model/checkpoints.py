"""The last examples of a model, and copies of it from before them: enough to make it again without one of them."""

from __future__ import annotations

from streamal.core.model.model import Model
from streamal.core.model.rehearsal import Rehearsal, WeightedExample
from streamal.core.model.slim_pickle import dumps, loads
from streamal.errors import ConfigError

__all__ = ["Checkpoints", "Learner", "learn_rehearsed"]

_COPY_EVERY = 512
"""Examples between two copies; at least as many can be taken back, whenever a fault shows."""

Learner = tuple[Model, Rehearsal]
"""A model, and what it has to repeat."""


class Checkpoints:
    """Two copies of a model, and the examples since the older one.

    Attributes:
        examples: each with its name, in order.
    """

    def __init__(self, learner: Learner) -> None:
        """Begin with the model as it is."""
        self._older = _pickle(learner)
        self._newer: bytes | None = None
        self._mark = 0
        """How many of the examples the newer copy has learned."""
        self.examples: list[tuple[WeightedExample, str]] = []

    def restore(self, count: int) -> Learner:
        """Return the model as it was after the first *count* examples."""
        is_near = self._newer is not None and count >= self._mark
        learner: Learner = loads(self._newer if is_near and self._newer is not None else self._older)
        for example, _ in self.examples[self._mark if is_near else 0 : count]:
            learn_rehearsed(learner, example)
        return learner

    def leave_out(self, number: int) -> None:
        """Forget the example at *number*, as if it had never been."""
        del self.examples[number]
        if number < self._mark:
            self._newer, self._mark = None, 0

    def save(self, learner: Learner, *, at_once: bool = False) -> None:
        """Copy *learner*, after all examples, if the last copy is old or *at_once*; forget what is older."""
        due = len(self.examples) - self._mark >= _COPY_EVERY
        if not due and not at_once:
            return
        if self._newer is not None and len(self.examples) >= 2 * _COPY_EVERY:
            self._older, self.examples = self._newer, self.examples[self._mark :]
        self._newer, self._mark = _pickle(learner), len(self.examples)


def learn_rehearsed(learner: Learner, example: WeightedExample) -> None:
    """Let the model learn *example*, and the recent ones that are repeated with it."""
    model, rehearsal = learner
    if not rehearsal.repeats:
        model.learn(*example)
        return
    for each in rehearsal.rehearse(example):
        model.learn(*each)


def _pickle(learner: Learner) -> bytes:
    try:
        return dumps(learner)
    except Exception as error:
        raise ConfigError(
            f"model: it cannot be pickled, and so neither be kept in a snapshot nor be taken back: {error}"
        ) from error
