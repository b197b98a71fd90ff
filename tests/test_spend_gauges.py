"""From the reply to the spend: what a label cost stands in the log, and the gauges are its sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest

from streamal.core.budget.money import Prices
from streamal.core.budget.sampler import Budget
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.gauges.declaration import Value, Worker
from streamal.core.gauges.gauges import gauges
from streamal.core.gauges.spend import SPEND
from streamal.core.records import Abstention, Example, Expiry, OffsetAndMetadata, Request, TopicPartition
from streamal.core.rules import Rules
from tests.making import World, event_record, make_fold, make_rules, reply_record

BUDGET = Budget(
    share=Fraction(1),
    audit_share=Fraction(1),
    burst=10,
    per_hour=50,
    per_day=60,
    money=(None, 12_000_000, None),
    prices=Prices(per_label=500_000, per_hour=36_000_000, seconds_max=50),
)
"""0.50 a label and 36 an hour of work, at most 50 s: 1.00 is reserved."""


def rules_of(budget: Budget, partitions: int = 1) -> Rules:
    budgets = tuple(budget.partition_budget(partition, partitions) for partition in range(partitions))
    return replace(make_rules(partitions=partitions), budgets=budgets, prices=budget.prices)


def spend(world: World, committed: Mapping[TopicPartition, OffsetAndMetadata], now: float) -> Mapping[str, Value]:
    return gauges(Worker(world.rules, world.fold, committed, now), SPEND)


def test_the_log_says_what_a_label_cost() -> None:
    """The request what is reserved; example, abstention and expiry the same and what it came to."""
    world = World(rules_of(BUDGET), make_fold(kinds={"x": "number"}))
    world.run([event_record(n) for n in range(4)], 0.0)
    requests = [decode_request(output.value or b"") for output in world.written["requests"]]
    assert [request.reserved for request in requests if isinstance(request, Request)] == [1_000_000] * 4
    replies = [
        reply_record(0, "0-0", "a", seconds=12.5),
        reply_record(1, "0-1", None, seconds=1),
        reply_record(2, "0-2", "b"),
        reply_record(3, "0-0", "a", seconds=50),
        reply_record(4, "0-0", "b", seconds=50),
    ]
    world.run(replies, 1.0)
    world.run([], 200.0)
    world.run([reply_record(5, "0-3", "a", seconds=50)], 300.0)
    closed = [decode_training(output.value) for output in world.written["training"]]
    assert [
        (type(each), each.reserved, each.cost) for each in closed if isinstance(each, Example | Abstention | Expiry)
    ] == [
        (Example, 1_000_000, 625_000),
        (Abstention, 1_000_000, 510_000),
        (Example, 1_000_000, 1_000_000),
        (Expiry, 1_000_000, 0),
    ], "and what came twice, otherwise or late is not paid"


def test_a_price_of_nothing_leaves_no_trace() -> None:
    """Where labels cost nothing, no record says a word of money."""
    world = World(make_rules(share="1", audit_share="1"), make_fold(kinds={"x": "number"}))
    world.run([event_record(0)], 0.0)
    world.run([reply_record(0, "0-0", "a", seconds=12.5)], 1.0)
    for topic in ("requests", "training"):
        assert not any(
            word in (output.value or b"") for output in world.written[topic] for word in (b"reserved", b"cost")
        )


def test_the_gauges_of_the_spend() -> None:
    """Spend is settled and reserved; what is left of each cap is a figure, of one that there is not none."""
    world = World(rules_of(BUDGET), make_fold(kinds={"x": "number"}))
    empty = spend(world, {}, 0.0)
    assert (empty["spend"], empty["budget_left_cost_day"]) == (0.0, None)
    assert spend(world, world.committed, 0.0)["budget_left_cost_day"] == 12.0
    world.run([event_record(n) for n in range(4)], 0.0)
    world.run([reply_record(0, "0-0", "a", seconds=12.5)], 1.0)
    found = spend(world, world.committed, 2.0)
    assert found == {
        "spend": 3.625,
        "spend_settled": 0.625,
        "spend_reserved": 3.0,
        "budget_left_cost_hour": None,
        "budget_left_cost_day": 12.0 - 3.625,
        "budget_left_cost_month": None,
        "budget_left_requests_hour": 46,
        "budget_left_requests_day": 56,
    }
    later = spend(world, world.committed, 3_600.0)
    assert (later["budget_left_requests_hour"], later["budget_left_requests_day"]) == (50, 56)
    tomorrow = spend(world, world.committed, 86_400.0)
    assert (tomorrow["budget_left_cost_day"], tomorrow["spend"]) == (12.0, 3.625)


def test_a_worker_shows_the_spend_of_its_own_partitions() -> None:
    """So the workers' figures add up to the whole."""
    world = World(rules_of(BUDGET, 3), make_fold(kinds={"x": "number"}))
    world.run([event_record(n, partition=n % 3) for n in range(9)], 0.0)
    world.run([reply_record(0, "1-1", "a", seconds=0)], 1.0)
    whole = spend(world, world.committed, 2.0)
    parts = [spend(world, {place: state}, 2.0) for place, state in world.committed.items()]
    for name, value in whole.items():
        assert (value or 0.0) == pytest.approx(sum(part[name] or 0.0 for part in parts))
    assert whole["spend"] == 8.5


def test_a_cap_that_was_lowered_leaves_nothing() -> None:
    """Below what is spent already: 0 left of money and requests, not less, so no other partition's rest is eaten up."""
    world = World(rules_of(BUDGET, 2), make_fold(kinds={"x": "number"}))
    world.run([event_record(n) for n in range(4)], 0.0)
    lowered = replace(BUDGET, per_hour=4, per_day=6, money=(None, 4_000_000, None))
    world.rules = rules_of(lowered, 2)
    found = spend(world, world.committed, 2.0)
    assert found["budget_left_cost_day"] == 0.0 + 2.0
    assert (found["budget_left_requests_hour"], found["budget_left_requests_day"]) == (0 + 2, 0 + 3)
