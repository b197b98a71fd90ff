"""Predictions of a linear River pipeline whose features are vectors, and numbers beside them: each event is a row.

As `streamal.core.model.linear` does for numbers, it gives the very same probabilities as ``predict_proba_one``, to the
last bit. A vector is one slice of the row: nothing is looked up number by number, except once after an example was
learned, when the weights are laid out in the order of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from river import compose, preprocessing

from streamal.core.model.linear import Scorers, is_supported, scorers_of
from streamal.core.model.unit_vectors import UnitVectors, scale_rows
from streamal.core.vectors import Array, ModelFeatures, component_names

__all__ = ["LinearRows", "has_unit_vectors"]


_NUMBERS_AT_ONCE = 16_384
"""Numbers that are worked on at once: what the processor's cache holds."""


class _Block(NamedTuple):
    """Columns that come from one feature: their names, and whether they are still one vector."""

    names: tuple[str, ...]
    is_vector: bool


_Blocks = Mapping[str, _Block]
_Arrays = dict[str, Array]
"""Feature -> its columns (rows x columns); in the order in which River meets the features."""
_Step = Callable[[_Arrays], _Arrays]


class LinearRows:
    """A linear pipeline, laid out for rows with certain features; valid until the pipeline learns.

    The products of a row are added up one after the other, as River does.

    Attributes:
        features: name -> length of a vector, None for a number; in the order of the rows.
    """

    def __init__(
        self, features: Mapping[str, int | None], step: _Step, scorers: Scorers, weights: Sequence[Array]
    ) -> None:
        """Take what `lay_out` has made."""
        self.features = features
        self._step, self._scorers, self._weights = step, scorers, weights

    @classmethod
    def lay_out(cls, estimator: Any, row: ModelFeatures) -> LinearRows | None:
        """Return *estimator* for rows like *row*, None if it is not one of those that are supported."""
        features = {name: len(value) if isinstance(value, np.ndarray | list) else None for name, value in row.items()}
        whole = has_unit_vectors(estimator)
        blocks = {
            name: _Block((name,) if length is None else component_names(name, length), whole and length is not None)
            for name, length in features.items()
        }
        *transformers, last = estimator.steps.values() if type(estimator) is compose.Pipeline else [estimator]
        found = _chain(transformers, blocks)
        if found is None:
            return None
        columns, step = found
        names = [name for block in columns.values() for name in block.names]
        scorers = scorers_of(last, names) if names else None
        if scorers is None or len(set(names)) < len(names) or any(block.is_vector for block in columns.values()):
            return None
        weights = [np.array([each.get(name, 0.0) for name in names]) for each in scorers.weights]
        return cls(features, step, scorers, weights)

    def predict_proba(self, rows: Sequence[ModelFeatures]) -> dict[Any, list[float]] | None:
        """Return class -> its probability for each of *rows*, None if a number on the way is not finite."""
        dots = np.empty((len(self._weights), len(rows)))
        at_once = max(1, _NUMBERS_AT_ONCE // len(self._weights[0]))
        with np.errstate(all="ignore"):
            for first in range(0, len(rows), at_once):
                x = self._columns(rows[first : first + at_once])
                for weights, found in zip(self._weights, dots, strict=True):
                    found[first : first + at_once] = np.add.accumulate(x * weights, axis=1)[:, -1]
            return self._scorers.probabilities(dots)

    def _columns(self, rows: Sequence[ModelFeatures]) -> Array:
        """Return *rows* (rows x columns) as the classifier meets them."""
        arrays = {
            name: np.array([row[name] for row in rows], dtype=float).reshape(len(rows), length or 1)
            for name, length in self.features.items()
        }
        x = [*self._step(arrays).values()]
        return x[0] if len(x) == 1 else np.concatenate(x, axis=1)


def has_unit_vectors(estimator: Any) -> bool:
    """Return whether a step of *estimator* takes vectors as they are; any other needs their numbers by name."""
    if isinstance(estimator, compose.Pipeline):
        return any(map(has_unit_vectors, estimator.steps.values()))
    if isinstance(estimator, compose.TransformerUnion):
        return any(map(has_unit_vectors, estimator.transformers.values()))
    return isinstance(estimator, UnitVectors)


def _chain(transformers: Sequence[Any], blocks: _Blocks) -> tuple[_Blocks, _Step] | None:
    """Return what one transformer after the other makes of *blocks*, None if one is not supported."""
    steps: list[_Step] = []
    for transformer in transformers:
        found = _laid_out(transformer, blocks)
        if found is None:
            return None
        blocks = found[0]
        steps.append(found[1])

    def step(arrays: _Arrays) -> _Arrays:
        for each in steps:
            arrays = each(arrays)
        return arrays

    return blocks, step


def _laid_out(transformer: Any, blocks: _Blocks) -> tuple[_Blocks, _Step] | None:
    """Return the blocks behind *transformer*, and what it does to arrays."""
    if type(transformer) is compose.Pipeline:
        return _chain(list(transformer.steps.values()), blocks)
    if type(transformer) is compose.TransformerUnion:
        return _union([_laid_out(each, blocks) for each in transformer.transformers.values()])
    if type(transformer) is UnitVectors:
        norm, kept = transformer.norm, [name for name, block in blocks.items() if block.is_vector]
        scaled = {name: blocks[name]._replace(is_vector=False) for name in kept}
        return scaled, lambda arrays: {name: scale_rows(arrays[name], norm) for name in kept}
    if not is_supported(transformer):
        return None
    if type(transformer) is preprocessing.StandardScaler:
        return None if any(block.is_vector for block in blocks.values()) else (blocks, _scaling(transformer, blocks))
    numbers = {name: block for name, block in blocks.items() if not block.is_vector}
    return numbers, lambda arrays: {name: arrays[name] for name in numbers}


def _union(parts: Sequence[tuple[_Blocks, _Step] | None]) -> tuple[_Blocks, _Step] | None:
    """Return what a union joins: River takes its parts from the last to the first."""
    if any(part is None for part in parts):
        return None
    known = [part for part in reversed(parts) if part is not None]
    names = [name for blocks, _ in known for name in blocks]
    if len(set(names)) < len(names):
        return None  # the same feature twice: the first part would win
    joined = {name: block for blocks, _ in known for name, block in blocks.items()}

    def step(arrays: _Arrays) -> _Arrays:
        return {name: array for _, each in known for name, array in each(arrays).items()}

    return joined, step


def _scaling(scaler: Any, blocks: _Blocks) -> _Step:
    """Return (x - mean) / deviation; 0 where nothing has varied yet, as `StandardScaler.transform_one` does."""
    means = {n: np.array([scaler.means.get(name, 0.0) for name in block.names]) for n, block in blocks.items()}
    if not scaler.with_std:
        return lambda arrays: {name: x - means[name] for name, x in arrays.items()}
    variances = {n: [scaler.vars.get(name, 0.0) for name in block.names] for n, block in blocks.items()}
    deviations = {n: np.array([v**0.5 if v else 1.0 for v in each]) for n, each in variances.items()}
    varied = {n: np.array([bool(v) for v in each]) for n, each in variances.items()}
    return lambda arrays: {n: np.where(varied[n], (x - means[n]) / deviations[n], 0.0) for n, x in arrays.items()}
