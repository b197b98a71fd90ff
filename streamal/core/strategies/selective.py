"""Strategies that ask with a probability that falls with the margin: `Selective` and `Importance`.

Both papers leave the number of requests to the stream. Here a scale in the formula moves by the expected decision, so
that the mean propensity comes to rest at the share to be asked (the parameter
``match_share = false`` keeps the paper's rule).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamal.core.strategies.threshold import Mover

__all__ = ["Importance", "Selective"]

_SCALE_MIN, _SCALE_MAX = 1e-4, 1e4
"""A scale that has run to an end has to come back from there within some thousand events."""


@dataclass(frozen=True, slots=True)
class Selective:
    """Ask with probability b/(b + |p̂ - 1/C|) (Cesa-Bianchi, Gentile & Zaniboni, JMLR 7:1205-1230, 2006).

    Attributes:
        b: where their b begins: the budget.
        floor: the least confidence possible (1/C), the middle that the margin is measured from.
        mover: of b; None leaves it where it is.
    """

    b: float
    floor: float
    mover: Mover | None

    def initial(self) -> tuple[float]:
        """Return (b,), above 0: on the boundary it is divided by."""
        return (max(_SCALE_MIN, self.b),)

    def propensity(self, uncertainty: float, state: tuple[float]) -> float:
        """Return b/(b + |p̂ - 1/C|)."""
        b: float = state[0]
        return b / (b + abs(1.0 - uncertainty - self.floor))

    def update(self, uncertainty: float, asked: float, state: tuple[float]) -> tuple[float]:
        """Return b, moved by the probability of asking: whether the coin said so is only noise."""
        return state if self.mover is None else (_move(self.mover, state[0], self.propensity(uncertainty, state)),)


@dataclass(frozen=True, slots=True)
class Importance:
    """Importance-weighted active learning: ask with probability p, learn with weight 1/p.

    Beygelzimer, Dasgupta & Langford, ICML 2009; Beygelzimer, Hsu, Langford & Zhang, "Agnostic Active Learning Without
    Constraints", NIPS 2010: with b = c0·ln(n + 1)/n and g by how much the best hypothesis that says otherwise is worse,
    p is 1 if g <= √b + b, else the square of s = (√b + √(b + 4bg))/(2g). Vowpal Wabbit's ``active.cc`` multiplies
    by g where it has to divide (trap T5). Here g is the margin of the (smoothed) prediction, which needs no second
    model. Models whose ``learn_one`` takes ``w`` learn with B/propensity, which has the mean 1: River multiplies the
    gradient with the weight, and a step that is thirty times as long overshoots (6 points of accuracy lost).

    Attributes:
        mellowness: c0, or where it begins.
        weighted: hand the weights over. They undo the bias of the choice, and cost accuracy with models that are
            not misled by it, logistic regression for one: 2 or 3 points, on six gases 2 and 7 in two replays.
        mover: of b, which then stays where the rate is right; None: b falls as ln(n)/n, and the rate with it.
    """

    mellowness: float
    mover: Mover | None
    weighted: bool = True

    def initial(self) -> tuple[float, int]:
        """Return (c0, n)."""
        return (self.mellowness, 1)

    def propensity(self, uncertainty: float, state: tuple[float, int]) -> float:
        """Return min(1, s²)."""
        c0, n = state
        g = 1.0 - uncertainty
        b = c0 * math.log(n + 1.0) / n
        if g <= math.sqrt(b) + b:
            return 1.0
        s = (math.sqrt(b) + math.sqrt(b + 4.0 * g * b)) / (2.0 * g)
        return min(1.0, s * s)

    def update(self, uncertainty: float, asked: float, state: tuple[float, int]) -> tuple[float, int]:
        """Return (c0 moved by the probability of asking, n), or by the paper (c0, n + 1)."""
        c0, n = state
        if self.mover is None:
            return (c0, n + 1)
        return (_move(self.mover, c0, self.propensity(uncertainty, state)), n)


def _move(mover: Mover, scale: float, p: float) -> float:
    """Return *scale* moved by the expected decision, within bounds."""
    return min(_SCALE_MAX, max(_SCALE_MIN, mover.move(scale, p)))
