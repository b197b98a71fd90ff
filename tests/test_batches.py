"""How much is done at once: little with a slow model, all that there is with a quick one, and never silence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.bootstrap import build
from streamal.core.model.river_fast import GaussianNB
from streamal.core.records import Record
from streamal.daemon.batch_size import Batches, Rate
from streamal.daemon.daemon import Daemon
from streamal.edge.kafka.membership import POLL_GAP_MS
from streamal.edge.memory import MemoryTransport
from streamal.replay.replay import StreamClock
from tests.recorded import World, easy_stream, make_config, predictions_of

SECONDS = st.floats(0.0, 100.0)
STEPS = st.lists(st.tuples(st.integers(0, 500), SECONDS), max_size=20)
MOST = 500


def rate_of(steps: list[tuple[int, float]]) -> Rate:
    """Return the rate after *steps*."""
    rate = Rate()
    for records, seconds in steps:
        rate = rate.add(records, seconds)
    return rate


@given(STEPS, st.floats(1e-6, 20.0), st.integers(1, MOST))
def test_a_batch_is_never_empty_nor_above_its_limit(steps: list[tuple[int, float]], within: float, most: int) -> None:
    """Whatever the steps before took, and whatever the limit."""
    assert 1 <= rate_of(steps).records_within(within, most) <= most
    assert rate_of(steps).records_within(math.inf, most) == most


@given(STEPS, st.integers(0, MOST), SECONDS, SECONDS, st.floats(1e-6, 20.0), st.floats(1e-6, 20.0))
def test_slower_steps_never_make_a_batch_larger(
    steps: list[tuple[int, float]], records: int, took: float, more: float, within: float, longer: float
) -> None:
    """Nor do less time, or fewer records in the same time, or a clock that was set back."""
    rate = rate_of(steps)
    now = rate.add(records, took)
    assert rate.add(records, took + more).records_within(within, MOST) <= now.records_within(within, MOST)
    assert now.records_within(min(within, longer), MOST) <= now.records_within(within, MOST)
    if records:
        assert rate.add(records + 7, took).records_within(within, MOST) >= now.records_within(within, MOST)
    assert rate.add(records, -took) == rate.add(records, 0.0)


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(1e-4, 1e-1)), min_size=1, max_size=20), st.floats(1e-2, 20.0))
def test_a_batch_swings_no_further_than_the_costs(costs: list[tuple[int, float]], within: float) -> None:
    """Records that cost between a and b make a batch between time/b and time/a: one cost, one size, at once."""
    size = rate_of([(records, records * each) for records, each in costs]).records_within(within, 10**9)
    cheapest, dearest = min(each for _, each in costs), max(each for _, each in costs)
    assert within / dearest * 0.999 - 1 <= size <= max(1.0, within / cheapest * 1.001)


@given(st.floats(1e-6, 1e-4), st.floats(0.0, 1_000.0))
def test_a_stall_is_soon_forgotten(cost: float, stall_s: float) -> None:
    """However long one step hung: after two dozen more, with a backlog, the batches are as large as they may be."""
    batches = Batches(MOST, 100, target_s=0.25)
    batches.note_prediction(1, stall_s)
    for _ in range(24):
        batches.note_prediction(batches.events(), batches.events() * cost)
    assert batches.events() == MOST


def test_work_is_not_shorter_than_its_commit() -> None:
    """Where a commit takes a second most of the time would go there; but nothing is done for so long as to be lost."""
    batches = Batches(MOST, 100, target_s=0.25, poll_gap_s=60.0)
    batches.note_prediction(10, 0.1)
    assert batches.events() == 12
    batches.note_commit(1.0)
    assert batches.events() == 50
    batches.note_commit(1_000.0)
    assert batches.share_s * 2 == batches.longest_s == 10.0


# The loop.


class Slow(GaussianNB):
    """A model whose every call moves the clock."""

    clock: ClassVar[StreamClock] = StreamClock()
    predicting_s: ClassVar[float] = 0.0
    learning_s: ClassVar[float] = 0.0

    def predict_proba_one(self, x: Any, **_: Any) -> dict[Any, float]:
        self.clock.time += self.predicting_s
        return super().predict_proba_one(x)

    def learn_one(self, x: Mapping[Any, Any], y: Any) -> None:
        self.clock.time += self.learning_s
        super().learn_one(x, y)  # type: ignore[no-untyped-call]


class Polling(MemoryTransport):
    """Notes when it is polled, with which maxima, and what came."""

    polls: list[tuple[float, Mapping[str, int], int]]

    def poll(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> list[Record]:
        found = super().poll(records_max_by_topic, timeout_s)
        self.polls.append((Slow.clock.time, records_max_by_topic, len(found)))
        return found

    def longest_silence_s(self) -> float:
        return max((b[0] - a[0] for a, b in itertools.pairwise(self.polls)), default=0.0)


class SlowWorld(World):
    """Workers whose model is slow, by the clock that it moves."""

    def __init__(self, predicting_s: float, learning_s: float, partitions: int = 1) -> None:
        super().__init__(
            make_config(
                transport={"partitions": partitions},
                labels={"natural": True},
                model={"pipeline": [], "factory": f"{__name__}:Slow"},
                budget={"share": 0.001, "burst": partitions},
            )
        )
        self.clock = Slow.clock = StreamClock()
        Slow.predicting_s, Slow.learning_s = predicting_s, learning_s

    def worker(self, name: str) -> tuple[Daemon, Polling]:
        """Return a started worker and its seat."""
        seat = Polling(self.broker, "streamal", name, self.topics.events, self.topics.labels)
        seat.polls = []
        daemon = self.daemon(transport=seat, step_target_s=0.25)
        daemon.start()
        return daemon, seat

    def learnable(self, count: int) -> None:
        """Append so many natural labels."""
        for row in easy_stream(count).rows:
            self.tell({"features": row.features}, row.label)

    def events(self, count: int, partitions: int = 1) -> None:
        """Append so many events."""
        for number, row in enumerate(easy_stream(count, seed=2).rows):
            self.event(row.features, number % partitions)


def test_a_slow_model_gets_small_batches_and_a_quick_one_large_ones() -> None:
    """With 10 ms for an event a dozen in a step; with none 500 after the first; every event is answered."""
    for predicting_s, expected in ((0.01, {12}), (0.0, {500})):
        world = SlowWorld(predicting_s, 0.0)
        daemon, seat = world.worker("w")
        world.learnable(10)
        world.drain(daemon)
        seat.polls.clear()
        world.events(1_600)
        world.drain(daemon)
        assert {found for _, _, found in seat.polls[1:-2]} == expected
        assert len(predictions_of(world.broker, world.config)) == 1_600


def test_replies_are_learned_a_few_in_a_step() -> None:
    """A thousand labels at once, 20 ms each: events go on in between, and no step is much longer than its target."""
    world = SlowWorld(0.001, 0.02)
    daemon, seat = world.worker("w")
    for count in (10, 10, 980):  # a model without labels costs nothing to ask: what it will cost shows afterwards
        seat.polls.clear()
        world.learnable(count)
        world.events(count)
        world.drain(daemon)
    assert sum(daemon.fold.learned.model.learned.values()) == 1_000
    assert len(predictions_of(world.broker, world.config)) == 1_000
    assert seat.longest_silence_s() < 0.4
    assert all(found > 0 for _, _, found in seat.polls[:50])


def test_who_takes_over_a_long_log_shows_up_while_it_folds() -> None:
    """It had learned a few of the labels when the trainer left; half a minute of them follows, in silences of 10 s."""
    world = SlowWorld(0.0, 0.1, partitions=2)
    (trainer, _), (other, seat) = world.worker("a"), world.worker("b")
    for daemon in (trainer, other):
        daemon.tick()
    world.learnable(400)
    for _ in range(400):
        trainer.tick()
    assert trainer.fold.books.version.records == 400
    world.events(600, partitions=2)
    for _ in range(3):
        other.tick()
    assert 0 < other.fold.books.version.records < 20, "events and slices of the log take turns"
    assert len(predictions_of(world.broker, world.config)) > 100
    seat.polls.clear()
    world.broker.expel("streamal", "a")
    for _ in range(20):
        other.tick()
    assert [asked for _, asked, _ in seat.polls].count({}) > 2
    assert 5.0 < seat.longest_silence_s() < 11.0 < POLL_GAP_MS / 1e3
    assert len(predictions_of(world.broker, world.config)) == 600
    probes = [row.features for row in easy_stream(20, seed=3).rows]
    assert [other.fold.learned.model.predict(p) for p in probes] == [
        trainer.fold.learned.model.predict(p) for p in probes
    ]


def test_how_fast_it_is_folded_changes_no_snapshot() -> None:
    """Another target takes up the same snapshots; and the time to poll in is the one that the clients are given."""
    config, other = make_config(), make_config(limits={"step_target_s": 1.0})
    first, second = build(config).settings, build(other).settings
    assert first.fingerprint == second.fingerprint
    assert second.step_target_s == 1.0
    assert first.poll_gap_s == pytest.approx(POLL_GAP_MS / 1e3)
