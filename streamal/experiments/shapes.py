"""What a stream looks like to a model, and where the values of its hyper-parameters come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streamal.experiments.runs import Metric
from streamal.recordings.reading import Stream

__all__ = ["Defaults", "Draw", "Shape"]


class Draw(Protocol):
    """Where values come from: an optimiser, or the defaults."""

    def real(self, name: str, low: float, high: float, default: float) -> float:
        """Return a number on a logarithmic scale, with three digits."""
        ...

    def choice(self, name: str, options: Sequence[Any]) -> Any:
        """Return one of *options*, of which the first is the default."""
        ...


class Defaults:
    """Draws every default; *values* holds what was drawn."""

    def __init__(self, **fixed: Any) -> None:
        """Draw *fixed* values where they are given."""
        self.values: dict[str, Any] = {}
        self._fixed = fixed

    def real(self, name: str, low: float, high: float, default: float) -> float:
        """Return *default*."""
        assert low <= default <= high
        return float(self.values.setdefault(name, self._fixed.get(name, default)))

    def choice(self, name: str, options: Sequence[Any]) -> Any:
        """Return the first of *options*."""
        return self.values.setdefault(name, self._fixed.get(name, options[0]))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a stream looks like to a model.

    Attributes:
        kinds: feature -> "number" | "string" | "boolean" | "text".
        classes: the labels.
        balance: whether rare classes are to be learned as if they were not: for balanced accuracy.
    """

    kinds: Mapping[str, str]
    classes: tuple[str, ...]
    balance: bool = False

    @classmethod
    def of(cls, stream: Stream, metric: Metric) -> Shape:
        """Return the shape of *stream*."""
        return cls(stream.kinds, stream.classes, metric == "balanced_accuracy")

    def named(self, *kinds: str) -> list[str]:
        """Return the features of these kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.classes) == 2
