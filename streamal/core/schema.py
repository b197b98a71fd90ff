"""The feature schema: which names, of which types, may reach the model.

It is declared, or learned once from the first requests and then fixed. A name outside of it never reaches the
model: River's scalers keep state for every name that they meet, even at predict, so that a producer could
grow them without end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamal.core.records import Reason, Refusal, Scalar

__all__ = ["Schema", "infer_schema", "quote"]

_KIND_OF: Mapping[type, str] = {bool: "boolean", float: "number", int: "number", str: "string"}


_FLOAT = frozenset({float})
_NAME_SHOWN = 64
"""So many characters of a name stand in a message, which has room for 256 bytes."""

_PLAIN: Mapping[str, str] = {"text": "string"}
"""The JSON type of a kind, where its name differs."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The features that the model may see.

    Attributes:
        kinds: name -> "number" | "string" | "boolean" | "text" (a string that the default pipeline splits into words).
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
    """All names, if all are numbers; else none. Then whole events are compared at once, see `decode_events`."""
    name_bytes_max: int = field(init=False, repr=False)
    """The size of the longest name."""
    _texts: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        numeric = all(kind == "number" for kind in self.kinds.values())
        object.__setattr__(self, "drops", self.unknown == "drop" and not self.open)
        object.__setattr__(self, "numbers", frozenset(self.kinds if numeric else ()))
        object.__setattr__(self, "name_bytes_max", max((len(name.encode()) for name in self.kinds), default=0))
        object.__setattr__(self, "_texts", tuple(name for name, kind in self.kinds.items() if kind == "text"))

    def mismatch(self, features: Mapping[str, Scalar]) -> Refusal | None:
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
            elif _KIND_OF[type(value)] != _PLAIN.get(kind, kind):
                return Refusal(Reason.FEATURE_TYPE, f"feature {quote(name)} is a {_KIND_OF[type(value)]}, not a {kind}")
        return None

    def select(self, features: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return what the model may see of *features*; names or types outside the schema are left out.

        A text that is missing is the empty text: River's vectorisers raise without one.

        >>> Schema({"x": "number"}).select({"x": 1.0, "new": 2.0})
        {'x': 1.0}
        """
        if self.numbers and self.numbers.issuperset(features) and _FLOAT.issuperset(map(type, features.values())):
            return dict(features)
        kinds = self.kinds
        selected = {
            name: value
            for name, value in features.items()
            if (_PLAIN.get(kinds[name], kinds[name]) == _KIND_OF[type(value)] if name in kinds else self.open)
        }
        for name in self._texts:
            selected.setdefault(name, "")
        return selected


def quote(name: str) -> str:
    """Return *name* for a message: in quotes, and not the whole of a long one.

    >>> quote("x"), quote("y" * 300)[-4:]
    ("'x'", "yy…'")
    """
    return repr(name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…")


def infer_schema(samples: Iterable[Mapping[str, Scalar]], features_max: int) -> dict[str, str]:
    """Return name -> kind over *samples*: the first type seen of a name wins (fault F32), names in sorted order.

    At most *features_max* names are kept, the most frequent first, so that the first requests cannot make
    the schema larger than an event may be.

    >>> infer_schema([{"b": 1.0}, {"a": "x", "b": "late"}], 10)
    {'a': 'string', 'b': 'number'}
    """
    kinds: dict[str, str] = {}
    counts: dict[str, int] = {}
    for features in samples:
        for name, value in features.items():
            kinds.setdefault(name, _KIND_OF[type(value)])
            counts[name] = counts.get(name, 0) + 1
    kept = sorted(counts, key=lambda name: (-counts[name], name))[:features_max]
    return {name: kinds[name] for name in sorted(kept)}
