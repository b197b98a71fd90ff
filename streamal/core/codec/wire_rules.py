"""What an input may look like: its format, and a bound on everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

__all__ = ["TEXT_BYTES_MAX", "WireRules"]

TEXT_BYTES_MAX = 256
"""Bound of ids, annotators and class names: they are kept in memory while a request is open."""

_Text = Annotated[str, msgspec.Meta(max_length=TEXT_BYTES_MAX)]
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Time = Annotated[float, msgspec.Meta(ge=-(2.0**63), lt=2.0**63)]


@dataclass(frozen=True, slots=True)
class WireRules:
    """What an input may look like.

    Attributes:
        format: "flat": an event is a flat object whose fields are the features, except *id* and *time*; "nested": its
            features are an object of their own.
        id, time: names of these fields in a flat event.
        null: whether an event with a null feature is refused, or the feature counts as absent ("missing").
        missing: texts that stand for a missing value: a feature that is one of them, but for spaces around it, counts
            as absent.
        record_bytes_max, features_max, feature_name_bytes_max: sizes, in bytes and names.
        vector_length_max: how many numbers a vector may have.
        magnitude_max: |number| beyond it is refused; a finite 1e308 kills River's scaler as surely as a NaN.
        natural: whether labels that nobody asked for are learned.
        shown: names that annotators see although the schema may not know them; requests keep their features.
        dead_letter_bytes_max: how much of a refused record its dead letter keeps.
    """

    format: Literal["nested", "flat"] = "nested"
    id: str = "id"
    time: str = "time"
    null: Literal["refuse", "missing"] = "refuse"
    missing: frozenset[str] = frozenset()
    record_bytes_max: int = 1_048_576
    features_max: int = 1_000
    feature_name_bytes_max: int = 256
    vector_length_max: int = 4_096
    magnitude_max: float = 1e12
    natural: bool = False
    shown: frozenset[str] = frozenset()
    dead_letter_bytes_max: int = 4_096
    numbers: Callable[[bytes], Any] = field(init=False, repr=False, compare=False)
    """Decodes an event whose features are numbers within the bounds; raises for any other, whatever is wrong."""
    vectors: Callable[[bytes], Any] = field(init=False, repr=False, compare=False)
    """Decodes an event whose features are numbers within the bounds or vectors; how large their numbers are is open."""

    def __post_init__(self) -> None:
        number = Annotated[float, msgspec.Meta(ge=-self.magnitude_max, le=self.magnitude_max)]
        vector = Annotated[list[float], msgspec.Meta(max_length=self.vector_length_max)]
        object.__setattr__(self, "numbers", _decoder(number))
        object.__setattr__(self, "vectors", _decoder(number | vector))


def _decoder(feature: Any) -> Callable[[bytes], Any]:
    """Return a decoder of events whose features are of the type *feature*."""
    shape = msgspec.defstruct(
        "Numbers",
        [
            ("features", dict[str, feature]),
            ("id", _Text | _Integer | None, None),
            ("time", _Text | _Time | None, None),
        ],
    )
    return msgspec.json.Decoder(shape).decode
