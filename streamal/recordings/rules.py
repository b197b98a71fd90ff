"""What a reading is told: the roles of columns, and how the source is to be understood."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from streamal.core.codec.wire_rules import WireRules
from streamal.recordings.account import Role

__all__ = ["EXPORTED", "ReadingRules", "Roles", "is_index"]

EXPORTED = "features."
"""What `streamal export` puts before the name of a feature in a table."""

_INDEX_NAMES = ("Unnamed:", "__index_level_")
"""How pandas begins the name of a column that was an index without a name."""


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """How a source is to be understood; what is not said is found out, and accounted for.

    Attributes:
        delimiter: one character between the cells of a line; None finds it out.
        encoding: of a text file, a name that Python knows; None finds it out.
        na: further spellings of a missing value, in every format.
        flatten: make ``a.b`` of nested objects; else a row with one is refused, as a live daemon refuses it.
        strict: every loss is an error.
        declared: ``features.declared``: name -> kind; with none the kinds are those of the recording.
        drops_undeclared: whether a live daemon drops a feature that nobody declared: it is not even read then.
        open: whether a live daemon takes features of any name and type.
        classes: ``labels.classes``: none of them is the spelling of a missing label.
        wire: the bounds of an event, and ``features.missing``: texts that stand for a missing feature in every format.
    """

    delimiter: str | None = None
    encoding: str | None = None
    na: Collection[str] = ()
    flatten: bool = False
    strict: bool = False
    declared: Mapping[str, str] = field(default_factory=dict)
    drops_undeclared: bool = False
    open: bool = False
    classes: Collection[str] = ()
    wire: WireRules = field(default_factory=WireRules)

    @property
    def null_is_missing(self) -> bool:
        """Whether a null is a missing feature: always where the recording itself declares the features."""
        return not self.declared or self.wire.null == "missing"


@dataclass(frozen=True, slots=True)
class Roles:
    """What the columns are for: *label*, *time* and *label_time*; those in *drop* are not read."""

    label: str
    time: str | None = None
    label_time: str | None = None
    drop: Collection[str] = ()

    @property
    def named(self) -> Sequence[str]:
        """The columns that must exist, but for the dropped ones."""
        return [name for name in (self.label, self.time, self.label_time) if name is not None]

    def of(self, name: str) -> Role:
        """Return the role of the column *name*."""
        if name == self.label:
            return "label"
        if name == self.time:
            return "time"
        if name == self.label_time:
            return "label_time"
        return "dropped" if name in self.drop else "feature"

    def is_feature(self, name: str, rules: ReadingRules) -> bool:
        """Return whether *name* is a feature, rather than another role or what a live daemon would drop."""
        if self.of(name) != "feature":
            return False
        plain = name.removeprefix(EXPORTED)
        return not rules.drops_undeclared or plain in rules.declared or plain in rules.wire.shown

    def is_used(self, name: str, rules: ReadingRules) -> bool:
        """Return whether the column *name* has a role, or may hold features."""
        wanted = (*self.named, *rules.declared)
        if name in wanted or (rules.flatten and any(other.startswith(f"{name}.") for other in wanted)):
            return name not in self.drop
        return not is_index(name) and self.is_feature(name, rules)

    def of_unused(self, name: str) -> Role:
        """Return why the column *name* is not used."""
        if name in self.drop:
            return "dropped"
        return "index" if is_index(name) else "undeclared"


def is_index(name: str) -> bool:
    """Return whether a column of this name is the index of a data frame that was written along.

    >>> is_index(""), is_index("Unnamed: 0"), is_index("temp")
    (True, True, False)
    """
    return not name.strip() or name.startswith(_INDEX_NAMES)
