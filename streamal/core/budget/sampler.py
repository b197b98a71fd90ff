"""Whether an event is asked about: exact, hard limits, per partition; two lanes.

Every accepted event earns ``B`` (the share) of a label, in one token bucket.

* The **audit lane** tosses a coin of probability ε = 1/L, ``L = ceil(1/(B·a))``, for every event, so that quality can
  be measured without bias. The coins are independent. A slot in each block would be more even, but whatever follows
  the slot could not be audited, and a model that has just learned the slot's label is better there than elsewhere (up
  to 6 points of bias on a stream whose neighbours are alike).
* The **strategy lane** owns the rest, ``B - ε`` per event. It leaves a reserve, so that the audit lane practically
  never meets an empty bucket. As the bucket empties it closes by degrees: it is open with a known probability. A lane
  that is shut would leave hard events with nothing but ε, and these few labels with weights of L.

Counting is in integers (tokens of 1/denominator), never an average that forgets. Hence for every prefix of a partition

    requests <= B·events + burst.

Absolute caps (requests and money of a clock hour, calendar day or month, open requests) close the lanes too; all of
them keep room for the audit lane. Where even that is used up the event's propensity is 0, which is counted and shown.

A *quota* keeps a part of what the strategy lane earns for the events of one class, in a bucket of its own. An event is
asked with the probability that it is of that class, for as long as the quota has tokens. What its bucket cannot hold
flows back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.limits import Budget, Cap, PartitionBudget, divide
from streamal.core.budget.money import Refunds
from streamal.core.coins import EventCoins
from streamal.core.records import Lane
from streamal.core.strategies import State, Strategy

__all__ = ["Budget", "Decision", "OpenRequests", "PartitionBudget", "Sampler", "divide"]

_NO_CLASS: Mapping[str, float] = {}


class Decision(msgspec.Struct, frozen=True, gc=False):
    """*lane* is None if the event is not asked; *propensity* is that of both lanes together."""

    propensity: float
    lane: Lane | None


_CLOSED = Decision(0.0, None)


class OpenRequests(NamedTuple):
    """The open requests of a partition, by lane, and the memory that they take."""

    audit: int = 0
    strategy: int = 0
    audit_bytes: int = 0
    strategy_bytes: int = 0


_NOTHING_OPEN = OpenRequests()


class Sampler:
    """Decides for one partition, event by event; owns the counters and the strategy's state while a step lasts."""

    def __init__(
        self,
        partition_budget: PartitionBudget,
        strategy: Strategy,
        coins: EventCoins,
        counters: BudgetCounters | None,
        state: State | None,
        now: float,
        open_requests: OpenRequests = _NOTHING_OPEN,
        refunds: Sequence[Refunds] = (),
    ) -> None:
        """Continue from *counters* and *state* (None: a new partition) at the time *now*.

        Args:
            partition_budget: what may be asked.
            strategy: gives the propensity of the strategy lane.
            coins: those of the partition.
            counters: what was counted before.
            state: of the strategy.
            now: in seconds since the epoch.
            open_requests: those of the partition.
            refunds: those of closed requests; the fewer are known, the less may be asked.
        """
        self._budget = partition_budget
        self._price, self._gain, self._capacity = (
            partition_budget.price,
            partition_budget.gain,
            partition_budget.capacity,
        )
        self._epsilon = 1.0 / partition_budget.audit_every if partition_budget.audit_every else 0.0
        self._coins = coins
        self._propensity, self._update = strategy.propensity, strategy.update
        # the burst is granted here, once in a partition's life
        before = counters or BudgetCounters(0, partition_budget.start, 0, 0)
        self._before = before.under(partition_budget).advance_to(int(now // 3600))
        self._accepted, self._tokens = self._before[:2]
        self._audit = self._strategy = 0
        self._room, self._strategy_room = _room(
            partition_budget, self._before, refunds, (open_requests.audit, open_requests.strategy)
        )
        cap, own = partition_budget.open_bytes, open_requests.strategy_bytes
        self._bytes, self.strategy_bytes = cap.total - open_requests.audit_bytes - own, cap.strategy - own
        """The memory that further requests may take; those of the strategy lane alone."""
        self._quotas = partition_budget.quotas
        if self._quotas or self._before.quota_tokens:
            self._quota_tokens = self._initial_quota_tokens()
        self._state = strategy.initial() if state is None else state

    @property
    def counters(self) -> BudgetCounters:
        """The counters, to be committed with the offset."""
        after = self._before.add_requests(self._audit, self._strategy, self._budget.reserved)
        quota_tokens = tuple(self._quota_tokens) if self._quotas else ()
        return after._replace(accepted=self._accepted, tokens=self._tokens, quota_tokens=quota_tokens)

    @property
    def state(self) -> State:
        """The strategy's state, to be committed with the offset."""
        return self._state

    def decide(
        self, offset: int, score: float, probabilities: Mapping[str, float] = _NO_CLASS, size: int = 0
    ) -> Decision:
        """Count one accepted event at *offset* and decide whether its label is worth asking for.

        *probabilities* are those of the classes, for the quotas; *size* is the memory that its request would take.
        """
        self._accepted += 1
        tokens = self._tokens + self._gain + (self._fill_quotas() if self._quotas else 0)
        self._tokens = tokens if tokens < self._capacity else self._capacity  # noqa: FURB136  (min() is slower)
        if self._room <= 0 or size > self._bytes:
            return _CLOSED
        audit_coin, strategy_coin, openness_coin, quota_coin = self._coins.uniform(offset)
        epsilon = self._epsilon if tokens >= self._price else 0.0
        p = q = 0.0
        is_chosen, quota = False, -1
        if self._strategy_room > 0 and size <= self.strategy_bytes:
            if self._quotas:
                q, quota = self._draw_quota(quota_coin, probabilities)
            openness = self._openness()
            if openness > 0.0:
                s = self._propensity(score, self._state)
                p = openness * s
                if openness_coin < openness:
                    is_chosen = strategy_coin < s
                    self._state = self._update(score, is_chosen, self._state)
        propensity = 1.0 - (1.0 - epsilon) * (1.0 - p) * (1.0 - q)
        if audit_coin < epsilon:
            return self._ask(Lane.AUDIT, propensity, -1)
        if is_chosen or quota >= 0:
            return self._ask(Lane.STRATEGY, propensity, quota)
        return Decision(propensity, None)

    def hold(self, lane: Lane, size: int) -> None:
        """Count the memory of a request that was asked."""
        self._bytes -= size
        if lane is Lane.STRATEGY:
            self.strategy_bytes -= size

    def _ask(self, lane: Lane, propensity: float, quota: int) -> Decision:
        """Count a request and pay for it: from the bucket of the *quota* that chose it, else (-1) from the common."""
        self._room -= 1
        if lane is Lane.AUDIT:
            self._audit += 1
        else:
            self._strategy += 1
            self._strategy_room -= 1
        if quota >= 0:
            self._quota_tokens[quota] -= self._price
        else:
            self._tokens -= self._price
        return Decision(propensity, lane)

    def _openness(self) -> float:
        """Return the probability with which the strategy lane is open: 1 for as long as half of the bucket is full.

        Without an audit lane it is open while there is a token: nothing is weighted then.
        """
        reserve = self._budget.reserve
        left = self._tokens - reserve
        if left <= 0 or self._tokens < self._price:
            return 0.0
        room = self._capacity - reserve
        return 1.0 if 2 * left >= room or not self._epsilon else 2.0 * left / room

    def _fill_quotas(self) -> int:
        """Add what one accepted event earns to the quotas' buckets; return what overflows them."""
        overflow = 0
        for i, quota in enumerate(self._quotas):
            tokens = self._quota_tokens[i] + quota.gain
            self._quota_tokens[i] = min(quota.capacity, tokens)
            overflow += tokens - self._quota_tokens[i]
        return overflow

    def _draw_quota(self, coin: float, probabilities: Mapping[str, float]) -> tuple[float, int]:
        """Return (the probability that a quota asks about this event, the number of the one that does or -1)."""
        shares = [
            (probabilities.get(quota.label, 0.0) if self._quota_tokens[i] >= self._price else 0.0)
            for i, quota in enumerate(self._quotas)
        ]
        propensity = min(1.0, sum(shares))
        if propensity <= 0.0:
            return 0.0, -1
        for i, share in enumerate(shares):
            coin -= share
            if coin < 0.0:
                return propensity, i
        return propensity, -1

    def _initial_quota_tokens(self) -> list[int]:
        """Return the tokens of the quotas as the counters have them; a new partition shares out its start.

        With other quotas than before they begin with nothing, and what the former ones had goes into the common bucket.
        """
        tokens, quotas = self._before.quota_tokens, self._quotas
        if len(tokens) == len(quotas):
            return list(tokens)
        self._tokens += sum(tokens)
        if self._accepted:
            return [0] * len(quotas)
        earned = self._budget.gain + sum(quota.gain for quota in quotas)
        shares = [min(quota.capacity, self._tokens * quota.gain // max(1, earned)) for quota in quotas]
        self._tokens -= sum(shares)
        return shares


def _room(
    partition_budget: PartitionBudget,
    counters: BudgetCounters,
    refunds: Sequence[Refunds],
    open_requests: tuple[int, int],
) -> tuple[int, int]:
    """Return how many requests the absolute caps leave: to both lanes together, and to the strategy lane alone."""
    hour, day = (counters.hour_audit, counters.hour_strategy), (counters.day_audit, counters.day_strategy)
    used: list[tuple[Cap | None, tuple[int, int], int]] = [(partition_budget.open, open_requests, 1)]
    used += [(cap, counts, 1) for cap, counts in zip(partition_budget.requests, (hour, day), strict=True)]
    if partition_budget.reserved:
        amounts = counters.amounts_spent(refunds)
        used += [
            (cap, each, partition_budget.reserved) for cap, each in zip(partition_budget.money, amounts, strict=True)
        ]
    left = [(cap.total - audit - own, cap.strategy - own, one) for cap, (audit, own), one in used if cap is not None]
    return min(total // one for total, _, one in left), min(own // one for _, own, one in left)
