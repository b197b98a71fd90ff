"""Never mute, never flood: what the partitions' committed states say about asking too little, or too much.

The audit lane asks for each event with a probability of ε, so that of all waits for a request only e^-20 are longer
than 20/ε events: if more than that have passed without one, something keeps the lanes shut (a full queue, a cap) or is
broken. Without an audit lane twenty times the mean distance of the budget has to do. The other way round, the ledger is
held to its promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from streamal.core.budget.sampler import PartitionBudget
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.rules import Rules
from streamal.core.state import PartitionState, decode_state

__all__ = ["Watch", "watch"]

_MEANS = 20
"""At a constant propensity e^-20, two in a thousand million, of all waits are longer than so many mean distances."""
_WINDOWS_S = (3600.0, 86_400.0, 31 * 86_400.0)
"""A cap may rightly close the lanes for the rest of its hour, day or month."""


class Watch(NamedTuple):
    """How asking goes, in the partitions owned.

    Attributes:
        mute: the partitions where events flow and requests, for longer than the budget explains, do not.
        unasked: accepted events since the last request, in the partition where they are most.
        unasked_max: as many are normal.
        over: requests beyond the budget: 0, or a promise is broken.
    """

    mute: tuple[int, ...]
    unasked: int
    unasked_max: int
    over: int

    def figures(self) -> Mapping[str, float]:
        """Return name -> value of the gauges."""
        return {
            "mute_partitions": len(self.mute),
            "events_since_request": self.unasked,
            "events_since_request_limit": self.unasked_max,
            "requests_over_budget": self.over,
        }


def watch(rules: Rules, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> Watch:
    """Return how asking goes in those partitions of ``events`` that are among *committed*."""
    mute, unasked, most, over = [], 0, 0, 0
    for place in sorted(committed):
        if place.topic != rules.topics.events or place.partition >= rules.partitions:
            continue
        partition_budget = rules.budgets[place.partition]
        most = max(most, _normal(partition_budget))
        state = decode_state(committed[place].metadata, PartitionState)
        if state is None or state.counters is None:
            continue
        unasked = max(unasked, state.unasked)
        window_s = _window_s(partition_budget)
        capped = window_s > 0.0 and state.now - state.asked_at <= 2 * window_s
        if state.unasked > _normal(partition_budget) and not capped:
            mute.append(place.partition)
        over += max(
            0, state.counters.audit + state.counters.strategy - _allowed(partition_budget, state.counters.accepted)
        )
    return Watch(tuple(mute), unasked, most, over)


def _normal(partition_budget: PartitionBudget) -> int:
    return math.ceil(
        _MEANS * (partition_budget.audit_every or Fraction(partition_budget.price, _gain(partition_budget)))
    )


def _gain(partition_budget: PartitionBudget) -> int:
    """Return what an event earns, in tokens: for everybody, and for the quotas."""
    return partition_budget.gain + sum(quota.gain for quota in partition_budget.quotas)


def _window_s(partition_budget: PartitionBudget) -> float:
    """Return the length of the longest window that has a cap, 0.0 without any."""
    caps = (
        *zip(partition_budget.requests, _WINDOWS_S, strict=False),
        *zip(partition_budget.money, _WINDOWS_S, strict=False),
    )
    return max((seconds for cap, seconds in caps if cap is not None), default=0.0)


def _allowed(partition_budget: PartitionBudget, accepted: int) -> int:
    """Return share * events + burst, rounded down."""
    return (_gain(partition_budget) * accepted + partition_budget.start) // partition_budget.price
