"""Strategies without a threshold: `Random`, the baseline to beat, `Periodic`, and River's `Entropy`."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Entropy", "Periodic", "Random"]


@dataclass(frozen=True, slots=True)
class Random:
    """Ask with probability *rate*, whatever the model says: the unbiased control (Žliobaitė et al. 2014, §IV-A)."""

    rate: float

    def initial(self) -> tuple[()]:
        """No memory."""
        return ()

    def propensity(self, uncertainty: float, state: tuple[()]) -> float:
        """Return the rate."""
        return self.rate

    def update(self, uncertainty: float, asked: float, state: tuple[()]) -> tuple[()]:
        """No memory."""
        return state


@dataclass(frozen=True, slots=True)
class Periodic:
    """Ask every 1/rate-th event (scikit-activeml's ``PeriodicSampling``): a control without chance.

    A propensity of 0 or 1 says nothing about chance: on a stream with a period of its own it sees one phase only.
    """

    rate: float

    def initial(self) -> tuple[float]:
        """Return (the saved part of a request,): the first event is asked."""
        return (1.0 - self.rate,)

    def propensity(self, uncertainty: float, state: tuple[float]) -> float:
        """Return 1 when a whole request is saved, else 0."""
        return 1.0 if self.rate > 0.0 and state[0] + self.rate > 1.0 - 1e-9 else 0.0

    def update(self, uncertainty: float, asked: float, state: tuple[float]) -> tuple[float]:
        """Return the saved part after this event, never more than one request."""
        return (min(1.0, max(0.0, state[0] + self.rate - asked)),)


@dataclass(frozen=True, slots=True)
class Entropy:
    """Ask with probability (normalised entropy) ** *exponent*: ``river.active.EntropySampler`` without its traps.

    Unlike River's it starts with an untrained model (a uniform prediction is asked with probability 1) and its
    propensity is known. To be used with the entropy as uncertainty; by itself it knows no budget.
    """

    exponent: float

    def initial(self) -> tuple[()]:
        """No memory."""
        return ()

    def propensity(self, uncertainty: float, state: tuple[()]) -> float:
        """Return uncertainty ** exponent."""
        return math.pow(min(1.0, max(0.0, uncertainty)), self.exponent)

    def update(self, uncertainty: float, asked: float, state: tuple[()]) -> tuple[()]:
        """No memory."""
        return state
