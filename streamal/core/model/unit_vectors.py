"""`UnitVectors`: the step of a pipeline that scales each vector to one length, rather than each of its numbers.

An embedding has one scale: its numbers are alike, and what they mean lies in the direction. Standardised one by one,
each becomes as loud as any other, and noise with them. So a vector is divided by its Euclidean length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from river import base

from streamal.core.vectors import Array, component_names

__all__ = ["UnitVectors", "scale_rows"]


class UnitVectors(base.Transformer):
    """Keep the vectors alone, each scaled to the Euclidean length *norm*; their numbers get names, as ``embedding[0]``.

    A vector of zeros stays as it is. Named in a pipeline as ``{ use = "streamal.UnitVectors" }``. It keeps no state.

    >>> UnitVectors(norm=5.0).transform_one({"x": 7.0, "e": [3.0, 4.0]})
    {'e[0]': 3.0, 'e[1]': 4.0}
    """

    def __init__(self, norm: float = 1.0) -> None:
        """Scale to the length *norm*, more than 0."""
        if not 0.0 < norm < float("inf"):
            raise ValueError(f"norm must be a positive number, not {norm}")
        self.norm = norm

    def transform_one(self, x: Mapping[str, Any]) -> dict[Any, Any]:  # type: ignore[override]
        """Return the numbers of the vectors in *x*, by name."""
        found: dict[str, float] = {}
        for name, value in x.items():
            if isinstance(value, np.ndarray | list):
                row = np.asarray(value, dtype=float)
                found.update(
                    zip(component_names(name, len(row)), scale_rows(row[None, :], self.norm)[0].tolist(), strict=True)
                )
        return found


def scale_rows(rows: Array, norm: float) -> Array:
    """Return *rows* (vectors x numbers), each scaled to the length *norm*.

    The squares are added up one after the other: the bits are the same in a batch of any size, on any machine.
    """
    lengths = np.sqrt(np.add.accumulate(rows * rows, axis=1)[:, -1])
    scaled: Array = rows / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    return scaled if norm == 1.0 else scaled * norm
