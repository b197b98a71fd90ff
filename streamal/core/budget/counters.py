"""The counters of a partition's budget: exact whole numbers, kept in the offset's commit metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamal.core.budget.limits import PartitionBudget
from streamal.core.budget.money import Refunds, windows

__all__ = ["BudgetCounters", "BudgetTerms"]


class BudgetTerms(NamedTuple):
    """The share under which a partition works, and what it had counted when that share began.

    Attributes:
        gain: tokens that an event earns, those of the quotas included; *gain* / *price* is the share.
        price: tokens that a request costs.
        accepted, requests: the partition's counts when the share changed last; 0 if it never did.
        tokens: what all buckets held then; at first the burst, which is granted once in a partition's life.
    """

    gain: int
    price: int
    accepted: int
    requests: int
    tokens: int

    @classmethod
    def at_first(cls, budget: PartitionBudget) -> BudgetTerms:
        """Return the terms of a partition that has counted nothing yet under *budget*."""
        return cls(_gain(budget), budget.price, 0, 0, budget.start)

    def requests_max(self, accepted: int) -> int:
        """Return how many requests the partition may have made after *accepted* events, not before the change.

        >>> BudgetTerms(gain=1, price=10, accepted=100, requests=25, tokens=30).requests_max(150)
        33
        """
        return self.requests + (self.gain * (accepted - self.accepted) + self.tokens) // self.price


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
        terms: the share that *tokens* belong to; None before the first step.
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
    terms: BudgetTerms | None = None

    def under(self, budget: PartitionBudget) -> BudgetCounters:
        """Return the counters under *budget*, whose share may be another one than before (F63).

        Tokens are parts of a request, and their size changes with the share: they are converted, rounded down.
        """
        gain, before = _gain(budget), self.terms
        if before is None:
            return self._replace(terms=BudgetTerms.at_first(budget))
        if (before.gain, before.price) == (gain, budget.price):
            return self
        tokens = self.tokens * budget.price // before.price
        quota_tokens = [own * budget.price // before.price for own in self.quota_tokens]
        if len(quota_tokens) != len(budget.quotas):  # other quotas: what the former ones had is everybody's
            tokens, quota_tokens = tokens + sum(quota_tokens), [0] * len(budget.quotas)
        tokens = min(budget.capacity, tokens)
        quota_tokens = [min(quota.capacity, own) for quota, own in zip(budget.quotas, quota_tokens, strict=True)]
        return self._replace(
            tokens=tokens,
            quota_tokens=tuple(quota_tokens),
            terms=BudgetTerms(
                gain, budget.price, self.accepted, self.audit + self.strategy, tokens + sum(quota_tokens)
            ),
        )

    def advance_to(self, hour: int) -> BudgetCounters:
        """Return the counters in the clock hour *hour*: windows that have ended count from 0. They never go back."""
        if hour <= self.hour:
            return self
        is_new = [now != before for now, before in zip(windows(hour), windows(self.hour), strict=True)]
        reserved = tuple(0 if is_new[i // 2] else amount for i, amount in enumerate(self.reserved))
        day = (0, 0) if is_new[1] else (self.day_audit, self.day_strategy)
        return BudgetCounters(*self[:4], hour, 0, 0, *day, reserved, self.quota_tokens, self.terms)

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


def _gain(budget: PartitionBudget) -> int:
    """Return what an event earns, in tokens: for everybody, and for the quotas."""
    return budget.gain + sum(quota.gain for quota in budget.quotas)
