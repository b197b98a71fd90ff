"""What a partition has counted of its budget: exact, whole numbers, in the offset's commit metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamal.core.budget.money import Refunds, windows

__all__ = ["BudgetCounters"]


class BudgetCounters(NamedTuple):
    """What a partition has counted; kept in the offset's commit metadata.

    *tokens* are counted as in `PartitionBudget`, those of the quotas in *kept*. *hour* is the clock hour (seconds //
    3600)
    up to which is counted: *hour_audit* … *day_strategy* are the requests of its hour and day, *reserved* the
    micro-units reserved in its hour, day and month, audit and strategy each; () if labels never had a price.
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
    kept: tuple[int, ...] = ()

    def at(self, hour: int) -> BudgetCounters:
        """Return the ledger in the clock hour *hour*, or in its own if that is later: past windows are done with."""
        if hour <= self.hour:
            return self
        new = [now != before for now, before in zip(windows(hour), windows(self.hour), strict=True)]
        reserved = tuple(0 if new[i // 2] else amount for i, amount in enumerate(self.reserved))
        day = (0, 0) if new[1] else (self.day_audit, self.day_strategy)
        return BudgetCounters(*self[:4], hour, 0, 0, *day, reserved, self.kept)

    def asked(self, audit: int, strategy: int, reserved: int) -> BudgetCounters:
        """Return the ledger after so many more requests at *reserved* micro-units each."""
        more = (audit, strategy)
        spent = tuple(
            (self.reserved[i] if self.reserved else 0) + more[i % 2] * reserved
            for i in range(6 if reserved else len(self.reserved))
        )
        return self._replace(
            audit=self.audit + audit,
            strategy=self.strategy + strategy,
            hour_audit=self.hour_audit + audit,
            hour_strategy=self.hour_strategy + strategy,
            day_audit=self.day_audit + audit,
            day_strategy=self.day_strategy + strategy,
            reserved=spent,
        )

    def spent(self, refunds: Sequence[Refunds]) -> list[tuple[int, int]]:
        """Return the micro-units of this hour, day and month, audit and strategy each: settled or still reserved."""
        amounts = self.reserved or (0,) * 6
        known = {i: refund for i, refund in enumerate(refunds) if refund.window == windows(self.hour)[i]}
        back = [known.get(i, Refunds(-1)) for i in range(3)]
        return [(amounts[2 * i] - back[i].audit, amounts[2 * i + 1] - back[i].strategy) for i in range(3)]
