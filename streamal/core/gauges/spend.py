"""Gauges of the spend: what was spent and what the caps leave, in the partitions that one worker owns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamal.core.budget.limits import Cap
from streamal.core.budget.money import MICRO, WINDOWS
from streamal.core.gauges.declaration import Gauge, Value, Worker
from streamal.core.records import partition_of

__all__ = ["SPEND"]


def _settled(worker: Worker) -> int:
    """Return what closed requests have cost, in micro-units."""
    return sum(worker.fold.books.settlements.cost(partition) for partition in worker.counters)


def _reserved(worker: Worker) -> int:
    """Return what open requests can still cost, in micro-units."""
    requests = worker.fold.books.pending.open.values()
    return sum(request.reserved for request in requests if partition_of(request.request) in worker.counters)


def _money_left(window: int) -> Callable[[Worker], Value]:
    def value(worker: Worker) -> Value:
        refunds = worker.fold.books.settlements.refunds
        spent = [
            (worker.rules.budgets[partition].money[window], sum(counters.amounts_spent(refunds(partition))[window]))
            for partition, counters in worker.counters.items()
        ]
        left = _left(spent)
        return None if left is None else left / MICRO

    return value


def _requests_left(window: int) -> Callable[[Worker], Value]:
    def value(worker: Worker) -> Value:
        spent = [
            (
                worker.rules.budgets[partition].requests[window],
                (counters.hour_audit + counters.hour_strategy, counters.day_audit + counters.day_strategy)[window],
            )
            for partition, counters in worker.counters.items()
        ]
        return _left(spent)

    return value


def _left(spent: Sequence[tuple[Cap | None, int]]) -> int | None:
    """Return what is left of the caps together, None without any; a cap that was lowered leaves 0, not less."""
    left = [max(0, cap.total - amount) for cap, amount in spent if cap is not None]
    return sum(left) if left else None


SPEND: tuple[Gauge, ...] = (
    Gauge(
        "spend",
        "Money spent on labels or reserved for them, in the currency of streamal_currency_info.",
        lambda worker: (_settled(worker) + _reserved(worker)) / MICRO,
    ),
    Gauge("spend_settled", "Of this, for requests that are closed.", lambda worker: _settled(worker) / MICRO),
    Gauge(
        "spend_reserved",
        "Of this, the most that the open requests can still cost.",
        lambda worker: _reserved(worker) / MICRO,
    ),
    *(
        Gauge(f"budget_left_cost_{window}", f"Money left of the cap of this {window}.", _money_left(i))
        for i, window in enumerate(WINDOWS)
    ),
    Gauge("budget_left_requests_hour", "Requests left of the cap of this clock hour.", _requests_left(0)),
    Gauge("budget_left_requests_day", "Requests left of the cap of this calendar day.", _requests_left(1)),
)
