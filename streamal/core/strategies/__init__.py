"""The strategies: each maps (uncertainty of a prediction, its own small state) to the probability of asking.

A strategy is pure: its state is a tuple of a few numbers that comes in and goes out, it draws no random
numbers (the coin is tossed by `streamal.core.budget`) and knows no budget (which may close the lane: then it is
not consulted). Confidence is ``c = 1 - uncertainty``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streamal.core.strategies.base import State, Strategy
from streamal.core.strategies.threshold import Fixed, Mover, RandomisedVariable, Split, Variable
from streamal.core.strategies.unconditional import Entropy, Random

__all__ = ["STRATEGIES", "SamplingRules", "State", "Strategy", "build_strategy"]


@dataclass(frozen=True, slots=True)
class SamplingRules:
    """The parameters of all strategies; each uses its own.

    Attributes:
        strategy: a key of `STRATEGIES`.
        rate: share of the events left by the audit lane that the strategy lane may ask for, (B - ε)/(1 - ε).
        floor: the least confidence possible: 1/C under least confidence, else 0.
        theta: fixed threshold, or the variable one at the start; None takes the paper's.
        step: s, by which a variable threshold moves.
        matched: move it so that it rests where *share* of the events are asked; see `Mover`.
        share: B, the whole budget.
        delta: standard deviation of the randomised threshold's factor.
        v: share of the random lane in `split`.
        discount: exponent of River's entropy rule.
    """

    strategy: str
    rate: float
    floor: float = 0.0
    theta: float | None = None
    step: float = 0.01
    matched: bool = True
    share: float = 0.1
    delta: float = 0.3
    v: float = 0.1
    discount: float = 3.0


STRATEGIES: Mapping[str, Callable[[SamplingRules], Strategy]] = {
    "random": lambda r: Random(r.rate),
    "fixed": lambda r: Fixed(r.floor + r.rate * (1.0 - r.floor) if r.theta is None else r.theta),
    "variable": lambda r: Variable(_theta(r), _mover(r)),
    "randomised_variable": lambda r: RandomisedVariable(_theta(r), _mover(r), r.delta),
    "split": lambda r: Split(_theta(r), _mover(r), r.v, r.rate),
    "entropy": lambda r: Entropy(r.discount),
}


def build_strategy(rules: SamplingRules) -> Strategy:
    """Return the strategy that *rules* name.

    >>> build_strategy(SamplingRules("variable", rate=0.07)).initial()
    (1.0,)
    """
    return STRATEGIES[rules.strategy](rules)


def _theta(rules: SamplingRules) -> float:
    return 1.0 if rules.theta is None else rules.theta


def _mover(rules: SamplingRules) -> Mover:
    return Mover.matched(rules.step, rules.share) if rules.matched else Mover.symmetric(rules.step)
