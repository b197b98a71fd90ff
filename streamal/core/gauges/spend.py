"""What was spent and what is left, for whoever watches: of the partitions that one worker owns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.limits import Cap
from streamal.core.budget.money import MICRO, WINDOWS
from streamal.core.fold import Fold
from streamal.core.records import OffsetAndMetadata, TopicPartition, partition_of
from streamal.core.rules import Rules
from streamal.core.state import PartitionState, decode_state

__all__ = ["bill"]


def bill(
    rules: Rules, fold: Fold, committed: Mapping[TopicPartition, OffsetAndMetadata], now: float
) -> Mapping[str, float | None]:
    """Return name -> money or requests of the partitions in *committed*; None for a cap that is not configured."""
    ledgers: dict[int, BudgetCounters] = {}
    for place, (_, metadata) in committed.items():
        if place.topic == rules.topics.events:
            state = decode_state(metadata, PartitionState) or PartitionState()
            counters = state.counters or BudgetCounters(0, 0, 0, 0)
            ledgers[place.partition] = counters.advance_to(int(now // 3600))
    settled = sum(fold.books.settlements.cost(partition) for partition in ledgers)
    waiting = fold.books.pending.open.values()
    reserved = sum(request.reserved for request in waiting if partition_of(request.request) in ledgers)
    found: dict[str, float | None] = {
        "spend": (settled + reserved) / MICRO,
        "spend_settled": settled / MICRO,
        "spend_reserved": reserved / MICRO,
    }
    for i, window in enumerate(WINDOWS):
        costs = {
            p: sum(counters.amounts_spent(fold.books.settlements.refunds(p))[i]) for p, counters in ledgers.items()
        }
        left = _left([(rules.budgets[p].money[i], spent) for p, spent in costs.items()])
        found[f"budget_left_cost_{window}"] = None if left is None else left / MICRO
    for i, window in enumerate(WINDOWS[:2]):
        counts = {
            p: (counters.hour_audit + counters.hour_strategy, counters.day_audit + counters.day_strategy)[i]
            for p, counters in ledgers.items()
        }
        found[f"budget_left_requests_{window}"] = _left(
            [(rules.budgets[p].requests[i], spent) for p, spent in counts.items()]
        )
    return found


def _left(spent: Sequence[tuple[Cap | None, int]]) -> int | None:
    """Return what is left of the caps together, None without any; a cap that was lowered leaves nothing."""
    left = [max(0, cap.total - amount) for cap, amount in spent if cap is not None]
    return sum(left) if left else None
