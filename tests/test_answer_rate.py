"""Asking is bounded by the rate at which annotators answer, as the log shows it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from streamal.core.budget.answer_rate import AnswerRate
from streamal.core.budget.limits import Budget, Cap
from streamal.core.codec.events import encode
from streamal.core.fold import Fold
from streamal.core.gauges.declaration import Worker
from streamal.core.gauges.gauges import gauges
from streamal.core.gauges.requests import REQUESTS
from streamal.core.records import Example, Expiry, Lane, coordinates
from tests.making import World, event_record, make_fold, make_rules, reply_record


def example(number: int, asked_at: float, at: float) -> Example:
    return Example(coordinates(0, number), "a", {"x": 1.0}, "a", 0.5, Lane.STRATEGY, asked_at, at)


def paced(spans: list[tuple[float, float]], horizon_s: float = 100.0) -> int | None:
    rate = AnswerRate()
    for number, (asked_at, at) in enumerate(spans):
        rate.fold(example(number, asked_at, at))
    return rate.open_max(horizon_s, 7)


def test_nothing_known_is_the_start() -> None:
    """Nine closed requests tell nothing yet, ten do."""
    spans = [(0.0, float(n)) for n in range(1, 11)]
    assert paced(spans[:9]) == 7
    assert paced(spans) == 100, "one a second"


def test_time_without_a_question_does_not_count() -> None:
    """Ten answers in ten seconds, a night without requests, ten in ten: still one a second."""
    evening = [(0.0, float(n)) for n in range(1, 11)]
    morning = [(40_000.0, 40_000.0 + n) for n in range(1, 11)]
    assert paced(evening + morning) == 100
    assert paced(evening + [(10.0, at) for _, at in morning]) == 0, "but a night that left them waiting does"


def test_long_delays_are_no_slowness() -> None:
    """Each answer takes an hour, but 8 come in every second: what counts is how many come."""
    assert paced([(n / 8.0, 3_600.0 + n / 8.0) for n in range(200)], 100.01) == 800


def test_who_answers_at_once_is_not_throttled() -> None:
    """An oracle: no time passes while anything is open."""
    assert paced([(float(n), float(n)) for n in range(20)]) is None


def test_expiries_are_no_answers() -> None:
    """Annotators who left: what expires takes time and brings nothing."""
    rate = AnswerRate()
    for number in range(20):
        rate.fold(Expiry(coordinates(0, number), 0.5, Lane.STRATEGY, float(number), 100.0 + number))
    assert rate.open_max(1e6, 7) == 0


@pytest.mark.parametrize(("open_max", "cap"), [(0, (2, 1)), (10, (10, 8)), (10**9, (100, 80))])
def test_the_throttle_leaves_one_of_each_lane(open_max: int, cap: tuple[int, int]) -> None:
    """Never mute, never more than configured, and the audit lane keeps its part of what there is."""
    partition_budget = Budget(Fraction(1, 2), Fraction(1, 5), 1_000, open_max=100).partition_budget(0, 1)
    assert partition_budget.with_open_max(open_max).open == Cap(*cap)


def test_no_more_is_open_than_can_be_answered() -> None:
    """Greedy asking against annotators who take 10 s a label and a horizon of 60 s: about 6 are open, never more."""
    rules = replace(make_rules(share="1", audit_share="1", burst=1_000), pace_horizon_s=60.0, burst=4)
    fold: Fold = make_fold(kinds={"x": "number"})
    world = World(rules, fold)
    world.run([event_record(n) for n in range(50)], 0.0)
    assert len(fold.books.pending) == 4
    most = 0
    for second in range(1, 60):
        name = next(iter(fold.books.pending.open))
        world.run([reply_record(second - 1, name, "a")], second * 10.0)
        world.run([event_record(n) for n in range(50 * second, 50 * second + 50)], second * 10.0)
        most = max(most, len(fold.books.pending))
        assert len(fold.books.pending) <= (4 if second < 10 else 6)
    assert most == 6


def test_the_pace_is_the_same_from_any_worker() -> None:
    """It is a fold of the log alone: whoever has folded as far throttles the same."""
    one, two = make_fold(kinds={"x": "number"}), make_fold(kinds={"x": "number"})
    for number in range(30):
        value = encode(example(number, number / 3.0, number * 2.0))
        one.apply_training(number, value)
        two.apply_training(number, value)
    assert one.books.answer_rate.open_max(100.0, 7) == two.books.answer_rate.open_max(100.0, 7) != 7


def test_the_pace_and_the_last_request_are_exported() -> None:
    """As gauges: how many may be open at this pace (none without a horizon), and when the last label was asked for."""
    rules = replace(make_rules(share="1", audit_share="1"), pace_horizon_s=50.0, burst=7)
    world = World(rules, make_fold(kinds={"x": "number"}))
    before = gauges(Worker(rules, world.fold, world.committed, 0.0), REQUESTS)
    assert before["open_requests_pace_limit"] == 7
    assert before["last_request_timestamp_seconds"] is None
    world.run([event_record(0)], 123.0)
    after = gauges(Worker(rules, world.fold, world.committed, 200.0), REQUESTS)
    assert after["last_request_timestamp_seconds"] == 123.0
    unpaced = gauges(Worker(make_rules(), world.fold, world.committed, 0.0), REQUESTS)
    assert unpaced["open_requests_pace_limit"] is None
