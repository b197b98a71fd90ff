"""The counters of a partition's budget: exact whole numbers, kept in the offset's commit metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamal.core.budget.money import Refunds, windows

__all__ = ["BudgetCounters"]


class BudgetCounters(NamedTuple):
    """What a partition has counted.

    Attributes:
        accepted: events.
        tokens: in the bucket, see `PartitionBudget`.
        audit, strategy: requests of each lane.
        hour: the clock hour (seconds // 3600) up to which is counted.
        hour_audit, hour_strategy: requests of that hour.
        day_audit, day_strategy: requests of its calendar day.
        reserved: micro-units reserved in its hour, day and month, audit and strategy each; () if no label had a price.
        quota_tokens: in the buckets of the quotas.
    """

    accepted: int
    tokens: int
    audit: int
    strategy: int
    hour: int = 0
    hour_audit: int = 0
    hour_strategy: int = 0
    day_audit: int = 0
    day_strategy: int = 0
    reserved: tuple[int, ...] = ()
    quota_tokens: tuple[int, ...] = ()

    def advance_to(self, hour: int) -> BudgetCounters:
        """Return the counters in the clock hour *hour*: windows that have ended count from 0. They never go back."""
        if hour <= self.hour:
            return self
        is_new = [now != before for now, before in zip(windows(hour), windows(self.hour), strict=True)]
        reserved = tuple(0 if is_new[i // 2] else amount for i, amount in enumerate(self.reserved))
        day = (0, 0) if is_new[1] else (self.day_audit, self.day_strategy)
        return BudgetCounters(*self[:4], hour, 0, 0, *day, reserved, self.quota_tokens)

    def add_requests(self, audit: int, strategy: int, reserved: int) -> BudgetCounters:
        """Return the counters with so many more requests of each lane, at *reserved* micro-units each."""
        counts = (audit, strategy)
        amounts = tuple(
            (self.reserved[i] if self.reserved else 0) + counts[i % 2] * reserved
            for i in range(6 if reserved else len(self.reserved))
        )
        return self._replace(
            audit=self.audit + audit,
            strategy=self.strategy + strategy,
            hour_audit=self.hour_audit + audit,
            hour_strategy=self.hour_strategy + strategy,
            day_audit=self.day_audit + audit,
            day_strategy=self.day_strategy + strategy,
            reserved=amounts,
        )

    def amounts_spent(self, refunds: Sequence[Refunds]) -> list[tuple[int, int]]:
        """Return the micro-units of this hour, day and month, audit and strategy each: settled or still reserved."""
        amounts = self.reserved or (0,) * 6
        by_window = {i: refund for i, refund in enumerate(refunds) if refund.window == windows(self.hour)[i]}
        refunded = [by_window.get(i, Refunds(-1)) for i in range(3)]
        return [(amounts[2 * i] - refunded[i].audit, amounts[2 * i + 1] - refunded[i].strategy) for i in range(3)]
