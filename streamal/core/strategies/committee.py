"""Query by committee: ask where the members of an ensemble disagree."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from streamal.core.strategies.base import EventView
from streamal.core.strategies.threshold import RandomisedVariable

__all__ = ["Committee", "vote_entropy"]


@dataclass(frozen=True, slots=True)
class Committee:
    """Ask if 1 - vote entropy < θ·η: the members' disagreement in place of the model's uncertainty.

    Vote entropy: Dagan & Engelson, ICML 1995; online: Krawczyk & Woźniak, "Online query by committee for active
    learning from drifting data streams", IJCNN 2017. Members mostly agree: then the random factor η decides, as it has
    to where all scores are equal. Without an ensemble it sees the uncertainty (a configuration like that is refused).
    """

    rule: RandomisedVariable
    votes = True

    def score(self, view: EventView) -> float:
        """Return the vote entropy."""
        return view.uncertainty if not view.votes else vote_entropy(view.votes.values())

    def initial(self) -> tuple[float]:
        """Return (θ,)."""
        return self.rule.initial()

    def propensity(self, score: float, state: tuple[float]) -> float:
        """Return the rule's."""
        return self.rule.propensity(score, state)

    def update(self, score: float, asked: float, state: tuple[float]) -> tuple[float]:
        """Return the moved θ."""
        return self.rule.update(score, asked, state)


def vote_entropy(votes: Collection[int]) -> float:
    """Return -Σ (v/M)·log(v/M) over the most that as many members can disagree, in [0, 1].

    >>> vote_entropy([5, 5]), vote_entropy([10])
    (1.0, 0.0)
    """
    members = sum(votes)
    cast = [v / members for v in votes if v > 0]
    if len(cast) < 2:
        return 0.0
    return min(1.0, -sum(share * math.log(share) for share in cast) / math.log(max(2, min(members, len(votes)))))
