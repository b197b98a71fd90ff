"""The last lessons of a model, and copies of it from before them: enough to make it again without one of them."""

from __future__ import annotations

from streamal.core.model.model import Model
from streamal.core.model.rehearsal import Rehearsal, WeightedExample
from streamal.core.model.slim_pickle import dumps, loads
from streamal.errors import ConfigError

__all__ = ["History", "Learner", "teach"]

_COPY_EVERY = 512
"""Lessons between two copies; at least as many can be taken back, whenever a fault shows."""

Learner = tuple[Model, Rehearsal]
"""A model, and what it has to repeat."""


class History:
    """The lessons since the older of two copies.

    Attributes:
        lessons: each with its name, in order.
    """

    def __init__(self, taught: Learner) -> None:
        """Begin with the model as it is."""
        self._older = _copied(taught)
        self._newer: bytes | None = None
        self._mark = 0
        """How many of the lessons the newer copy has had."""
        self.lessons: list[tuple[WeightedExample, str]] = []

    def state(self, count: int) -> Learner:
        """Return the model as it was after the first *count* lessons, made again."""
        near = self._newer is not None and count >= self._mark
        taught: Learner = loads(self._newer if near and self._newer is not None else self._older)
        for lesson, _ in self.lessons[self._mark if near else 0 : count]:
            teach(taught, lesson)
        return taught

    def leave_out(self, number: int) -> None:
        """Forget the lesson at *number*, as if it had never been."""
        del self.lessons[number]
        if number < self._mark:
            self._newer, self._mark = None, 0

    def keep(self, taught: Learner, *, at_once: bool = False) -> None:
        """Copy *taught*, the model after all lessons, if the last copy is old (or *at_once*); forget what is older."""
        due = len(self.lessons) - self._mark >= _COPY_EVERY
        if not due and not at_once:
            return
        if self._newer is not None and len(self.lessons) >= 2 * _COPY_EVERY:
            self._older, self.lessons = self._newer, self.lessons[self._mark :]
        self._newer, self._mark = _copied(taught), len(self.lessons)


def teach(taught: Learner, lesson: WeightedExample) -> None:
    """Teach the model *lesson*, and what is to be repeated with it."""
    model, rehearsal = taught
    if not rehearsal.repeats:
        model.learn(*lesson)
        return
    for each in rehearsal.course(lesson):
        model.learn(*each)


def _copied(taught: Learner) -> bytes:
    try:
        return dumps(taught)
    except Exception as error:
        raise ConfigError(
            f"model: it cannot be pickled, and so neither be kept in a snapshot nor be taken back: {error}"
        ) from error
