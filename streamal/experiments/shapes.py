"""`Shape`: the columns and classes that a model must fit. `Draw`: a source of values for its hyper-parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streamal.core.vectors import vector_kind, vector_length
from streamal.experiments.runs import Metric
from streamal.recordings.reading import Stream

__all__ = ["Defaults", "Draw", "Shape"]

_VECTOR = vector_kind(1)
"""Any vector: no family asks for its length."""


class Draw(Protocol):
    """A source of values for hyper-parameters: an optimiser, or the defaults."""

    def real(self, name: str, low: float, high: float, default: float) -> float:
        """Return a number on a logarithmic scale, with three digits."""
        ...

    def choice(self, name: str, options: Sequence[Any]) -> Any:
        """Return one of *options*, of which the first is the default."""
        ...


class Defaults:
    """Draws every default; *values* holds what was drawn."""

    def __init__(self, **fixed: Any) -> None:
        """Draw the *fixed* values instead of the defaults of these names."""
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
    """The columns and classes that a model must fit.

    Attributes:
        kinds: feature -> "number" | "string" | "boolean" | "text" | "vector(384)".
        classes: the labels.
        balance: whether rare classes count as much as common ones, as in balanced accuracy.
    """

    kinds: Mapping[str, str]
    classes: tuple[str, ...]
    balance: bool = False

    @classmethod
    def of(cls, stream: Stream, metric: Metric, embedded: Collection[str] = ()) -> Shape:
        """Return the shape of *stream*, of which the texts *embedded* reach the model as vectors."""
        kinds = {name: _VECTOR if name in embedded else kind for name, kind in stream.kinds.items()}
        return cls(kinds, stream.classes, metric == "balanced_accuracy")

    def named(self, *kinds: str) -> list[str]:
        """Return the names of the features of these kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    @property
    def vectors(self) -> list[str]:
        """The names of the vectors."""
        return [name for name, kind in self.kinds.items() if vector_length(kind) is not None]

    @property
    def binary(self) -> bool:
        """True if there are two classes."""
        return len(self.classes) == 2
