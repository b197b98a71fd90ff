"""The budget is a bound, not a target: exact in every prefix, hard in every hour, whatever the scores (I2, T2, T3)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.sampler import Budget, Decision, OpenRequests, PartitionBudget, Sampler, divide
from streamal.core.coins import EventCoins
from streamal.core.records import Lane
from streamal.core.state import PartitionState, decode_state, encode_state
from streamal.core.strategies import STRATEGIES, SamplingRules, State, Strategy, build_strategy
from streamal.core.strategies.base import State as AnyState
from streamal.core.strategies.unconditional import Random


class Always:
    """The greediest strategy there is: it asks about everything."""

    def initial(self) -> AnyState:
        return ()

    def propensity(self, uncertainty: float, state: AnyState) -> float:
        return 1.0

    def update(self, uncertainty: float, asked: float, state: AnyState) -> AnyState:
        return state


class Never(Always):
    def propensity(self, uncertainty: float, state: AnyState) -> float:
        return 0.0


def strategy_of(name: str, budget: Budget) -> Strategy:
    if name == "always":
        return Always()
    return build_strategy(SamplingRules(name, rate=float(budget.rate), share=float(budget.share)))


class Partition:
    """One partition of a stream: its committed state goes through the wire between any two steps."""

    def __init__(self, budget: Budget, strategy: Strategy, partition: int = 0, partitions: int = 1) -> None:
        self.partitions = partitions
        self.strategy, self.number = strategy, partition
        self.change(budget)
        self.metadata = ""
        self.accepted = 0
        self.open: Counter[Lane] = Counter()

    def change(self, budget: Budget) -> None:
        """Go on under another *budget*, as a worker does that was started again with another configuration."""
        self.partition_budget = budget.partition_budget(self.number, self.partitions)

    def step(self, scores: Sequence[float], now: float = 0.0) -> list[Decision]:
        state = decode_state(self.metadata, PartitionState) or PartitionState()
        sampler = Sampler(
            self.partition_budget,
            self.strategy,
            EventCoins(7, self.number),
            state.counters,
            state.strategy,
            now,
            OpenRequests(self.open[Lane.AUDIT], self.open[Lane.STRATEGY]),
        )
        decisions = [sampler.decide(self.accepted + i, u) for i, u in enumerate(scores)]
        self.accepted += len(scores)
        self.open.update(decision.lane for decision in decisions if decision.lane is not None)
        self.metadata = encode_state(PartitionState(0, now, sampler.counters, sampler.state))
        return decisions


def asked(decisions: Sequence[Decision]) -> int:
    return sum(decision.lane is not None for decision in decisions)


shares = st.fractions(min_value=Fraction(1, 5_000), max_value=1, max_denominator=5_000)
audit_shares = st.just(Fraction(0)) | st.just(Fraction(1)) | st.fractions(0, 1, max_denominator=50)
names = st.sampled_from(["always", *STRATEGIES])
scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.999, 1.0]) | st.floats(0.0, 1.0), max_size=120)
budgets = st.builds(Budget, shares, audit_shares, st.integers(1, 30))


# The bound.


@given(budgets, names, scores, st.integers(1, 30))
@example(Budget(Fraction(1), Fraction(1, 2), 1), "always", [1.0] * 100, 1)
@example(Budget(Fraction(1, 10), Fraction(1), 20), "always", [1.0] * 100, 7)
@example(Budget(Fraction(1, 10), Fraction(1), 1), "always", [1.0] * 100, 30)
@example(Budget(Fraction(1, 2), Fraction(0), 1), "always", [1.0] * 100, 7)
def test_the_bound_holds_in_every_prefix(budget: Budget, name: str, us: list[float], repeat: int) -> None:
    """At most share·events + burst requests, exactly, for any scores, share, audit share, burst and strategy."""
    decisions = Partition(budget, strategy_of(name, budget)).step(us * repeat)
    requests = 0
    for events, decision in enumerate(decisions, 1):
        requests += decision.lane is not None
        assert requests <= budget.share * events + budget.burst
        assert 0.0 <= decision.propensity <= 1.0


def changes(*shares: str, events: int = 2_000) -> list[tuple[Budget, list[float]]]:
    return [(Budget(Fraction(share), Fraction("0.3"), 20), [1.0] * events) for share in shares]


quotas = st.sampled_from([(), (("a", Fraction(1, 3)),), (("a", Fraction(1, 7)), ("b", Fraction(1, 2)))])


@given(st.lists(st.tuples(st.builds(Budget, shares, audit_shares, st.just(9), quotas=quotas), scores), max_size=8))
@example(changes("0.101", "0.100"))
@example(changes(*("0.0999", "0.1") * 7, events=30))
@example(changes("0.10", "0.05"))
@example(changes("0.001", "1", "0.001", events=50))
def test_a_changed_share_stays_within_the_budget(parts: list[tuple[Budget, list[float]]]) -> None:
    """F63: at most Σ share·events + burst requests, the burst once, whatever the tokens of each share are parts of."""
    earned = Fraction(parts[0][0].burst if parts else 0)
    requests, partition = 0, None
    for budget, us in parts:
        partition = partition or Partition(budget, Always())
        partition.change(budget)
        for decision in partition.step(us) if us else ():
            earned += budget.share
            requests += decision.lane is not None
            assert requests <= earned


@pytest.mark.parametrize("share", ["0.0999", "0.1", "1"])
def test_what_was_saved_is_kept_when_the_share_changes(share: str) -> None:
    """A full bucket is full under another share too: a change takes nothing away, but for the rounding."""
    partition = Partition(Budget(Fraction("0.1"), Fraction(0), 20), Never())
    partition.step([0.0])
    partition.change(Budget(Fraction(share), Fraction(0), 20))
    partition.strategy = Always()
    assert asked(partition.step([1.0] * 20)) == 20


@given(budgets, names, scores, st.lists(st.integers(0, 120), max_size=6))
def test_a_partition_can_be_cut_anywhere(budget: Budget, name: str, us: list[float], cuts: list[int]) -> None:
    """I14: in one step or in many, each through the commit metadata, the decisions and the end state are the same."""
    whole, cut = (Partition(budget, strategy_of(name, budget)) for _ in range(2))
    decisions = whole.step(us)
    edges = [0, *sorted(min(at, len(us)) for at in cuts), len(us)]
    pieces = [cut.step(us[start:end]) for start, end in pairwise(edges)]
    assert [decision for piece in pieces for decision in piece] == decisions
    assert cut.metadata == whole.metadata


@pytest.mark.parametrize("share", ["0.1", "0.05", "0.02", "0.01", "0.005", "0.001"])
@pytest.mark.parametrize("name", ["always", *STRATEGIES])
def test_t3_small_budgets_are_not_overspent(name: str, share: str) -> None:
    """T3: over 20,000 events the decaying average of the literature spends 4.2 times a budget of 0.1 %."""
    budget = Budget(Fraction(share), Fraction("0.3"), burst=5)
    us = np.random.default_rng(1).beta(1.0, 3.0, 20_000).tolist()
    spent = asked(Partition(budget, strategy_of(name, budget)).step(us))
    assert spent <= 20_000 * Fraction(share) + 5
    assert spent >= 20_000 // (3 * budget.audit_every)  # and the audit lane was not muted by anything
    bucket = budget.partition_budget(0, 1).capacity // budget.partition_budget(0, 1).price
    assert name != "always" or spent >= 20_000 * Fraction(share) + 5 - bucket, "all of it, however small the share"


def test_0_2_an_entropy_sampler_has_a_budget() -> None:
    """0.2: River's EntropySampler spent 93 % of the first 200 events; with such scores this asks 10 % and a burst."""
    budget = Budget(Fraction("0.1"), Fraction("0.3"), burst=20)
    us = np.random.default_rng(2).uniform(0.9, 1.0, 5_000).tolist()
    decisions = Partition(budget, strategy_of("entropy", budget)).step(us)
    assert 30 <= asked(decisions[:200]) <= 40
    assert 500 <= asked(decisions) <= 520


@pytest.mark.parametrize("name", ["always", *STRATEGIES])
def test_0_3_a_shift_in_the_scores_is_not_overspent(name: str) -> None:
    """0.3: scikit-activeml asks 10.5 % of all and 20 % of the worst 100 events; here 10 % and the bucket bound both."""
    budget = Budget(Fraction("0.1"), Fraction("0.3"), burst=5)
    rng = np.random.default_rng(3)
    us = [*rng.beta(1.0, 9.0, 3_000), *rng.beta(9.0, 1.0, 3_000), *rng.beta(1.0, 9.0, 3_000)]
    partition = Partition(budget, strategy_of(name, budget))
    lanes = [decision.lane is not None for decision in partition.step([float(u) for u in us])]
    assert sum(lanes) <= 905
    within = np.convolve(lanes, np.ones(100, dtype=int), "valid")
    assert within.max() <= 100 * budget.share + max(5, 2 * budget.reserve + 1)


@pytest.mark.parametrize("u", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_constant_utility_is_not_overspent(name: str, u: float) -> None:
    """T2: BIQF spends 100 % on a constant utility; here the bound holds, and the audit lane asks all the same."""
    budget = Budget(Fraction("0.1"), Fraction("0.3"), burst=20)
    spent = asked(Partition(budget, strategy_of(name, budget)).step([u] * 5_000))
    assert 5_000 // (2 * budget.audit_every) <= spent <= 520


@pytest.mark.parametrize("burst", [1, 2, 20])
def test_no_more_than_the_burst_is_saved(burst: int) -> None:
    """After 10,000 events that nobody found worth it, the next n bring no more than share·n + the bucket either."""
    budget = Budget(Fraction("0.1"), Fraction("0.3"), burst)
    stream = Partition(budget, Never())
    stream.step([0.0] * 10_000)
    stream.strategy = Always()
    spent = 0
    for n, decision in enumerate(stream.step([1.0] * 500), 1):
        spent += decision.lane is Lane.STRATEGY
        assert spent <= budget.share * n + max(burst, 2 * budget.reserve + 1)


@given(budgets)
def test_the_audit_takes_at_most_its_part(budget: Budget) -> None:
    """1/L <= B·a < 1/(L-1): as often as it may be, and nothing is taken from the strategy lane."""
    audit = budget.share * budget.audit_share
    assert 0 <= budget.rate <= budget.share
    if budget.audit_every:
        assert Fraction(1, budget.audit_every) <= audit
        assert budget.audit_every == 1 or audit < Fraction(1, budget.audit_every - 1)
    else:
        assert audit == 0


def test_the_greedy_spend_all_of_it() -> None:
    """The bound is tight: who asks whenever possible gets share·events + burst, but for the audit lane's reserve."""
    for share, audit_share in (("0.1", "0.3"), ("0.25", "0"), ("1", "0.5"), ("0.013", "0.9")):
        budget = Budget(Fraction(share), Fraction(audit_share), burst=20, open_max=10**6)
        events = 10_000
        spent = asked(Partition(budget, Always()).step([1.0] * events))
        assert min(events, math.floor(events * budget.share + 20)) - budget.reserve - 8 <= spent


def test_a_share_of_one_asks_everything() -> None:
    """Every event is asked, and its propensity says so."""
    budget = Budget(Fraction(1), Fraction("0.5"), burst=20)
    decisions = Partition(budget, Always()).step([0.0] * 500)
    assert asked(decisions) == 500
    assert {decision.propensity for decision in decisions} == {1.0}


# The audit lane.


@pytest.mark.parametrize("share", ["0.1", "0.03", "1"])
@pytest.mark.parametrize("strategy", [Always(), Never()])
def test_every_event_is_audited_with_the_same_odds(share: str, strategy: Strategy) -> None:
    """Whatever the other lane does: one in ⌈1/(B·a)⌉ (binomial test at 0.1 %), and hardly ever is the bucket empty."""
    budget = Budget(Fraction(share), Fraction("0.3"), burst=20)
    decisions = Partition(budget, strategy).step([0.5] * (budget.audit_every * 500))
    audits = sum(decision.lane is Lane.AUDIT for decision in decisions)
    assert stats.binomtest(audits, len(decisions), 1 / budget.audit_every).pvalue > 0.001
    closed = sum(decision.propensity < 0.999_999 / budget.audit_every for decision in decisions)
    assert closed < 0.02 * len(decisions)


def test_an_audit_says_nothing_about_the_next() -> None:
    """The odds are ε right after an audit, too (χ² at 0.1 %): no event is out of reach because of its neighbour."""
    budget = Budget(Fraction("0.1"), Fraction("0.5"), burst=20)
    decisions = Partition(budget, Never()).step([0.5] * 80_000)
    audits = [i for i, decision in enumerate(decisions) if decision.lane is Lane.AUDIT]
    lags = Counter(
        b - a for i, a in enumerate(audits) for b in audits[i + 1 : i + 40] if b - a <= 2 * budget.audit_every
    )
    assert stats.chisquare([lags[lag] for lag in range(1, 2 * budget.audit_every + 1)]).pvalue > 0.001


def test_a_model_that_learns_at_once_does_not_bias_the_audit() -> None:
    """Right for some events after each label: audited in blocks, with one slot each, it looks 6 points too bad."""
    budget = Budget(Fraction("0.1"), Fraction("0.3"), burst=20)
    decisions = Partition(budget, Never()).step([0.5] * 60_000)
    known, right, seen = 0, [], []
    for decision in decisions:
        right.append(known > 0)
        if decision.lane is Lane.AUDIT:
            seen.append(known > 0)
        known = 10 if decision.lane is Lane.AUDIT else known - 1
    truth = float(np.mean(right))
    assert 0.2 < truth < 0.3
    assert abs(float(np.mean(seen)) - truth) < 3.0 * math.sqrt(truth * (1.0 - truth) / len(seen))


def test_partitions_audit_different_events() -> None:
    """The coin knows the coordinates: events that arrive side by side are not audited side by side."""
    budget = Budget(Fraction("0.1"), Fraction("0.5"), burst=20)
    lanes = [Partition(budget, Never(), p, 2).step([0.5] * 2_000) for p in (0, 1)]
    assert [decision.lane for decision in lanes[0]] != [decision.lane for decision in lanes[1]]


def test_the_strategy_lane_closes_by_degrees() -> None:
    """Who would ask for everything comes to rest at what the bucket gains, not at all or nothing: p stays near B."""
    budget = Budget(Fraction("0.1"), Fraction("0.3"), burst=20)
    odds = np.array([decision.propensity for decision in Partition(budget, Always()).step([1.0] * 20_000)[1_000:]])
    assert float(np.mean(odds)) == pytest.approx(0.1, abs=0.005)
    assert float(np.mean(1.0 / odds[odds > 0.0])) < 20.0  # 32 where it is shut for want of one token


@pytest.mark.parametrize("left", [0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0])
def test_the_strategy_lane_is_open_by_twice_what_is_left(left: float) -> None:
    """From the reserve on (0 left) the odds rise in a straight line to 1 at half of the bucket, and stay there."""
    budget = Budget(Fraction("0.1"), Fraction("0.3"), burst=43)
    part = budget.partition_budget(0, 1)
    tokens = part.reserve + round(left * (part.capacity - part.reserve)) - part.gain  # an event earns its gain first
    sampler = Sampler(part, Always(), EventCoins(7), BudgetCounters(0, tokens, 0, 0), None, 0.0)
    epsilon = 1.0 / part.audit_every
    openness = min(1.0, 2.0 * left)
    assert sampler.decide(0, 1.0).propensity == pytest.approx(1.0 - (1.0 - epsilon) * (1.0 - openness), abs=1e-3)


def test_the_extremes_of_the_audit_share() -> None:
    """0: no audit lane at all. 1: nothing but audits, however eager the strategy."""
    none = Partition(Budget(Fraction("0.1"), Fraction(0), 20), Always()).step([1.0] * 2_000)
    assert {decision.lane for decision in none} == {None, Lane.STRATEGY}
    assert any(decision.propensity == 0.0 for decision in none)
    only = Partition(Budget(Fraction("0.1"), Fraction(1), 20), Always()).step([1.0] * 2_000)
    assert {decision.lane for decision in only} == {None, Lane.AUDIT}
    assert 150 < asked(only) <= 220


def test_propensity_is_that_of_both_lanes() -> None:
    """1 - (1 - ε)(1 - s), asked or not; an event that both lanes chose is paid for once."""
    budget = Budget(Fraction("0.5"), Fraction("0.5"), burst=100)
    half = Random(0.4)
    decisions = Partition(budget, half).step([0.5] * 50)
    assert {decision.propensity for decision in decisions} == {1.0 - 0.75 * 0.6}
    both = Partition(budget, Always())
    decisions = both.step([1.0] * 8)
    state = decode_state(both.metadata, PartitionState)
    assert state is not None
    assert state.counters is not None
    assert state.counters.audit > 0
    assert state.counters.audit + state.counters.strategy == 8
    price = both.partition_budget.price  # eight were paid, and the first event could not be saved: the bucket was full
    assert state.counters.tokens == both.partition_budget.capacity + 7 * both.partition_budget.gain - 8 * price


@pytest.mark.parametrize(("burst", "per_hour"), [(1_000, None), (6, None), (1, None), (1_000, 5)])
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_propensity_is_how_often_an_event_is_asked(name: str, burst: int, per_hour: int | None) -> None:
    """Over many seeds of the same stream, as often as its prediction says (within 4.5 σ for every event).

    With a small burst, or a cap, the lanes are open by degrees, or shut: for each seed at other events.
    """
    budget = Budget(Fraction("0.2"), Fraction("0.3"), burst, per_hour)
    partition_budget, strategy = budget.partition_budget(0, 1), strategy_of(name, budget)
    us = np.random.default_rng(5).beta(1.0, 3.0, 40).tolist()
    requested, expected, variance = np.zeros(40), np.zeros(40), np.zeros(40)
    for seed in range(1_500):
        sampler = Sampler(partition_budget, strategy, EventCoins(seed), None, None, 0.0)
        decisions = [sampler.decide(i, u) for i, u in enumerate(us)]
        p = np.array([decision.propensity for decision in decisions])
        requested += [decision.lane is not None for decision in decisions]
        expected += p
        variance += p * (1.0 - p)
    assert float(np.max(np.abs(requested - expected) / np.sqrt(variance + 1e-9))) < 4.5


# Absolute caps.


@given(
    st.integers(1, 6),
    audit_shares,
    names,
    st.lists(st.tuples(st.floats(0.0, 20_000.0), st.integers(0, 40)), max_size=12),
)
def test_no_clock_hour_exceeds_its_cap(
    per_hour: int, audit_share: Fraction, name: str, steps: list[tuple[float, int]]
) -> None:
    """However the clock jumps, forwards or back: at most ``per_hour`` requests in each hour that it ever showed."""
    budget = Budget(Fraction(1, 2), audit_share, 1_000, per_hour)
    partition = Partition(budget, strategy_of(name, budget))
    spent: Counter[int] = Counter()
    latest = 0
    for now, events in steps:
        latest = max(latest, int(now // 3600))  # the counters remember the latest hour, if the caller's clock forgets
        spent[latest] += asked(partition.step([1.0] * events, now))
        assert spent[latest] <= per_hour


def test_a_new_hour_opens_the_lanes_again() -> None:
    """At the cap everything is closed and propensities are 0; the next clock hour starts from nothing."""
    budget = Budget(Fraction(1), Fraction("0.5"), 1_000, per_hour=10)
    partition = Partition(budget, Always())
    first = partition.step([1.0] * 100, now=3_599.9)
    assert asked(first) == 10
    assert first[-1] == Decision(0.0, None)
    assert asked(partition.step([1.0] * 100, now=10.0)) == 0
    assert asked(partition.step([1.0] * 100, now=3_600.0)) == 10


def test_a_new_day_opens_the_lanes_again() -> None:
    """At the cap of a calendar day everything is closed, in its later hours too; the next day starts from nothing."""
    budget = Budget(Fraction(1), Fraction("0.5"), 1_000, per_day=10)
    partition = Partition(budget, Always())
    assert asked(partition.step([1.0] * 100, now=0.0)) == 10
    assert asked(partition.step([1.0] * 100, now=86_399.0)) == 0
    assert asked(partition.step([1.0] * 100, now=86_400.0)) == 10


def test_the_hour_keeps_room_for_the_audit() -> None:
    """The strategy may not spend the audit's part of the cap: its events come later in the hour."""
    budget = Budget(Fraction("0.5"), Fraction("0.2"), 1_000, per_hour=10)
    lanes = Counter(decision.lane for decision in Partition(budget, Always()).step([1.0] * 100))
    assert lanes[Lane.AUDIT] + lanes[Lane.STRATEGY] == 10
    assert lanes[Lane.AUDIT] >= 2


@given(
    st.integers(2, 12),
    audit_shares,
    names,
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.integers(0, 9)), max_size=12),
)
def test_open_requests_never_exceed_their_bound(
    open_max: int, audit_share: Fraction, name: str, steps: list[tuple[int, int, int]]
) -> None:
    """F27: answered or not, at any moment; what is kept for the audit lane the strategy never takes."""
    budget = Budget(Fraction(1, 2), audit_share, 1_000, open_max=open_max)
    partition = Partition(budget, strategy_of(name, budget))
    for events, audits_closed, others_closed in steps:
        partition.open[Lane.AUDIT] -= min(partition.open[Lane.AUDIT], audits_closed)
        partition.open[Lane.STRATEGY] -= min(partition.open[Lane.STRATEGY], others_closed)
        partition.step([1.0] * events)
        assert partition.open.total() <= open_max
        assert partition.open[Lane.STRATEGY] <= partition.partition_budget.open.strategy


def test_the_audit_finds_an_open_slot() -> None:
    """With silent annotators the strategy fills its part and stops; the audit lane goes on until its own is full."""
    budget = Budget(Fraction("0.5"), Fraction("0.2"), 1_000, open_max=10)
    partition = Partition(budget, Always())
    decisions = partition.step([1.0] * 200)
    lanes = Counter(decision.lane for decision in decisions)
    assert lanes[Lane.AUDIT] + lanes[Lane.STRATEGY] == 10
    assert lanes[Lane.AUDIT] >= 2
    assert decisions[-1] == Decision(0.0, None)


@given(st.integers(1, 10_000), st.integers(1, 50))
def test_divided_caps_sum_to_the_cap(cap: int, partitions: int) -> None:
    """No partition has more than one above another, and nothing is lost or made up."""
    parts = [divide(cap, partition, partitions) for partition in range(partitions)]
    assert sum(parts) == cap
    assert max(parts) - min(parts) <= 1


def test_the_audits_part_of_a_cap_is_rounded_up_and_that_of_the_open_requests_down() -> None:
    """Half of 5: of an hour's requests the audit lane keeps 3, of the open ones it keeps 2."""
    part = Budget(Fraction("0.5"), Fraction("0.5"), 20, per_hour=5, open_max=5).partition_budget(0, 1)
    assert (part.open, part.requests[0]) == ((5, 3), (5, 2))


@given(budgets, st.integers(1, 8), st.integers(0, 100), st.integers(0, 100))
def test_the_parts_of_the_budget_sum_to_the_budget(budget: Budget, partitions: int, more: int, per_hour: int) -> None:
    """Burst, open requests and hourly cap are divided among the partitions; shares hold in each."""
    total = Budget(budget.share, budget.audit_share, partitions + more, partitions + per_hour, 2 * partitions + more)
    parts: list[PartitionBudget] = [total.partition_budget(partition, partitions) for partition in range(partitions)]
    starts = sum(Fraction(part.start, part.price) for part in parts)
    assert starts == total.burst
    assert sum(part.open.total for part in parts) == total.open_max
    assert sum(cap.total for part in parts if (cap := part.requests[0])) == total.per_hour
    for part in parts:
        assert Fraction(part.gain, part.price) == total.share
        assert 0 <= part.reserve <= part.capacity
        assert all(0 <= cap.strategy <= cap.total for cap in (part.open, *part.requests) if cap is not None)


def test_no_cap_is_no_cap() -> None:
    """Without any both lanes are bounded by the share alone."""
    part = Budget(Fraction("0.1"), Fraction("0.3"), 20).partition_budget(0, 1)
    assert (*part.requests, *part.money) == (None,) * 5


def test_tokens_beyond_64_bits_survive_the_metadata() -> None:
    """A share of 16 digits has a denominator of as many: counting stays exact beyond 2^64."""
    budget = Budget(Fraction("0.3333333333333333"), Fraction("0.3"), burst=1_000_000)
    partition = Partition(budget, Always())
    partition.step([1.0] * 10)
    state = decode_state(partition.metadata, PartitionState)
    assert state is not None
    assert state.counters is not None
    assert state.counters.tokens > 2**64


def test_a_closed_lane_does_not_move_the_threshold() -> None:
    """What the strategy would have said while it was not asked teaches it nothing."""
    budget = Budget(Fraction("0.1"), Fraction(0), burst=1)
    strategy = strategy_of("variable", budget)
    sampler = Sampler(budget.partition_budget(0, 1), strategy, EventCoins(7), BudgetCounters(0, 0, 0, 0), None, 0.0)
    before: State = sampler.state
    sampler.decide(0, 1.0)
    assert sampler.state == before
    assert sampler.counters[:4] == (1, 1, 0, 0)
