"""The feature schema: which names, of which types, may reach the model.

It is declared, or learned once from the first requests and then fixed. A name outside of it never reaches the
model: River's scalers keep state for every name that they meet, even at predict, so that a producer could
grow them without end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from streamal.core.records import FeatureValue, Reason, Refusal
from streamal.core.vectors import Array, ModelFeatures, as_arrays, bounded_array, vector_kind, vector_length

__all__ = ["Schema", "describe_differences", "infer_schema", "kind_of", "quote"]

_KIND_OF: Mapping[type, str] = {bool: "boolean", float: "number", int: "number", str: "string"}


_FLOAT = frozenset({float})
_NAME_SHOWN = 64
"""So many characters of a name stand in a message, which has room for 256 bytes."""

_ORDER: Mapping[str, int] = {"number": 0, "boolean": 1, "string": 2}
"""Which kind wins where as many values are of one as of another: a text among numbers is more often a placeholder
("n/a") than a number is one among texts."""
_DIFFERENCES_SHOWN = 20
_PLAIN: Mapping[str, str] = {"text": "string"}
"""The JSON type of a kind, where its name differs."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The features that the model may see.

    Attributes:
        kinds: name -> "number" | "string" | "boolean" | "text" (a string that the default pipeline splits into words)
            | "vector(384)" (so many numbers).
        unknown: "drop" a feature of another name, or "refuse" its event.
        open: let unknown names through (sparse streams; the pipeline must hash them).
        required: names that every event should have; one that lacks some is accepted, and counted.
    """

    kinds: Mapping[str, str]
    unknown: Literal["drop", "refuse"] = "drop"
    open: bool = False
    required: frozenset[str] = frozenset()
    drops: bool = field(init=False, repr=False)
    """Whether features of other names are dropped."""
    numbers: frozenset[str] = field(init=False, repr=False)
    """All names, if all are numbers or vectors; else none. Then events are compared at once, see `decode_events`."""
    vectors: Mapping[str, int] = field(init=False, repr=False)
    """Name -> length of each vector."""
    name_bytes_max: int = field(init=False, repr=False)
    """The size of the longest name."""
    _texts: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        vectors = {name: length for name, kind in self.kinds.items() if (length := vector_length(kind)) is not None}
        numeric = all(kind == "number" or name in vectors for name, kind in self.kinds.items())
        object.__setattr__(self, "drops", self.unknown == "drop" and not self.open)
        object.__setattr__(self, "numbers", frozenset(self.kinds if numeric else ()))
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "name_bytes_max", max((len(name.encode()) for name in self.kinds), default=0))
        object.__setattr__(self, "_texts", tuple(name for name, kind in self.kinds.items() if kind == "text"))

    def mismatch(self, features: Mapping[str, FeatureValue]) -> Refusal | None:
        """Return why *features* cannot be accepted, or None.

        >>> Schema({"x": "number"}).mismatch({"x": "three"}).reason.value
        'feature_type'
        """
        kinds = self.kinds
        for name, value in features.items():
            kind = kinds.get(name)
            if kind is None:
                if self.unknown == "refuse" and not self.open:
                    return Refusal(Reason.FEATURE_UNKNOWN, f"feature {quote(name)} is not in the schema")
            elif kind_of(value) != _PLAIN.get(kind, kind):
                return Refusal(Reason.FEATURE_TYPE, f"feature {quote(name)} is a {kind_of(value)}, not a {kind}")
        return None

    def as_numeric(self, features: Mapping[str, float | list[float]], magnitude_max: float) -> dict[str, float | Array]:
        """Return *features* with an array for each vector; {} if one is not as this schema, of no other kinds, says.

        No number of a vector may be beyond *magnitude_max*; the other numbers were checked before.
        """
        vectors, found = self.vectors, dict[str, float | Array]()
        for name, value in features.items():
            length = vectors.get(name)
            if not isinstance(value, list):
                if length is not None:
                    return {}
                found[name] = value
                continue
            array = bounded_array(value, magnitude_max) if len(value) == length else None
            if array is None:
                return {}
            found[name] = array
        return found

    def select(self, features: ModelFeatures) -> ModelFeatures:
        """Return what the model may see of *features*; names or types outside the schema are left out.

        A vector becomes an array. A text that is missing is the empty text: River's vectorisers raise without one.

        >>> Schema({"x": "number"}).select({"x": 1.0, "new": 2.0})
        {'x': 1.0}
        """
        if self.numbers and self.numbers.issuperset(features) and _FLOAT.issuperset(map(type, features.values())):
            return dict(features)
        kinds = self.kinds
        selected = {
            name: value
            for name, value in features.items()
            if (_PLAIN.get(kinds[name], kinds[name]) == kind_of(value) if name in kinds else self.open)
        }
        for name in self._texts:
            selected.setdefault(name, "")
        return as_arrays(selected) if self.vectors or self.open else selected


def kind_of(value: FeatureValue | Array) -> str:
    """Return the kind of a feature with this *value*, as a schema names it.

    >>> kind_of(1.0), kind_of([0.5, 0.25])
    ('number', 'vector(2)')
    """
    kind = _KIND_OF.get(type(value))
    return vector_kind(len(value)) if kind is None else kind  # type: ignore[arg-type]


def quote(name: str) -> str:
    """Return *name* for a message: in quotes, and not the whole of a long one.

    >>> quote("x"), quote("y" * 300)[-4:]
    ("'x'", "yy…'")
    """
    return repr(name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…")


def infer_schema(samples: Iterable[Mapping[str, FeatureValue]], features_max: int) -> dict[str, str]:
    """Return name -> kind over *samples*, names in sorted order: a name has the kind of most of its values (fault F32).

    Where two kinds have as many values, "number" goes before "boolean", and that before "string". The order of the
    samples does not matter, so a placeholder in the first of them decides nothing. A name that a single sample has
    gets the kind of that value: there is no better evidence.

    At most *features_max* names are kept, the most frequent first, so that the first requests cannot make the schema
    larger than an event may be.

    >>> infer_schema([{"b": "n/a"}, {"a": "x", "b": 1.0}, {"b": 2.0}], 10)
    {'a': 'string', 'b': 'number'}
    """
    votes: dict[str, Counter[str]] = {}
    for features in samples:
        for name, value in features.items():
            votes.setdefault(name, Counter())[kind_of(value)] += 1
    kept = sorted(votes, key=lambda name: (-votes[name].total(), name))[:features_max]
    return {name: _most(votes[name]) for name in sorted(kept)}


def describe_differences(declared: Mapping[str, str], logged: Mapping[str, str]) -> Sequence[str]:
    """Return how the *declared* features differ from those in the log's schema, a phrase for each name, sorted.

    A "text" is a "string" on the wire, so these two do not differ.

    >>> describe_differences({"temp": "number", "hum": "number"}, {"temp": "string", "wind": "number"})
    ["'hum' is not in the log", "'temp' is a string in the log, declared as number", "'wind' is not declared"]
    """
    found = []
    for name in sorted(declared.keys() | logged.keys()):
        here, there = declared.get(name), logged.get(name)
        if here is None:
            found.append(f"{quote(name)} is not declared")
        elif there is None:
            found.append(f"{quote(name)} is not in the log")
        elif _PLAIN.get(here, here) != _PLAIN.get(there, there):
            found.append(f"{quote(name)} is a {there} in the log, declared as {here}")
    more = len(found) - _DIFFERENCES_SHOWN
    return [*found[:_DIFFERENCES_SHOWN], f"and {more} more"] if more > 0 else found


def _most(votes: Counter[str]) -> str:
    return min(votes, key=lambda kind: (-votes[kind], _ORDER.get(kind, len(_ORDER)), kind))
