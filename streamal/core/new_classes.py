"""New classes: how many each annotator's replies have created today. One annotator may not fill ``limits.classes``.

Otherwise forged labels take all the places for classes, and genuine labels are refused (F67). Declared classes never
count.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["NewClasses"]

_DAY_S = 86_400


@dataclass(slots=True)
class NewClasses:
    """The counts of one calendar day (UTC); a fold of ``training``.

    Replies without an annotator count as those of one annotator. There are no more counts than classes that were
    created on that day, and `limits.classes` bounds those.
    """

    day: int = 0
    counts: dict[str | None, int] = field(default_factory=dict)

    def note(self, annotator: str | None, at: float) -> None:
        """Count a class that a reply of *annotator* has created at the time *at*.

        >>> classes = NewClasses()
        >>> classes.note("ann", 0.0)
        >>> classes.count("ann", 86_399.0), classes.count("ann", 86_400.0), classes.count("bob", 0.0)
        (1, 0, 0)
        """
        day = _day(at)
        if day != self.day:
            self.day, self.counts = day, {}
        self.counts[annotator] = self.counts.get(annotator, 0) + 1

    def count(self, annotator: str | None, at: float) -> int:
        """Return how many classes *annotator* has created on the day of *at*."""
        return self.counts.get(annotator, 0) if _day(at) == self.day else 0


def _day(at: float) -> int:
    return int(at // _DAY_S)
