"""Clocks that jump: what no monotonic clock has seen is not believed before it has lasted, and is an alarm (F64)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from streamal.bootstrap import build
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.state import PartitionState, encode_state
from streamal.daemon.daemon import Daemon
from streamal.daemon.steady_clock import SteadyClock
from streamal.inspection.status import status
from streamal.replay.replay import StreamClock
from tests.recorded import CountingMeter, ListLog, World, make_config, rows_of

YEAR_S = 366 * 86_400.0


class SetClock(StreamClock):
    """A clock that can be set wrong by *wrong* seconds; its monotonic clock never is."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.wrong = 1_000_000.0, 0.0

    def now(self) -> float:
        return self.time + self.wrong


@dataclass
class Watched:
    """A clock, what is believed of it, and what is said about it."""

    clock: SetClock
    meter: CountingMeter
    log: ListLog
    steady: SteadyClock

    def after(self, seconds: float, wrong: float | None = None) -> float:
        """Return what is believed *seconds* later, relative to the right time."""
        self.clock.time += seconds
        self.clock.wrong = self.clock.wrong if wrong is None else wrong
        return self.steady.now() - self.clock.time

    @property
    def said(self) -> list[str]:
        return [event for event, _ in self.log.said]


@pytest.fixture
def watched() -> Watched:
    clock, meter, log = SetClock(), CountingMeter(), ListLog()
    steady = SteadyClock(clock, 10.0, 300.0, meter, log)
    steady.now()
    return Watched(clock, meter, log, steady)


@pytest.mark.parametrize("jump", [YEAR_S, -YEAR_S, 11.0, -11.0])
def test_a_jump_is_believed_when_it_has_lasted(watched: Watched, jump: float) -> None:
    """For 300 s time goes on as before, and the jump is shown from the first moment on."""
    assert watched.after(1.0, jump) == 0.0
    assert (watched.said, watched.meter.gauges["clock_jump_seconds"]) == (["clock_jumped"], jump)
    assert watched.after(299.0) == 0.0
    assert watched.after(1.0) == jump
    assert watched.said == ["clock_jumped", "clock_jump_believed"]
    assert watched.meter.gauges["clock_jump_seconds"] == 0.0


@pytest.mark.parametrize("jump", [YEAR_S, -YEAR_S])
def test_a_jump_that_passes_leaves_nothing_behind(watched: Watched, jump: float) -> None:
    """Four seconds of a wrong clock: never believed, and said when it is over."""
    assert [watched.after(1.0, jump) for _ in range(4)] == [0.0] * 4
    assert watched.after(1.0, 0.0) == 0.0
    assert watched.said == ["clock_jumped", "clock_right_again"]
    assert watched.after(1e6) == 0.0


def test_every_jump_has_to_last_by_itself(watched: Watched) -> None:
    """A clock that goes on jumping is believed only where it has stayed."""
    watched.after(1.0, YEAR_S)
    assert watched.after(200.0, 2 * YEAR_S) == 0.0
    assert watched.after(200.0) == 0.0
    assert watched.after(100.0) == 2 * YEAR_S


def test_corrections_are_followed_and_never_go_back(watched: Watched) -> None:
    """Some seconds forward at once; back: time stands until the clock has caught up."""
    assert watched.after(1.0, 9.0) == 9.0
    before = watched.steady.now()
    watched.clock.wrong = 0.0
    assert watched.steady.now() == before
    assert watched.after(20.0) == 0.0
    assert watched.said == []


def asked_per_hour(world: World) -> Counter[int]:
    rows = [row for row in rows_of(world.broker, world.topics.requests) if row]
    return Counter(int((row["asked_at"] - 1_000_000.0) // 3_600) for row in rows)


def test_a_year_ahead_for_four_seconds_changes_nothing() -> None:
    """Ten events, a year ahead for 4 s with three events, 300, a restart, 900: 20 requests in each real hour."""
    config = make_config(budget={"share": 1.0, "burst": 2_000, "per_hour": 20}, labels={"ttl_s": 3_600.0})
    world, clock = World(config), SetClock()
    clock.time = 3_600.0 * 278
    world.clock = clock
    first = world.daemon()
    first.start()
    began = clock.time

    def run(daemon: Daemon, events: int, wrong: float = 0.0, seconds: float = 36.0) -> None:
        for number in range(events):
            clock.time, clock.wrong = clock.time + seconds, wrong
            world.event({"x1": number % 7 / 7.0, "x2": 0.5})
            daemon.tick()

    run(first, 10, seconds=0.1)
    run(first, 3, YEAR_S, seconds=4 / 3)
    assert world.log.fields("clock_jumped")["seconds"] == pytest.approx(YEAR_S, abs=1.0)
    assert world.meter.gauges["clock_jump_seconds"] == pytest.approx(YEAR_S, abs=1.0)
    run(first, 300)
    first.close()
    second = world.daemon()
    second.start()
    run(second, 900)
    rows = [row for row in rows_of(world.broker, world.topics.requests) if row]
    hours = Counter(int((row["asked_at"] - began) // 3_600) for row in rows)
    assert hours == dict.fromkeys(range(12), 20) | {hour: hours[hour] for hour in hours.keys() - set(range(12))}
    assert max(hours) <= 12
    closed = rows_of(world.broker, world.topics.training)
    assert len(closed) > 200
    assert all(3_600.0 <= row["at"] - row["asked_at"] <= 3_700.0 for row in closed)
    assert world.meter.gauges["clock_ahead_seconds"] == 0.0


def test_a_time_ahead_of_the_clock_is_an_alarm() -> None:
    """What a worker with a wrong clock has committed is said in the log, the gauge and `status`, with its partition."""
    config = make_config()
    world, parts = World(config), build(config)
    transport = world.transport()
    transport.poll({}, 0.0)
    state = encode_state(PartitionState(now=YEAR_S))
    transport.commit([], {TopicPartition(world.topics.events, 0): OffsetAndMetadata(0, state)})
    daemon = world.daemon(transport=transport)
    daemon.start()
    daemon.tick()
    assert world.log.fields("clock_behind_log") == {"seconds": YEAR_S, "partitions": [0]}
    assert world.meter.gauges["clock_ahead_seconds"] == YEAR_S
    shown = status(parts.new_fold(), parts.rules, world.broker.committed("streamal"), 0.0)
    assert shown.gauges["clock_ahead_seconds"] == YEAR_S
