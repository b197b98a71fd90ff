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

Absolute caps (requests and money of a clock hour, calendar day or month, open requests) close the lanes too; all of
them keep room for the audit lane. Where even that is used up the event's propensity is 0, which is counted and shown.

A *quota* keeps a part of what the strategy lane earns for the events of one class, in a bucket of its own: each is
asked with the probability that it is of that class, for as long as the quota has tokens. What it cannot save flows
back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.limits import Budget, Cap, PartitionBudget, divide
from streamal.core.budget.money import Refunds
from streamal.core.coins import Coins
from streamal.core.records import Lane
from streamal.core.strategies import State, Strategy

__all__ = ["Budget", "Decision", "PartitionBudget", "Sampler", "divide"]

_NONE: Mapping[str, float] = {}


class Decision(msgspec.Struct, frozen=True, gc=False):
    """*lane* is None if the event is not asked; *propensity* is that of both lanes together."""

    propensity: float
    lane: Lane | None


class Sampler:
    """Decides for one partition, event by event; owns the ledger and the strategy's state while a step lasts."""

    def __init__(
        self,
        partition_budget: PartitionBudget,
        strategy: Strategy,
        coins: Coins,
        counters: BudgetCounters | None,
        state: State | None,
        now: float,
        open_requests: tuple[int, int] = (0, 0),
        refunds: Sequence[Refunds] = (),
    ) -> None:
        """Continue from *ledger* and *state* (None: a new partition) at time *now* with so many open requests.

        *coins* are those of the partition. *refunds* are what is known of requests that were closed: the less is
        known, the less may be asked.
        """
        self._budget, self._strategy = partition_budget, strategy
        self._epsilon = 1.0 / partition_budget.audit_every if partition_budget.audit_every else 0.0
        self._price, self._gain, self._capacity = (
            partition_budget.price,
            partition_budget.gain,
            partition_budget.capacity,
        )
        self._coins = coins
        self._propensity, self._update = strategy.propensity, strategy.update
        self._before = (counters or BudgetCounters(0, partition_budget.start, 0, 0)).advance_to(int(now // 3600))
        self._accepted, self._tokens = self._before[:2]
        self._audited = self._strategic = 0
        self._room, self._strategy_room = _room(partition_budget, self._before, refunds, open_requests)
        self._quotas = partition_budget.quotas
        if self._quotas or self._before.quota_tokens:
            self._quota_tokens = self._initial_quota_tokens()
        self._state = strategy.initial() if state is None else state

    @property
    def counters(self) -> BudgetCounters:
        """The counts, to be committed with the offset."""
        after = self._before.add_requests(self._audited, self._strategic, self._budget.reserved)
        quota_tokens = tuple(self._quota_tokens) if self._quotas else ()
        return after._replace(accepted=self._accepted, tokens=self._tokens, quota_tokens=quota_tokens)

    @property
    def state(self) -> State:
        """The strategy's state, to be committed with the offset."""
        return self._state

    def decide(self, offset: int, uncertainty: float, probabilities: Mapping[str, float] = _NONE) -> Decision:
        """Count one accepted event at *offset* and say whether its label is worth asking for.

        *probabilities* are those of the classes, for the quotas.
        """
        self._accepted += 1
        tokens = self._tokens + self._gain + (self._fill_quotas() if self._quotas else 0)
        self._tokens = tokens if tokens < self._capacity else self._capacity  # noqa: FURB136  (−0.1 µs)
        audit, coin, opener, quota_coin = self._coins.uniform(offset)
        epsilon = p = q = 0.0
        chosen, quota = False, -1
        if self._room > 0:
            if tokens >= self._price:
                epsilon = self._epsilon
            if self._strategy_room > 0:
                if self._quotas:
                    q, quota = self._draw_quota(quota_coin, probabilities)
                openness = self._openness()
                if openness > 0.0:
                    s = self._propensity(uncertainty, self._state)
                    p = openness * s
                    if opener < openness:
                        chosen = coin < s
                        self._state = self._update(uncertainty, chosen, self._state)
        propensity = 1.0 - (1.0 - epsilon) * (1.0 - p) * (1.0 - q)
        if audit < epsilon:
            self._audited += 1
            self._room -= 1
            self._pay(-1)
            return Decision(propensity, Lane.AUDIT)
        if chosen or quota >= 0:
            self._strategic += 1
            self._room -= 1
            self._strategy_room -= 1
            self._pay(quota)
            return Decision(propensity, Lane.STRATEGY)
        return Decision(propensity, None)

    def _openness(self) -> float:
        """Return the probability with which the strategy lane is open: 1 for as long as half of the bucket is full.

        Without an audit lane it is open while there is a token: what nothing keeps reachable is not weighted either.
        """
        reserve = self._budget.reserve
        left = self._tokens - reserve
        if left <= 0 or self._tokens < self._price:
            return 0.0
        room = self._capacity - reserve
        return 1.0 if 2 * left >= room or not self._epsilon else 2.0 * left / room

    def _fill_quotas(self) -> int:
        """Save what one accepted event earns for the quotas; return what they cannot save any more."""
        overflow = 0
        for i, quota in enumerate(self._quotas):
            saved = self._quota_tokens[i] + quota.gain
            self._quota_tokens[i] = min(quota.capacity, saved)
            overflow += saved - self._quota_tokens[i]
        return overflow

    def _pay(self, quota: int) -> None:
        """Take the price of a request from where it was chosen; a quota's own request costs nobody else anything."""
        if quota >= 0:
            self._quota_tokens[quota] -= self._budget.price
        else:
            self._tokens -= self._budget.price

    def _draw_quota(self, coin: float, probabilities: Mapping[str, float]) -> tuple[float, int]:
        """Return (the probability that a quota asks about this event, the number of the one that does or -1)."""
        found = [
            (probabilities.get(quota.label, 0.0) if self._quota_tokens[i] >= self._budget.price else 0.0)
            for i, quota in enumerate(self._quotas)
        ]
        propensity = min(1.0, sum(found))
        if propensity <= 0.0:
            return 0.0, -1
        for i, probability in enumerate(found):
            coin -= probability
            if coin < 0.0:
                return propensity, i
        return propensity, -1

    def _initial_quota_tokens(self) -> list[int]:
        """Return what the quotas have saved; with other quotas than before they begin with nothing, and none is lost.

        At the very first they share what there is at the start.
        """
        quota_tokens, quotas = self._before.quota_tokens, self._quotas
        if len(quota_tokens) == len(quotas):
            return list(quota_tokens)
        self._tokens += sum(quota_tokens)
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
    """Return how many requests the absolute caps leave: of both lanes together, and of the strategy lane alone."""
    hour, day = (counters.hour_audit, counters.hour_strategy), (counters.day_audit, counters.day_strategy)
    taken: list[tuple[Cap | None, tuple[int, int], int]] = [(partition_budget.open, open_requests, 1)]
    taken += [(cap, spent, 1) for cap, spent in zip(partition_budget.requests, (hour, day), strict=True)]
    if partition_budget.reserved:
        spent = counters.amounts_spent(refunds)
        taken += [(cap, own, partition_budget.reserved) for cap, own in zip(partition_budget.money, spent, strict=True)]
    left = [(cap.total - audit - own, cap.strategy - own, one) for cap, (audit, own), one in taken if cap is not None]
    return min(total // one for total, _, one in left), min(own // one for _, own, one in left)
