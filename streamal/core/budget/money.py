"""Money in whole micro-units (millionths of the currency), and the clock windows that it is counted in.

What a label costs may be known only from its reply (the seconds of work). Then the most that it can cost is
*reserved* when it is asked, and *settled* when its request is closed; a closed request never costs more than was
reserved for it. Both amounts stand on the records, so a later change of prices changes nothing that was spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from streamal.core.records import Closing, Lane, Request, partition_of

__all__ = ["FREE", "MICRO", "WINDOWS", "Prices", "Refunds", "Settlements", "micros", "windows"]

MICRO = 1_000_000
"""Micro-units in a unit of the currency."""
WINDOWS = ("hour", "day", "month")
"""The clock windows that caps are kept in, all in UTC."""


def micros(amount: Decimal) -> int:
    """Return *amount*, of at most six decimals, in micro-units.

    >>> micros(Decimal("0.08"))
    80000
    """
    exact = Fraction(amount) * MICRO
    assert exact.denominator == 1, f"{amount} has more than six decimals"
    return exact.numerator


def windows(hour: int) -> tuple[int, int, int]:
    """Return the numbers of the clock hour, calendar day and calendar month of *hour* (hours since the epoch, UTC).

    Months are those of the proleptic Gregorian calendar, counted from March of year 0: its leap day is its last.

    >>> windows(0)[2] + 1 == windows(31 * 24)[2]  # 31 January 1970, 24:00
    True
    """
    day = hour // 24
    era, day_of_era = divmod(day + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    return hour, day, (era * 400 + year_of_era) * 12 + (5 * day_of_year + 2) // 153


@dataclass(frozen=True, slots=True)
class Prices:
    """What a label costs.

    Attributes:
        per_label: micro-units for a request that somebody worked on.
        per_hour: micro-units for an hour of an annotator's work, on top.
        seconds_max: upper bound on the seconds that are paid; also assumed where a reply does not say how many.
        refund_expired: a request that nobody answered in time costs nothing.
        refund_abstained: one that somebody could not answer costs nothing.
    """

    per_label: int = 0
    per_hour: int = 0
    seconds_max: int = 0
    refund_expired: bool = True
    refund_abstained: bool = False

    @property
    def reserved(self) -> int:
        """The most that one label can cost.

        >>> Prices(per_label=50_000, per_hour=36_000_000, seconds_max=60).reserved
        650000
        """
        return self.per_label + self._work_price(None)

    def cost_of_reply(self, request: Request, label: str | None, seconds: float | None) -> int:
        """Return the cost of a *request* answered with *label* (None: an abstention) after *seconds* of work."""
        if label is None and self.refund_abstained:
            return 0
        return min(request.reserved, self.per_label + self._work_price(seconds))

    def cost_of_expiry(self, request: Request) -> int:
        """Return what a *request* costs that nobody answered in time."""
        return 0 if self.refund_expired else request.reserved

    def _work_price(self, seconds: float | None) -> int:
        """Return the price of so many seconds of work, rounded up to a whole micro-unit."""
        paid_s = self.seconds_max if seconds is None or seconds > self.seconds_max else Fraction(seconds)
        return -(-self.per_hour * paid_s // 3600)


FREE = Prices()
"""Labels that cost nothing."""


class Refunds(NamedTuple):
    """What was reserved in excess for the requests of one clock *window*, by lane, in micro-units."""

    window: int
    audit: int = 0
    strategy: int = 0


class Settlements:
    """A fold of ``training``: what closed requests have cost, and what was refunded.

    A partition's spend in a window is what its counters reserved there minus the refunds here. A fold that lags
    behind knows of fewer refunds and so can only overstate the spend.
    """

    def __init__(self) -> None:
        """Begin without any closed request."""
        self._refunds: dict[int, list[Refunds]] = {}
        self._costs: dict[int, int] = {}

    def fold(self, record: Closing) -> None:
        """Take in one closed request: it counts in the windows in which it was asked."""
        partition = partition_of(record.request)
        self._costs[partition] = self._costs.get(partition, 0) + record.cost
        refund = record.reserved - record.cost
        if not refund:
            return
        refunds = self._refunds.setdefault(partition, [Refunds(-1)] * len(WINDOWS))
        for i, window in enumerate(windows(int(record.asked_at // 3600))):
            # the counters have reached every window that was asked in: nobody needs those before the latest
            latest = refunds[i] if window <= refunds[i].window else Refunds(window)
            if window == latest.window:
                audit, strategy = (refund, 0) if record.lane is Lane.AUDIT else (0, refund)
                refunds[i] = Refunds(window, latest.audit + audit, latest.strategy + strategy)

    def refunds(self, partition: int) -> tuple[Refunds, ...]:
        """Return the refunds of the latest hour, day and month of *partition* in which a closed request was asked."""
        return tuple(self._refunds.get(partition, ()))

    def cost(self, partition: int) -> int:
        """Return what all closed requests of *partition* have cost, in micro-units."""
        return self._costs.get(partition, 0)
