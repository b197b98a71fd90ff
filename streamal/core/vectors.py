"""Vectors: features that are many numbers of one fixed length, such as the embedding of a text or an image.

In a record a vector is a JSON array. A model of River meets it as numbers with names, ``embedding[0]`` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streamal.core.records import FeatureValue

__all__ = [
    "Array",
    "ModelFeatures",
    "as_arrays",
    "bounded_array",
    "component_names",
    "describe_vector",
    "has_vectors",
    "name_components",
    "vector_kind",
    "vector_length",
]

Array = npt.NDArray[np.float64]
ModelFeatures = Mapping[str, FeatureValue | Array]
"""Features as the model gets them; each vector is one array where a schema has selected them."""

_KIND = re.compile(r"vector\(([1-9][0-9]{0,8})\)", re.ASCII)
_NAMES_CACHED = 64
_VECTORS = frozenset({np.ndarray, list})


def vector_kind(length: int) -> str:
    """Return the kind of a vector of *length* numbers, as it stands in a schema.

    >>> vector_kind(384)
    'vector(384)'
    """
    return f"vector({length})"


@lru_cache(maxsize=1_024)
def vector_length(kind: str) -> int | None:
    """Return how many numbers a feature of this *kind* has, None if it is no vector.

    >>> vector_length("vector(384)"), vector_length("number")
    (384, None)
    """
    found = _KIND.fullmatch(kind)
    return None if found is None else int(found[1])


def describe_vector(vector: list[float]) -> str:
    """Return what people are shown of a *vector*.

    >>> describe_vector([0.5, 0.25])
    '2 numbers'
    """
    return f"{len(vector)} numbers"


@lru_cache(maxsize=_NAMES_CACHED)
def component_names(name: str, length: int) -> tuple[str, ...]:
    """Return the names under which a model of River meets the numbers of the vector *name*.

    >>> component_names("embedding", 2)
    ('embedding[0]', 'embedding[1]')
    """
    return tuple([f"{name}[{i}]" for i in range(length)])


def bounded_array(vector: list[float], magnitude_max: float) -> Array | None:
    """Return *vector* as an array, None if a number of it is beyond ±*magnitude_max*."""
    array = np.array(vector)
    return array if np.maximum.reduce(np.abs(array)) <= magnitude_max else None


def as_arrays(features: Mapping[str, FeatureValue | Array]) -> dict[str, Any]:
    """Return *features* with an array for each vector."""
    return {name: np.array(value) if isinstance(value, list) else value for name, value in features.items()}


def has_vectors(features: ModelFeatures) -> bool:
    """Return whether any of *features* is a vector."""
    return not _VECTORS.isdisjoint(map(type, features.values()))


def name_components(features: Mapping[str, FeatureValue | Array]) -> dict[str, Any]:
    """Return *features* with each vector as its numbers, in the place where the vector stands.

    >>> name_components({"x": 1.0, "e": [0.5, 0.25]})
    {'x': 1.0, 'e[0]': 0.5, 'e[1]': 0.25}
    """
    found: dict[str, Any] = {}
    for name, value in features.items():
        if isinstance(value, np.ndarray):
            found.update(zip(component_names(name, len(value)), value.tolist(), strict=True))
        elif isinstance(value, list):
            found.update(zip(component_names(name, len(value)), value, strict=True))
        else:
            found[name] = value
    return found
