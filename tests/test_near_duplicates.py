"""A label that is on its way is not asked for twice: what is like an open request counts as less uncertain (I14)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.core.records import Lane, Scalar, TopicPartition
from streamal.core.step import step
from streamal.core.strategies.near_duplicates import Damper
from streamal.errors import Behind
from tests.making import World, ask, event_record, make_fold, make_request, make_rules, reply_record

KINDS = {"x": "number"}
NEAR: list[dict[str, Scalar]] = [{"x": 0.0, "s": "a"}, {"x": 1.0, "s": "a"}, {"x": 4.0, "s": "b"}]
points = st.fixed_dictionaries({"x": st.floats(-1e12, 1e12), "s": st.sampled_from("ab")})


def test_a_duplicate_of_an_open_request_is_worth_nothing() -> None:
    """The same features again: nothing is left of the uncertainty; far from all of them, all of it."""
    damper = Damper(0.3, NEAR)
    assert damper.damp(0.8, {"x": 1.0, "s": "a"}) == 0.0
    assert damper.damp(0.8, {"x": 1e9, "s": "c"}) == 0.8
    assert 0.0 < damper.damp(0.8, {"x": 1.2, "s": "a"}) < damper.damp(0.8, {"x": 2.5, "s": "a"}) < 0.8


def test_with_few_open_requests_there_is_nothing_to_compare_with() -> None:
    """Distances are in spreads of the open requests: two of them, or equal ones, make no spread."""
    assert Damper(0.3, NEAR[:2]).damp(0.8, NEAR[0]) == 0.8
    assert Damper(0.3, [{"x": 1.0}] * 3).damp(0.8, {"x": 2.0}) == pytest.approx(0.8, abs=0.01)
    assert Damper(0.3, NEAR).damp(0.8, {}) == 0.8


@given(st.lists(points, max_size=60), points, st.floats(0.0, 1.0), st.floats(0.01, 10.0))
def test_damping_only_takes_away(open_: list[dict[str, Scalar]], x: dict[str, Scalar], u: float, width: float) -> None:
    """Whatever is open, 0 <= u' <= u; and to be told one by one is the same as to be told at once."""
    told = Damper(width, open_[:20])
    told.damp(u, x)
    for features in open_[20:]:
        told.add_request(features)
    assert 0.0 <= told.damp(u, x) <= u
    assert told.damp(u, x) == Damper(width, open_).damp(u, x)


def test_a_repeated_event_is_asked_about_once() -> None:
    """A strategy that asks wherever there is doubt asks about the first of many equal events, and again once told."""
    rules = replace(
        make_rules(share="1", audit_share="0", strategy="entropy", burst=100), damping=0.3, uncertainty="entropy"
    )
    world = World(rules, make_fold(kinds=KINDS))
    world.run([event_record(n, {"x": float(n)}) for n in range(5)], 0.0)
    asked = len(world.fold.books.pending)
    assert asked >= 3
    world.run([event_record(5 + n, {"x": 1.0}) for n in range(50)], 1.0)
    assert len(world.fold.books.pending) == asked, "its label is on the way"
    world.run([reply_record(0, "0-1", "a")], 2.0)
    world.run([event_record(55, {"x": 1.0})], 3.0)
    assert len(world.fold.books.pending) == asked, "asked again, and one was answered"


@given(st.lists(st.sampled_from([0.0, 1.0, 1.1, 5.0]), min_size=1, max_size=30), st.integers(0, 30))
def test_damped_steps_can_be_split_anywhere(xs: list[float], cut: int) -> None:
    """I14: what was asked earlier in the same step damps as what was read back from the log."""
    rules = replace(make_rules(share="1", strategy="entropy", burst=100), damping=0.3, uncertainty="entropy")
    events = [event_record(n, {"x": x}) for n, x in enumerate(xs)]
    whole, parts = (World(rules, make_fold(kinds=KINDS)) for _ in range(2))
    whole.run(events, 0.0)
    for piece in (events[:cut], events[cut:]):
        parts.run(piece, 0.0)
    assert parts.written["predictions"] == whole.written["predictions"]
    assert parts.committed == whole.committed


def test_a_request_that_is_hidden_is_waited_for() -> None:
    """F13: another worker's unfinished transaction hides our last request; without it we would decide otherwise."""
    rules = replace(make_rules(share="1", audit_share="1"), damping=0.3)
    world = World(rules, make_fold(kinds=KINDS))
    world.run([event_record(0), event_record(1)], 0.0)
    blind = make_fold(kinds=KINDS)
    ask(blind, make_request(0, lane=Lane.AUDIT))
    with pytest.raises(Behind, match="newest requests cannot be read yet"):
        step(rules, blind, world.committed, [event_record(2)], 1.0)
    assert (
        step(rules, world.fold, world.committed, [event_record(2)], 1.0).offsets[TopicPartition("events", 0)].offset
        == 3
    )
