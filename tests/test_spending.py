"""Money: reserved when a label is asked, settled when its request is closed, within every cap at every moment (I2).

The attack below is on the whole of it: scores, prices, delays, abstentions, expiries, clocks, lost steps, workers that
know less than others, and partitions that share one cap.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamal.bootstrap import build
from streamal.config import load_config
from streamal.core.budget.counters import BudgetCounters, BudgetTerms
from streamal.core.budget.money import Prices, Settlements, micros, windows
from streamal.core.budget.sampler import Budget, OpenRequests, Sampler, divide
from streamal.core.coins import EventCoins
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import Abstention, Closing, Example, Expiry, Lane, Request
from streamal.core.state import PartitionState, decode_state, encode_state
from streamal.core.strategies import STRATEGIES, SamplingRules, Strategy, build_strategy
from streamal.core.strategies.base import STRATEGY_STATE_BYTES_MAX, State
from tests.making import make_request

UTC = dt.UTC
HOUR, DAY = 3_600.0, 86_400.0
FOREVER = 1e18


class Always:
    """The greediest strategy there is."""

    def initial(self) -> State:
        return ()

    def propensity(self, uncertainty: float, state: State) -> float:
        return 1.0

    def update(self, uncertainty: float, asked: float, state: State) -> State:
        return state


@dataclass
class Bank:
    """What truly happened: every request that was committed and every closing, which the program has to live up to."""

    budget: Budget
    partitions: int
    strategy: Strategy
    states: dict[int, str] = field(default_factory=lambda: defaultdict(str))
    accepted: Counter[int] = field(default_factory=Counter)
    requests: dict[str, Request] = field(default_factory=dict)
    training: list[Closing] = field(default_factory=list)

    @property
    def open(self) -> list[Request]:
        closed = {record.request for record in self.training}
        return [request for name, request in self.requests.items() if name not in closed]

    def step(self, partition: int, scores: list[float], clock: float, lag: int, committed: bool) -> list[Lane | None]:
        """Let a worker that has folded all but the last *lag* closings take a step; lost if not *committed*."""
        state = decode_state(self.states[partition], PartitionState) or PartitionState()
        version = max(state.version, len(self.training) - lag)
        settlements, closed = Settlements(), Counter[tuple[str, Lane]]()
        for record in self.training[:version]:
            settlements.fold(record)
            closed[record.request.partition("-")[0], record.lane] += 1
        now = max(clock, state.now)
        counters = state.counters or BudgetCounters(0, 0, 0, 0)
        sampler = Sampler(
            self.budget.partition_budget(partition, self.partitions),
            self.strategy,
            EventCoins(7, partition),
            state.counters,
            state.strategy,
            now,
            OpenRequests(
                counters.audit - closed[str(partition), Lane.AUDIT],
                counters.strategy - closed[str(partition), Lane.STRATEGY],
            ),
            settlements.refunds(partition),
        )
        first = self.accepted[partition]
        decisions = [sampler.decide(first + i, u, {"rare": u, "a": 1 - u}) for i, u in enumerate(scores)]
        if committed:
            self.states[partition] = encode_state(PartitionState(version, now, sampler.counters, sampler.state))
            self.accepted[partition] += len(scores)
            for i, decision in enumerate(decisions):
                if decision.lane is not None:
                    request = make_request(first + i, partition=partition, lane=decision.lane, asked_at=now)
                    request = _at_price(request, self.budget.prices.reserved)
                    self.requests[request.request] = request
        return [decision.lane for decision in decisions]

    def close(self, request: Request, how: str, seconds: float | None, now: float) -> None:
        prices = self.budget.prices
        same: dict[str, Any] = {
            "request": request.request,
            "propensity": 0.5,
            "lane": request.lane,
            "asked_at": request.asked_at,
            "at": now,
            "reserved": request.reserved,
        }
        if how == "expiry":
            self.training.append(Expiry(**same, cost=prices.cost_of_expiry(request)))
        elif how == "abstention":
            self.training.append(Abstention(**same, cost=prices.cost_of_reply(request, None, seconds)))
        else:
            cost = prices.cost_of_reply(request, "a", seconds)
            self.training.append(Example(**same, label="a", features={}, predicted=None, seconds=seconds, cost=cost))

    def check(self) -> None:
        """Each cap holds in every window there was, in each partition and over all of them."""
        costs = {record.request: record.cost for record in self.training}
        spent: Counter[tuple[int, str, Any]] = Counter()
        asked: Counter[tuple[int, str, Any]] = Counter()
        own: Counter[tuple[int, str, Any]] = Counter()
        for name, request in self.requests.items():
            partition = int(name.split("-")[0])
            assert 0 <= costs.get(name, 0) <= request.reserved
            for window in calendar(request.asked_at):
                cost = costs.get(name, request.reserved)
                spent[partition, *window] += cost
                own[partition, *window] += cost * (request.lane is Lane.STRATEGY)
                asked[partition, *window] += 1
        caps = dict(zip(("hour", "day", "month"), self.budget.money, strict=True))
        counts = {"hour": self.budget.per_hour, "day": self.budget.per_day, "month": None}
        for found, most in ((spent, caps), (asked, counts)):
            total: Counter[tuple[str, Any]] = Counter()
            for (partition, kind, window), amount in found.items():
                cap = most[kind]
                total[kind, window] += amount
                if cap is not None:
                    assert amount <= divide(cap, partition, self.partitions), (partition, kind, window)
                    assert total[kind, window] <= cap
        for partition, events in self.accepted.items():
            requests = sum(name.startswith(f"{partition}-") for name in self.requests)
            burst = divide(self.budget.burst, partition, self.partitions)
            assert requests <= self.budget.share * events + burst
        assert len(self.open) <= self.budget.open_max
        for (partition, kind, _), amount in own.items():
            part = self.budget.partition_budget(partition, self.partitions).money[("hour", "day", "month").index(kind)]
            assert part is None or amount <= part.strategy, "the strategy has spent what was kept for the audit lane"


def _at_price(request: Request, reserved: int) -> Request:
    return Request(**{name: getattr(request, name) for name in request.__struct_fields__} | {"reserved": reserved})


def calendar(at: float) -> Iterator[tuple[str, Any]]:
    """Yield the hour, day and month of *at* by the standard library's calendar."""
    when = dt.datetime.fromtimestamp(at, UTC)
    yield "hour", (when.date(), when.hour)
    yield "day", when.date()
    yield "month", (when.year, when.month)


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    """Return a budget whose caps are a few labels each, so that any of them may be the one that binds."""
    prices = Prices(
        per_label=draw(st.sampled_from([0, 1, 80_000])),
        per_hour=draw(st.sampled_from([0, 7, 36_000_000])),
        seconds_max=draw(st.sampled_from([1, 60, 300])),
        refund_expired=draw(st.booleans()),
        refund_abstained=draw(st.booleans()),
    )
    few = st.none() | st.none() | st.integers(3, 20)
    labels = draw(st.tuples(few, few, few))
    spare = draw(st.sampled_from([0, 1, prices.reserved // 2]))
    return Budget(
        share=draw(st.sampled_from([Fraction(1), Fraction(1), Fraction(1, 2), Fraction(1, 7)])),
        audit_share=draw(st.sampled_from([Fraction(0), Fraction(3, 10), Fraction(1)])),
        burst=draw(st.sampled_from([3, 20, 1_000])),
        per_hour=draw(few),
        open_max=draw(st.sampled_from([6, 10_000, 10_000, 10_000])),
        per_day=draw(few),
        money=tuple(None if n is None else n * prices.reserved + spare for n in labels),
        prices=prices,
        quotas=draw(st.sampled_from([(), (("rare", Fraction(1, 5)),), (("a", Fraction(1, 3)), ("b", Fraction(1, 2)))])),
    )


moves = st.sampled_from([0.0, 1.0, -1.0, 1_800.0, HOUR, -HOUR, DAY, -DAY, 31 * DAY, -400 * DAY])
steps = st.tuples(
    st.just("step"), st.integers(0, 2), st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0]), max_size=30), moves,
    st.integers(0, 9), st.sampled_from([True, True, True, False]),
)  # fmt: skip
closes = st.tuples(
    st.just("close"), st.integers(0, 99), st.sampled_from(["example", "example", "abstention", "expiry"]),
    st.none() | st.sampled_from([0.0, 0.1, 59.9, 1e9]), st.just(0), st.just(True),
)  # fmt: skip


@pytest.mark.parametrize("stories", [120, pytest.param(400, marks=pytest.mark.slow)])
def test_no_attack_breaks_a_cap(stories: int) -> None:
    """Every cap on requests and money, in every prefix, window and partition, whatever happens in whatever order."""
    settings(max_examples=stories, deadline=None)(attack)()


@given(
    budgets(),
    st.integers(1, 3),
    st.sampled_from(["always", "always", *STRATEGIES]),
    st.lists(steps | closes, min_size=5, max_size=25),
)
def attack(budget: Budget, partitions: int, name: str, story: list[Any]) -> None:
    known = SamplingRules(name, rate=float(budget.rate), share=float(budget.share))
    bank = Bank(budget, partitions, Always() if name == "always" else build_strategy(known))
    clock = 1.7e9
    for do, number, what, how, lag, committed in story:
        if do == "step":
            clock += how
            bank.step(number % partitions, what, clock, lag, committed)
        elif bank.open:
            bank.close(bank.open[number % len(bank.open)], what, how, clock)
        bank.check()


# Settlement.

WAGE = Budget(
    share=Fraction(1),
    audit_share=Fraction(0),
    burst=1_000,
    money=(None, micros(Decimal(6)), None),
    prices=Prices(per_hour=micros(Decimal(36)), seconds_max=100),
)
"""36 an hour, at most 100 s, so 1.00 is reserved for each label; 6.00 a day."""


def test_what_a_reply_did_not_need_buys_more_labels() -> None:
    """Six are asked at the maximum; after replies of ten seconds (0.10 each) five more can be paid, and no sixth."""
    bank = Bank(WAGE, 1, Always())
    assert bank.step(0, [1.0] * 20, 0.0, 0, True).count(Lane.STRATEGY) == 6
    assert bank.step(0, [1.0] * 20, 1.0, 0, True).count(Lane.STRATEGY) == 0
    for request in bank.open:
        bank.close(request, "example", 10.0, 2.0)
    assert bank.step(0, [1.0] * 20, 3.0, 0, True).count(Lane.STRATEGY) == 5
    bank.check()


@pytest.mark.parametrize("lag", range(7))
def test_a_fold_that_lags_asks_less(lag: int) -> None:
    """Of six refunds of 0.90, those that were not folded yet are taken for spent."""
    bank = Bank(WAGE, 1, Always())
    bank.step(0, [1.0] * 6, 0.0, 0, True)
    for request in bank.open:
        bank.close(request, "example", 10.0, 2.0)
    assert bank.step(0, [1.0] * 20, 3.0, lag, True).count(Lane.STRATEGY) == (6 - lag) * 9 // 10


def test_a_label_belongs_to_the_day_on_which_it_was_asked() -> None:
    """A reply of the next day gives nothing back to the next day, whose cap was not touched."""
    bank = Bank(WAGE, 1, Always())
    bank.step(0, [1.0] * 20, DAY - 1.0, 0, True)
    for request in bank.open:
        bank.close(request, "example", 10.0, DAY + 1.0)
    assert bank.step(0, [1.0] * 20, DAY + 2.0, 0, True).count(Lane.STRATEGY) == 6
    assert bank.step(0, [1.0] * 20, DAY + 3.0, 0, True).count(Lane.STRATEGY) == 0
    bank.check()


@pytest.mark.parametrize(
    ("label", "seconds", "cost"),
    [
        ("a", 10.0, 0.15),
        ("a", 0.0, 0.05),
        ("a", 100.0, 1.05),
        ("a", 5_000.0, 1.05),
        ("a", None, 1.05),
        (None, 10.0, 0.15),
    ],
)
def test_an_answer_costs_its_work_and_at_most_the_maximum(
    label: str | None, seconds: float | None, cost: float
) -> None:
    """Seconds are paid up to the maximum; an answer that does not tell them costs it, and so does an abstention."""
    known = Prices(per_label=50_000, per_hour=36_000_000, seconds_max=100)
    request = _at_price(make_request(0), known.reserved)
    assert known.cost_of_reply(request, label, seconds) == round(cost * 1_000_000)


def test_paid_seconds_are_capped_whatever_was_reserved() -> None:
    """Asked at a higher price, more is reserved than the maximum costs now: still no more seconds are paid."""
    request = _at_price(make_request(0), 10_000_000)
    known = Prices(per_label=50_000, per_hour=36_000_000, seconds_max=100)
    assert known.cost_of_reply(request, "a", 5_000.0) == known.cost_of_reply(request, "a", 100.0) == 1_050_000


def test_a_third_of_a_micro_unit_is_rounded_up() -> None:
    """Exact fractions, never less than the true price: a second at 1.00 an hour is 0.000278."""
    known = Prices(per_hour=1_000_000, seconds_max=10)
    assert known.cost_of_reply(_at_price(make_request(0), known.reserved), "a", 1.0) == 278
    assert known.reserved == 2_778


def test_a_raise_of_prices_changes_no_bill() -> None:
    """Asked at 0.05, answered after the price went up: it costs the 0.05 that were reserved for it."""
    request = _at_price(make_request(0), 50_000)
    assert Prices(per_label=90_000).cost_of_reply(request, "a", None) == 50_000
    assert Prices(per_label=20_000).cost_of_reply(request, "a", None) == 20_000


def test_t6_nothing_is_refunded_silently() -> None:
    """T6: an expiry gives back money if it is configured so, and never a token, a count or a place in an hour."""
    for refunded in (True, False):
        budget = replace(WAGE, burst=12, share=Fraction(1, 100), per_day=12)
        budget = replace(budget, prices=replace(budget.prices, refund_expired=refunded), money=(None, 3_000_000, None))
        bank = Bank(budget, 1, Always())
        asked = 0
        for _ in range(10):
            asked += bank.step(0, [1.0] * 5, 0.0, 0, True).count(Lane.STRATEGY)
            for request in bank.open:
                bank.close(request, "expiry", None, 1.0)
        assert asked == (12 if refunded else 3), "12 tokens and never one more; or three labels' money, all of it gone"
        state = decode_state(bank.states[0], PartitionState)
        assert state is not None
        assert state.counters is not None
        assert state.counters.strategy == state.counters.day_strategy == asked
        bank.check()


def test_t6_an_abstention_is_paid_unless_configured_otherwise() -> None:
    """T6: who cannot tell has worked; what is not charged is not charged because somebody wrote so."""
    request = _at_price(make_request(0), 80_000)
    assert Prices(per_label=80_000).cost_of_reply(request, None, None) == 80_000
    assert Prices(per_label=80_000, refund_abstained=True).cost_of_reply(request, None, None) == 0
    assert Prices(per_label=80_000).cost_of_expiry(request) == 0
    assert Prices(per_label=80_000, refund_expired=False).cost_of_expiry(request) == 80_000


# Windows.


@given(st.integers(-(10**6), 10**7))
def test_windows_are_those_of_the_calendar(hour: int) -> None:
    """Two hours are in the same window exactly if the standard library says so, and windows never go back."""
    epoch = dt.datetime(1970, 1, 1, tzinfo=UTC)
    one, two = (epoch + dt.timedelta(hours=each) for each in (hour, hour + 1))
    now, then = windows(hour), windows(hour + 1)
    assert (now[1] == then[1], now[2] == then[2]) == (one.date() == two.date(), one.month == two.month)
    assert now <= then
    assert then[2] - now[2] == (one.month != two.month)


def test_a_new_month_opens_the_lanes_again() -> None:
    """A cap of a month is used up on its first day, and there again on the first day of the next."""
    budget = replace(WAGE, money=(None, None, 6_000_000))
    bank = Bank(budget, 1, Always())
    march = dt.datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    asked = [bank.step(0, [1.0] * 20, march + day * DAY, 0, True).count(Lane.STRATEGY) for day in range(32)]
    assert asked == [6, *[0] * 30, 6]


def test_every_cap_keeps_room_for_the_audit() -> None:
    """Whichever cap is reached first, the strategy has taken its part and the audit lane goes on asking."""
    base = Budget(Fraction("0.5"), Fraction("0.2"), 1_000, prices=Prices(per_label=1_000_000))
    for budget in (
        replace(base, per_day=10),
        replace(base, money=(10_000_000, None, None)),
        replace(base, money=(None, 10_000_000, None)),
        replace(base, money=(None, None, 10_000_000)),
        replace(base, open_max=10),
    ):
        lanes = Counter(Bank(budget, 1, Always()).step(0, [1.0] * 200, 0.0, 0, True))
        assert lanes[Lane.AUDIT] + lanes[Lane.STRATEGY] == 10, budget
        assert lanes[Lane.AUDIT] >= 2, budget
    poor = replace(base, money=(None, 3_999_999, None))
    lanes = Counter(Bank(poor, 1, Always()).step(0, [1.0] * 200, 0.0, 0, True))
    assert lanes[Lane.AUDIT] + lanes[Lane.STRATEGY] == 3
    assert lanes[Lane.AUDIT] >= 1, "at least one label's money is the audit's"


@given(budgets(), st.integers(1, 8))
def test_the_parts_of_the_money_sum_to_the_cap(budget: Budget, partitions: int) -> None:
    """To the last micro-unit, and no partition is without."""
    for i, cap in enumerate(budget.money):
        parts = [budget.partition_budget(partition, partitions).money[i] for partition in range(partitions)]
        assert (cap is None and parts == [None] * partitions) or sum(part.total for part in parts if part) == cap


# What is in the commit metadata.


def full_ledger() -> BudgetCounters:
    """Return the counters after 10^12 events, with every cap and four quotas and money up to a billion a month."""
    share = Fraction("0.123456789")
    budget = Budget(
        share=share,
        audit_share=Fraction("0.3"),
        burst=1_000,
        per_hour=10**6,
        per_day=10**7,
        money=(10**13, 10**14, 10**15),
        prices=Prices(per_label=80_000),
        quotas=tuple((name, Fraction("0.05")) for name in "abcd"),
    )
    partition_budget = budget.partition_budget(0, 1)
    return BudgetCounters(
        accepted=10**12,
        tokens=partition_budget.capacity,
        audit=3 * 10**10,
        strategy=7 * 10**10,
        hour=10**6,
        hour_audit=3 * 10**5,
        hour_strategy=7 * 10**5,
        day_audit=3 * 10**6,
        day_strategy=7 * 10**6,
        reserved=(3 * 10**12, 7 * 10**12, 3 * 10**13, 7 * 10**13, 3 * 10**14, 7 * 10**14),
        quota_tokens=tuple(quota.capacity for quota in partition_budget.quotas),
        terms=BudgetTerms.at_first(partition_budget)._replace(accepted=10**12, requests=10**11),
    )


def test_the_ledger_stays_small() -> None:
    """350 bytes at most, whatever is counted."""
    full = full_ledger()
    text = encode_state(PartitionState(2**53, 1e9 / 7, full, ()))
    assert len(text) - len(encode_state(PartitionState(2**53, 1e9 / 7, None, ()))) + len("null") <= 350
    state = decode_state(text, PartitionState)
    assert state is not None
    assert state.counters == full


def test_the_largest_state_fits() -> None:
    """F16: full counters, a strategy's state of all it may take, and the counts of 10^12 events, all at once."""
    strategy = ("x" * (STRATEGY_STATE_BYTES_MAX - 4),)
    assert len(msgspec.json.encode(strategy)) == STRATEGY_STATE_BYTES_MAX
    seen = RunningTotals(events=10**12, confidence=10**18, never_askable=10**12)
    assert len(msgspec.json.encode(seen)) <= 60
    largest = PartitionState(2**53, 1e9 / 7, full_ledger(), strategy, unasked=10**12, asked_at=2**31, seen=seen)
    assert decode_state(encode_state(largest), PartitionState) == largest


def test_the_metadata_of_the_version_before_are_read() -> None:
    """Counters without days, money and quotas go on where they were."""
    state = decode_state("[3,7.0,[100,5,3,4,0,1,2],null]", PartitionState)
    assert state is not None
    assert state.counters == BudgetCounters(100, 5, 3, 4, 0, 1, 2)


# Quotas.


def rare(budget: Budget, probability: float, every: int, events: int) -> tuple[int, int]:
    """Return how many of the rare events, and of all events, are asked by a strategy that never asks."""
    never = build_strategy(SamplingRules("random", rate=0.0))
    sampler = Sampler(budget.partition_budget(0, 1), never, EventCoins(7), None, None, 0.0)
    asked = [0, 0]
    for i in range(events):
        p = probability if i % every == 0 else 0.0
        lane = sampler.decide(i, 0.0, {"rare": p, "other": 1.0 - p}).lane
        asked[0] += lane is not None and i % every == 0
        asked[1] += lane is not None
    return asked[0], asked[1]


def test_a_quota_is_spent_on_its_class() -> None:
    """Where nobody else asks, a rare class is asked about as often as its quota allows, and no other is."""
    budget = Budget(Fraction("0.1"), Fraction(0), 20, quotas=(("rare", Fraction("0.2")),))
    found, asked = rare(budget, 1.0, 10, 10_000)
    assert asked == found
    assert 200 <= found <= 200 + 20
    found, asked = rare(budget, 1.0, 1_000, 10_000)
    assert found == asked == 10, "a class this rare is asked about every time"


def test_a_quota_does_not_cost_the_others_anything() -> None:
    """A greedy strategy gets all that a class leaves over, and the whole is no more than it was."""
    budget = Budget(Fraction("0.1"), Fraction(0), 20, quotas=(("rare", Fraction("0.5")),))
    sampler = Sampler(budget.partition_budget(0, 1), Always(), EventCoins(7), None, None, 0.0)
    lanes = [sampler.decide(i, 1.0, {"other": 1.0}).lane for i in range(10_000)]
    assert 1_000 <= sum(lane is not None for lane in lanes) <= 1_020
    assert sampler.decide(10_000, 0.0, {"rare": 1.0}).lane is Lane.STRATEGY, "what is kept is kept all the same"


@pytest.mark.parametrize("burst", [100, 12, 3])
def test_the_propensity_counts_the_quotas_in(burst: int) -> None:
    """Over many seeds, each event is asked as often as its prediction says, by whichever of the three it was."""
    quotas = (("a", Fraction("0.3")), ("b", Fraction("0.3")))
    budget = Budget(Fraction("0.5"), Fraction("0.3"), burst, quotas=quotas)
    strategy = build_strategy(SamplingRules("random", rate=0.2))
    likely = [{"a": 0.3, "b": 0.1 * (i % 4), "c": 0.4} for i in range(40)]
    requested, expected, variance = [0.0] * 40, [0.0] * 40, [0.0] * 40
    for seed in range(1_500):
        sampler = Sampler(budget.partition_budget(0, 1), strategy, EventCoins(seed), None, None, 0.0)
        for i, probabilities in enumerate(likely):
            decision = sampler.decide(i, 0.5, probabilities)
            requested[i] += decision.lane is not None
            expected[i] += decision.propensity
            variance[i] += decision.propensity * (1.0 - decision.propensity)
    for asked, p, v in zip(requested, expected, variance, strict=True):
        assert abs(asked - p) < 4.5 * v**0.5
    assert burst < 100 or expected[1] > 1_500 * (1 - 6 / 7 * 0.8), "more than the two lanes alone"


def test_other_quotas_lose_no_tokens() -> None:
    """Whoever changes the quotas finds what was saved in the common purse."""
    one = Budget(Fraction("0.1"), Fraction(0), 20, quotas=(("rare", Fraction("0.2")),))
    before = Sampler(one.partition_budget(0, 1), Always(), EventCoins(7), None, None, 0.0)
    before.decide(0, 0.0, {"rare": 1.0})
    assert before.counters.quota_tokens[0] > 0
    with_quota, common = one.partition_budget(0, 1), replace(one, quotas=()).partition_budget(0, 1)
    after = Sampler(common, Always(), EventCoins(7), before.counters, (), 0.0)
    saved = before.counters.tokens + before.counters.quota_tokens[0]
    assert after.counters.tokens == saved * common.price // with_quota.price
    assert after.counters.quota_tokens == ()


# From the configuration.


def test_a_budget_as_it_is_written_is_a_budget_to_the_micro_unit() -> None:
    """25.00 a day at 0.08 a label, to be divided; what cannot be paid from a part is refused at the start."""
    written = ["budget.cost_per_label=0.08", "budget.cost_per_day=25.0", "budget.cost_per_month=500"]
    budget = build(load_config(overrides=written)).budget
    assert budget.money == (None, 25_000_000, 500_000_000)
    assert budget.prices.reserved == 80_000
    assert [budget.partition_budget(p, 3).money[1] for p in range(3)] == [
        (8_333_334, 5_833_333),
        (8_333_333, 5_833_333),
        (8_333_333, 5_833_333),
    ]
