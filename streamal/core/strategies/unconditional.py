"""Strategies without memory: `Random`, the baseline to beat, and River's `Entropy`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamal.core.strategies.base import State

__all__ = ["Entropy", "Random"]


@dataclass(frozen=True, slots=True)
class Random:
    """Ask with probability *rate*, whatever the model says: the unbiased control (Žliobaitė et al. 2014, §IV-A)."""

    rate: float

    def initial(self) -> State:
        """No memory."""
        return ()

    def propensity(self, uncertainty: float, state: State) -> float:
        """Return the rate."""
        return self.rate

    def update(self, uncertainty: float, asked: bool, state: State) -> State:
        """No memory."""
        return state


@dataclass(frozen=True, slots=True)
class Entropy:
    """Ask with probability (normalised entropy) ** *discount*: ``river.active.EntropySampler`` without its traps.

    Unlike River's it starts with an untrained model (a uniform prediction is asked with probability 1) and its
    propensity is known. To be used with the entropy as uncertainty; by itself it knows no budget.
    """

    discount: float

    def initial(self) -> State:
        """No memory."""
        return ()

    def propensity(self, uncertainty: float, state: State) -> float:
        """Return uncertainty ** discount."""
        return math.pow(min(1.0, max(0.0, uncertainty)), self.discount)

    def update(self, uncertainty: float, asked: bool, state: State) -> State:
        """No memory."""
        return state
