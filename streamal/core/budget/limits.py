"""The budget as it is configured, and each partition's part of it in whole numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from streamal.core.budget.money import FREE, Prices

__all__ = ["Budget", "Cap", "PartitionBudget", "Quota", "divide"]

_RESERVE_MAX = 20


def divide(cap: int, partition: int, partitions: int) -> int:
    """Return this partition's part of an absolute cap; the parts of all partitions sum to the cap.

    >>> [divide(200, p, 3) for p in range(3)]
    [67, 67, 66]
    """
    return cap // partitions + (partition < cap % partitions)


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget of all partitions together.

    Attributes:
        share: B, at most this many requests per accepted event, in (0, 1].
        audit_share: a, the part of the budget that is spent at random, in [0, 1].
        burst: requests that may come on top, at least 1.
        per_hour, per_day: hard caps on requests in each clock hour and calendar day, None for no cap.
        open_max: bound of open requests.
        open_bytes: bound of the memory that they take.
        money: hard caps on micro-units for the requests of each clock hour, calendar day and month.
        prices: what a label costs.
        quotas: class -> the part of the strategy lane that is kept for it; together less than 1.
    """

    share: Fraction
    audit_share: Fraction
    burst: int
    per_hour: int | None = None
    open_max: int = 10_000
    per_day: int | None = None
    money: tuple[int | None, ...] = (None, None, None)
    prices: Prices = FREE
    quotas: tuple[tuple[str, Fraction], ...] = ()
    open_bytes: int = 96_000_000

    @property
    def audit_every(self) -> int:
        """L: one accepted event in so many is audited, on average; 0 without an audit lane.

        >>> Budget(Fraction("0.1"), Fraction("0.3"), burst=20).audit_every
        34
        """
        audit = self.share * self.audit_share
        return math.ceil(1 / audit) if audit else 0

    @property
    def rate(self) -> Fraction:
        """B - ε, what the strategy lane earns per accepted event."""
        return self.share - (Fraction(1, self.audit_every) if self.audit_every else 0)

    @property
    def own_rate(self) -> Fraction:
        """What the strategy lane earns per accepted event for its own bucket, without the quotas' part."""
        return self.rate * (1 - sum(part for _, part in self.quotas))

    @property
    def reserve(self) -> int:
        """The requests that the strategy lane leaves in the bucket for the audit lane.

        With so many the audit lane, which takes ε of what comes in, empties the bucket about once in 100 times.

        >>> Budget(Fraction("0.1"), Fraction("0.3"), burst=20).reserve
        3
        """
        if not self.audit_every or not self.rate:
            return 0
        return min(_RESERVE_MAX, math.ceil(2 * (Fraction(1, self.audit_every) + self.own_rate) / self.own_rate))

    def partition_budget(self, partition: int, partitions: int) -> PartitionBudget:
        """Return what one of *partitions* partitions may ask: absolute numbers are divided, shares are not."""
        burst = divide(self.burst, partition, partitions)
        gains = [self.rate * part for _, part in self.quotas]
        gain = self.share - sum(gains)
        price = math.lcm(gain.denominator, *(own.denominator for own in gains))
        capacities = [max(1, math.floor(part * burst)) for _, part in self.quotas]
        capacity = max(burst - sum(capacities), 2 * self.reserve + 1)
        return PartitionBudget(
            audit_every=self.audit_every,
            gain=int(gain * price),
            price=price,
            start=burst * price,
            capacity=capacity * price,
            reserve=(self.reserve if self.rate else capacity) * price,
            open=self._cap(self.open_max, partition, partitions, whole=False) or Cap(0, 0),
            open_bytes=self._cap(self.open_bytes, partition, partitions, whole=False) or Cap(0, 0),
            requests=tuple(self._cap(cap, partition, partitions) for cap in (self.per_hour, self.per_day)),
            money=tuple(self._cap(cap, partition, partitions, self.prices.reserved) for cap in self.money),
            reserved=self.prices.reserved,
            quotas=tuple(
                Quota(label, int(own * price), most * price)
                for (label, _), own, most in zip(self.quotas, gains, capacities, strict=True)
            ),
        )

    def _cap(self, cap: int | None, partition: int, partitions: int, one: int = 1, *, whole: bool = True) -> Cap | None:
        """Return the partition's part of *cap*; the audit lane keeps room for at least *one* request of it."""
        if cap is None:
            return None
        part = divide(cap, partition, partitions)
        share = self.audit_share * part
        audit = max(one, math.ceil(share) if whole else math.floor(share)) if self.audit_every else 0
        return Cap(part, part - min(part, audit))


class Cap(NamedTuple):
    """At most *total* of both lanes together, of which the strategy lane takes at most *strategy*."""

    total: int
    strategy: int


class Quota(NamedTuple):
    """A bucket of tokens for the class *label*: an event earns *gain*, the bucket holds at most *capacity*."""

    label: str
    gain: int
    capacity: int


class PartitionBudget(NamedTuple):
    """One partition's part of the budget, in whole numbers.

    Attributes:
        audit_every: the audit lane asks about one event in so many; 0: there is no audit lane.
        gain: tokens that an event earns.
        price: tokens that a request costs.
        start: tokens at the beginning.
        capacity: the most tokens that the bucket holds.
        reserve: tokens that the strategy lane leaves to the audit lane.
        open: cap on the open requests.
        open_bytes: cap on the memory that they take.
        requests: caps on the requests of a clock hour and of a calendar day.
        money: caps on the micro-units of a clock hour, calendar day and month.
        reserved: micro-units that a request takes of them until it is closed.
        quotas: buckets of their own for some classes.
    """

    audit_every: int
    gain: int
    price: int
    start: int
    capacity: int
    reserve: int
    open: Cap
    open_bytes: Cap
    requests: tuple[Cap | None, ...]
    money: tuple[Cap | None, ...]
    reserved: int
    quotas: tuple[Quota, ...]

    def with_open_max(self, open_max: int) -> PartitionBudget:
        """Return this budget with no more than *open_max* open requests; never less than one of each lane.

        With nothing open nothing would be answered any more, and the rate of answers could not recover.
        """
        before = self.open.total
        total = min(before, max(2, open_max))
        audit = max(1, total * (before - self.open.strategy) // max(1, before)) if self.audit_every else 0
        return self._replace(open=Cap(total, total - audit))
