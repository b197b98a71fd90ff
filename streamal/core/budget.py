"""How much may be asked: exact, hard, per partition; two lanes.

Every accepted event earns ``B`` (the share) of a label, in one token bucket. The **audit lane** tosses a coin of
probability ε = 1/L, ``L = ceil(1/(B·a))``, for every event, so that quality can be measured without bias. The coins
are independent: a slot in each block would be more even, but whatever follows the slot could not be audited, and a
model that has just learned the slot's label is better there than elsewhere (up to 6 points of bias on a stream whose
neighbours are alike). The **strategy lane** owns the rest, ``B - ε`` per event. It leaves a reserve, so that the audit
lane practically never meets an empty bucket, and as the bucket empties it closes by degrees: it is open with a known
probability, since a lane that is shut leaves hard events with nothing but ε, and these few labels with weights of L.
Counting is in integers (tokens of 1/denominator), never an average that forgets, hence for every prefix of a partition

    requests <= B·events + burst.

An absolute cap per clock hour and the bound on open requests close the lanes too; both keep room for the audit
lane. Where even that is used up the event's propensity is 0, which is counted and shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from streamal.core.chance import Coin
from streamal.core.records import Lane
from streamal.core.strategies import State, Strategy

__all__ = ["Allowance", "BudgetRules", "Decision", "Ledger", "Sampler", "divided"]

_RESERVE_MAX = 20


def divided(cap: int, partition: int, partitions: int) -> int:
    """Return this partition's part of an absolute cap; the parts of all partitions sum to the cap.

    >>> [divided(200, p, 3) for p in range(3)]
    [67, 67, 66]
    """
    return cap // partitions + (partition < cap % partitions)


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """The budget of all partitions together.

    Attributes:
        share: B, at most this many requests per accepted event, in (0, 1].
        audit_share: a, the part of the budget that is spent at random, in [0, 1].
        burst: requests that may come on top, at least 1.
        per_hour: hard cap on requests in each clock hour, None for no cap.
        open_max: bound of open requests.
    """

    share: Fraction
    audit_share: Fraction
    burst: int
    per_hour: int | None = None
    open_max: int = 10_000

    @property
    def block(self) -> int:
        """L: one accepted event in so many is audited, on average; 0 without an audit lane.

        >>> BudgetRules(Fraction("0.1"), Fraction("0.3"), burst=20).block
        34
        """
        audit = self.share * self.audit_share
        return math.ceil(1 / audit) if audit else 0

    @property
    def rate(self) -> Fraction:
        """B - ε, what the strategy lane earns per accepted event."""
        return self.share - (Fraction(1, self.block) if self.block else 0)

    @property
    def reserve(self) -> int:
        """The requests that the strategy lane leaves in the bucket for the audit lane.

        With so many the audit lane, which takes ε of the B that come in, empties the bucket about once in 100 times.

        >>> BudgetRules(Fraction("0.1"), Fraction("0.3"), burst=20).reserve
        3
        """
        return min(_RESERVE_MAX, math.ceil(2 * self.share / self.rate)) if self.block and self.rate else 0

    def allowance(self, partition: int, partitions: int) -> Allowance:
        """Return what one of *partitions* partitions may ask: absolute figures are divided, shares are not."""
        burst = divided(self.burst, partition, partitions)
        open_max = divided(self.open_max, partition, partitions)
        open_audit = max(1, math.floor(self.audit_share * open_max)) if self.block else 0
        per_hour = math.inf if self.per_hour is None else divided(self.per_hour, partition, partitions)
        hour_audit = 0 if self.per_hour is None else math.ceil(self.audit_share * int(per_hour))
        price = self.share.denominator
        capacity = max(burst, 2 * self.reserve + 1)
        return Allowance(
            block=self.block,
            gain=self.share.numerator,
            price=price,
            start=burst * price,
            capacity=capacity * price,
            reserve=(self.reserve if self.rate else capacity) * price,
            open_max=open_max,
            open_strategy_max=open_max - open_audit,
            per_hour=per_hour,
            per_hour_strategy=per_hour - hour_audit,
        )


class Allowance(NamedTuple):
    """One partition's part of the budget, in whole numbers: a request costs *price* tokens, an event earns *gain*.

    *start* tokens are there at the beginning, *capacity* is the most that can be saved, *reserve* is left for the
    audit lane, which asks for one event in *block* (0: no audit lane). The others bound
    the open requests, and those of a clock hour, of both lanes and of the strategy lane alone; what lies between the
    two is kept for the audit lane.
    """

    block: int
    gain: int
    price: int
    start: int
    capacity: int
    reserve: int
    open_max: int
    open_strategy_max: int
    per_hour: float
    per_hour_strategy: float


class Ledger(NamedTuple):
    """What a partition has counted; kept in the offset's commit metadata.

    *tokens* are counted as in `Allowance`. *hour* is the clock hour (seconds // 3600) that
    *hour_audit* and *hour_strategy* count requests of.
    """

    accepted: int
    tokens: int
    audit: int
    strategy: int
    hour: int = 0
    hour_audit: int = 0
    hour_strategy: int = 0


class Decision(NamedTuple):
    """*lane* is None if the event is not asked; *propensity* is that of both lanes together."""

    propensity: float
    lane: Lane | None


class Sampler:
    """Decides for one partition, event by event; owns the ledger and the strategy's state while a step lasts."""

    def __init__(
        self,
        allowance: Allowance,
        strategy: Strategy,
        seed: int,
        ledger: Ledger | None,
        state: State | None,
        now: float,
        open_audit: int,
        open_strategy: int,
    ) -> None:
        """Continue from *ledger* and *state* (None: a new partition) at time *now* with so many open requests."""
        self._allowance, self._strategy = allowance, strategy
        self._epsilon = 1.0 / allowance.block if allowance.block else 0.0
        self._audit_coin, self._strategy_coin = Coin(seed, "audit"), Coin(seed, "strategy")
        self._open_coin = Coin(seed, "open")
        self._open_audit, self._open_strategy = open_audit, open_strategy
        ledger = ledger or Ledger(0, allowance.start, 0, 0)
        self._accepted, self._tokens, self._audit, self._strategic = ledger[:4]
        self._hour = max(ledger.hour, int(now // 3600))
        same_hour = self._hour == ledger.hour
        self._hour_audit = ledger.hour_audit if same_hour else 0
        self._hour_strategy = ledger.hour_strategy if same_hour else 0
        self._state = strategy.initial() if state is None else state

    @property
    def ledger(self) -> Ledger:
        """The counts, to be committed with the offset."""
        return Ledger(
            self._accepted,
            self._tokens,
            self._audit,
            self._strategic,
            self._hour,
            self._hour_audit,
            self._hour_strategy,
        )

    @property
    def state(self) -> State:
        """The strategy's state, to be committed with the offset."""
        return self._state

    def decide(self, key: str, uncertainty: float) -> Decision:
        """Count one accepted event with coordinates *key* and say whether its label is worth asking for."""
        self._tokens = min(self._allowance.capacity, self._tokens + self._allowance.gain)
        self._accepted += 1
        epsilon = self._epsilon if self._room() else 0.0
        openness = self._openness()
        s = 0.0
        chosen = False
        if openness > 0.0:
            s = self._strategy.propensity(uncertainty, self._state)
            if openness >= 1.0 or self._open_coin.uniform(key) < openness:
                chosen = s >= 1.0 or (s > 0.0 and self._strategy_coin.uniform(key) < s)
                self._state = self._strategy.update(uncertainty, chosen, self._state)
        propensity = 1.0 - (1.0 - epsilon) * (1.0 - openness * s)
        if epsilon and self._audit_coin.uniform(key) < epsilon:
            self._tokens -= self._allowance.price
            self._audit += 1
            self._hour_audit += 1
            self._open_audit += 1
            return Decision(propensity, Lane.AUDIT)
        if chosen:
            self._strategic += 1
            self._hour_strategy += 1
            self._open_strategy += 1
            self._tokens -= self._allowance.price
            return Decision(propensity, Lane.STRATEGY)
        return Decision(propensity, None)

    def _room(self) -> bool:
        return (
            self._tokens >= self._allowance.price
            and self._hour_audit + self._hour_strategy < self._allowance.per_hour
            and self._open_audit + self._open_strategy < self._allowance.open_max
        )

    def _openness(self) -> float:
        """Return the probability with which the strategy lane is open: all of it while half of the bucket is full."""
        left = self._tokens - self._allowance.reserve
        if left <= 0 or not self._strategy_room():
            return 0.0
        return min(1.0, 2.0 * left / (self._allowance.capacity - self._allowance.reserve))

    def _strategy_room(self) -> bool:
        return (
            self._open_strategy < self._allowance.open_strategy_max
            and self._hour_strategy < self._allowance.per_hour_strategy
            and self._room()
        )
