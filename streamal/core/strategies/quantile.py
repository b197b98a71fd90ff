"""The balanced incremental quantile filter: ask about the share B of the window's highest scores.

Kottke, Krempl & Spiliopoulou, "Probabilistic Active Learning in Datastreams", IDA 2015: of the last w scores take the
(1 - B)-quantile θ; ask if ``score >= θ - (max - min)·(B·n - asked)/tolerance``, n events since the beginning. Three
things differ from scikit-activeml's ``BalancedIncrementalQuantileFilter``:

* To the range 1e-6 is added, as in the authors' own code: else a constant score is always asked (trap T2).
* The window is kept quantised, one character a score, so that it fits beside the offset. The score itself is
  compared in the same quantised form: a constant score has to be equal to its quantile.
* The balance n·B - asked is held within ± the tolerance, so that a year of silence cannot buy a week of asking.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

__all__ = ["Quantile"]

_LEVELS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\')
"""Characters in ascending order that JSON writes as they are: one byte for each score, 92 levels."""
_TOP = len(_LEVELS) - 1
_LEVEL_OF = {character: level for level, character in enumerate(_LEVELS)}
_VALUES = {character: (level / _TOP) ** 2 for character, level in _LEVEL_OF.items()}
"""The levels are finer where scores are small, which is where those of a good model are: a square."""


@dataclass(frozen=True, slots=True)
class Quantile:
    """Ask if the score is among the highest of the last ones; *tolerance* (w_tol) is how far the balance may sway.

    Attributes:
        rate: B, the share to be asked.
        window: w, how many scores are remembered, at most 250 (2 bytes of state each).
        tolerance: w_tol, in requests.
    """

    rate: float
    window: int = 100
    tolerance: float = 50.0

    def __post_init__(self) -> None:
        if not 2 <= self.window <= 250:
            raise ValueError(f"window must be within 2 and 250, not {self.window}")
        if not self.tolerance > 0.0:
            raise ValueError(f"tolerance must be above 0, not {self.tolerance}")

    def initial(self) -> tuple[str, str, float]:
        """Return (the window in order of arrival, the same sorted, B·n - asked)."""
        return ("", "", 0.0)

    def propensity(self, score: float, state: tuple[str, str, float]) -> float:
        """Return 1 or 0."""
        ordered = state[1]
        if not ordered:
            return 1.0
        last = len(ordered) - 1
        place = (1.0 - self.rate) * last
        below = int(place)
        values = _VALUES
        theta = values[ordered[below]]
        if below < last:
            theta += (place - below) * (values[ordered[below + 1]] - theta)
        slack = (values[ordered[last]] - values[ordered[0]] + 1e-6) * state[2] / self.tolerance
        return 1.0 if values[_level(score)] >= theta - slack else 0.0

    def update(self, score: float, asked: float, state: tuple[str, str, float]) -> tuple[str, str, float]:
        """Return the window with *score* in it, and the balance."""
        arrived, ordered, balance = state
        level = _level(score)
        if len(arrived) < self.window:
            arrived += level
        else:
            ordered = ordered.replace(arrived[0], "", 1)
            arrived = arrived[1:] + level
        at = bisect_left(ordered, level)
        balance += self.rate - asked
        if not -self.tolerance < balance < self.tolerance:
            balance = math.copysign(self.tolerance, balance)
        return (arrived, f"{ordered[:at]}{level}{ordered[at:]}", balance)


def _level(score: float) -> str:
    """Return the level of *score*, itself brought into [0, 1]."""
    if 0.0 < score < 1.0:
        return _LEVELS[int(_TOP * score**0.5 + 0.5)]
    return _LEVELS[0 if score <= 0.0 else _TOP]
