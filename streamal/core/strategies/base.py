"""The shape of a strategy."""

from __future__ import annotations

from typing import Protocol

__all__ = ["State", "Strategy"]

State = tuple[float, ...]
"""A strategy's memory: a few numbers, kept in the offset's commit metadata, well under 600 bytes."""


class Strategy(Protocol):
    """Decides how much a label is worth asking for. Implementations are frozen: all memory is in the state."""

    def initial(self) -> State:
        """Return the state before the first event of a partition."""
        ...

    def propensity(self, uncertainty: float, state: State) -> float:
        """Return the probability in [0, 1] of asking about an event of this *uncertainty* in [0, 1]."""
        ...

    def update(self, uncertainty: float, asked: bool, state: State) -> State:
        """Return the state after the decision; called only when the lane was open, *asked* or not."""
        ...
