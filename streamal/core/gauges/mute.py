"""Mute or flooding? What the partitions' committed states say about asking too little, or too much.

The audit lane asks for each event with a probability of ε. So of all waits for a request only e^-20 are longer than
20/ε events: after more than that, something keeps the lanes shut (a full queue, a cap) or is broken. Without an audit
lane the limit is twenty times the mean distance that the budget allows. In the other direction, the counters must not
exceed the budget: share * events + burst, and after a change of the share what was left then, counted from there on.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from streamal.core.budget.counters import BudgetTerms
from streamal.core.budget.sampler import PartitionBudget
from streamal.core.gauges.declaration import Gauge, Worker
from streamal.core.state import PartitionState

__all__ = ["ASKING", "MuteCheck", "check_mute"]

_MEAN_DISTANCES = 20
"""At a constant propensity e^-20, two in a thousand million, of all waits are longer than so many mean distances."""
_WINDOWS_S = (3600.0, 86_400.0, 31 * 86_400.0)
"""A cap may rightly close the lanes for the rest of its hour, day or month."""


class MuteCheck(NamedTuple):
    """The result of `check_mute`, over the partitions owned.

    Attributes:
        mute: the partitions where events flow but no requests, for longer than the budget explains.
        unasked: accepted events since the last request, in the partition with most.
        unasked_max: as many are normal.
        over: requests beyond the budget; above 0 a promise is broken.
    """

    mute: tuple[int, ...]
    unasked: int
    unasked_max: int
    over: int


def check_mute(worker: Worker) -> MuteCheck:
    """Check the partitions of ``events`` that *worker* owns."""
    rules, mute, unasked, unasked_max, over = worker.rules, [], 0, 0, 0
    for partition in sorted(worker.counters):
        if partition >= rules.partitions:
            continue
        budget = rules.budgets[partition]
        normal = _unasked_max(budget)
        unasked_max = max(unasked_max, normal)
        state = worker.states.get(partition)
        if state is None or state.counters is None:
            continue
        counters, terms = state.counters, state.counters.terms or BudgetTerms.at_first(budget)
        # events before the share changed have waited under another one
        waited = min(state.unasked, counters.accepted - terms.accepted) if terms.accepted else state.unasked
        unasked = max(unasked, waited)
        if waited > normal and not _is_capped(budget, state):
            mute.append(partition)
        over += max(0, counters.audit + counters.strategy - terms.requests_max(counters.accepted))
    return MuteCheck(tuple(mute), unasked, unasked_max, over)


def _unasked_max(budget: PartitionBudget) -> int:
    return math.ceil(_MEAN_DISTANCES * (budget.audit_every or Fraction(budget.price, _gain(budget))))


def _gain(budget: PartitionBudget) -> int:
    """Return what an event earns, in tokens: for everybody, and for the quotas."""
    return budget.gain + sum(quota.gain for quota in budget.quotas)


def _is_capped(budget: PartitionBudget, state: PartitionState) -> bool:
    """Whether a cap may have closed the lanes: there is one, and the last request is not two of its windows ago."""
    caps = (*zip(budget.requests, _WINDOWS_S, strict=False), *zip(budget.money, _WINDOWS_S, strict=False))
    window_s = max((seconds for cap, seconds in caps if cap is not None), default=0.0)
    return window_s > 0.0 and state.now - state.asked_at <= 2 * window_s


ASKING: tuple[Gauge, ...] = (
    Gauge(
        "mute_partitions",
        "Partitions owned where events flow and requests, beyond chance, do not.",
        lambda worker: len(worker.once(check_mute).mute),
    ),
    Gauge(
        "events_since_request",
        "Accepted events since the last request, in the partition with most.",
        lambda worker: worker.once(check_mute).unasked,
    ),
    Gauge(
        "events_since_request_limit",
        "As many are normal under the budget.",
        lambda worker: worker.once(check_mute).unasked_max,
    ),
    Gauge(
        "requests_over_budget",
        "Requests beyond the budget: 0, or a promise is broken.",
        lambda worker: worker.once(check_mute).over,
    ),
)
