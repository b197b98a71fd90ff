"""Thousands of complete runs of the production daemon, with a fault at every place where one can be.

The ordinary run plays some 2,500 schedules: every fault at every I/O point of one scenario, some pairs of crashes, and
others drawn by seed. The slow run plays them for four scenarios, and draws more. ``STREAMAL_TEST_SCHEDULES`` is how
many are drawn; a night can afford 1000000. A failure names its schedule; ``python -m tests.simulation SPEC`` plays it
again and shows all that happens.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from random import Random

import pytest

from streamal.bootstrap.rules import topic_partitions
from streamal.config import Config, TransportConfig
from streamal.core.records import Record
from streamal.inspection.verify.verify import verify
from tests.simulation.fakes import Shelf
from tests.simulation.mutants import MUTANTS
from tests.simulation.runs import SimulationFailure, exhaustive, outages, pairs, play, play_all
from tests.simulation.scenario import GROUP, TOPICS
from tests.simulation.world import Program, World

SCHEDULES = os.environ.get("STREAMAL_TEST_SCHEDULES")
KILLING_SCHEDULES_MAX = 400
"""A mutant that survives so many schedules (3 s) counts as not caught."""

SOMETIMES = (
    "abort after outputs",
    "cap on money reached",
    "clean stop",
    "a worker's clock is wrong",
    "clock back",
    "clock jump believed",
    "clock jumped",
    "clock right again",
    "crash inside recovery",
    "expiries",
    "expiry racing a reply",
    "fallback to an older snapshot",
    "full replay",
    "gave up",
    "gave up waiting for the log",
    "half-learn",
    "killer refused",
    "halted without its events",
    "halted without its requests",
    "halted without its states",
    "natural_labels accepted",
    "natural_labels conflicting",
    "natural_labels duplicate",
    "natural_labels refused",
    "natural labels are off",
    "new class",
    "new classes refused",
    "pending full",
    "quarantined",
    "refund spent again",
    "replies abstained",
    "replies conflicting",
    "replies duplicate",
    "replies late",
    "replies refused",
    "replies unknown",
    "reply overtakes its request",
    "restored from a snapshot",
    "placeholder accepted",
    "vector learned",
    "placeholder refused",
    "schema inferred",
    "schema of the log differs",
    "share changed",
    "snapshot not taken",
    "snapshots failed",
    "two rebalances between polls",
    "two rebalances in one batch",
    "unknown outcome that had not succeeded",
    "unknown outcome that had succeeded",
    "waits for the log",
    "zombie fenced",
)
"""Situations that a run set has to meet: one that it never met has proved nothing about them."""


class NothingKept(Shelf):
    """A disk that forgets at once."""

    def save(self, data: bytes) -> bool:
        return True


class NothingSaved(Shelf):
    """A disk that is always full."""

    def save(self, data: bytes) -> bool:
        return False


class NothingFits(Shelf):
    """Snapshots of another make only, and then garbage."""

    def load(self) -> list[bytes]:
        self.remake()
        return [*super().load()[:1], b"garbage"]


def few_faults() -> Iterator[str]:
    """Yield the schedules of the ordinary run."""
    return itertools.chain(
        exhaustive(10),
        exhaustive(6, ("crash", "zombie", "abort", "unknown")),
        pairs(3, samples=5),
        outages(3, samples=5),
    )


def many_faults() -> Iterator[str]:
    """Yield the schedules of the slow run."""
    return itertools.chain(
        exhaustive(2),
        exhaustive(1, ("crash", "abort", "unknown", "slow")),
        exhaustive(10, ("crash", "abort", "unknown", "slow")),
        exhaustive(6, ("crash", "zombie", "abort", "unknown")),
        pairs(3, samples=10),
        outages(3, samples=10),
    )


@pytest.mark.parametrize(
    ("fixed", "least", "draws"),
    [(few_faults, 1_000, 1_200), pytest.param(many_faults, 2_500, 1_600, marks=pytest.mark.slow)],
)
def test_no_schedule_breaks_a_promise_and_every_situation_is_met(
    fixed: Callable[[], Iterator[str]], least: int, draws: int
) -> None:
    """One fault at each I/O point, two crashes at each point of a recovery, all kinds together by seed: all clean."""
    played, marks = play_all(fixed())
    assert played > least
    drawn, drawn_marks = play_all(f"swarm:{seed}" for seed in range(int(SCHEDULES or draws)))
    marks.update(drawn_marks)
    lethal, lethal_marks = play_all(f"lethal:{seed}" for seed in range((drawn + 9) // 10))
    marks.update(lethal_marks)
    print(f"{played} fixed schedules, {drawn} drawn by seed, {lethal} with killers; met: {dict(sorted(marks.items()))}")
    assert [situation for situation in SOMETIMES if not marks[situation]] == []


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_program_is_caught(name: str) -> None:
    """The same schedules and checks find each mutant within seconds; production passes the schedule that did."""
    mutant = MUTANTS[name]
    seeds = range(mutant.first_seed, mutant.first_seed + KILLING_SCHEDULES_MAX)
    with pytest.raises(SimulationFailure) as caught:
        play_all((f"{mutant.kind}:{seed}" for seed in seeds), mutant.program)
    assert caught.value.check in mutant.caught_by
    play(caught.value.spec)


def test_a_failure_says_how_to_see_it_again() -> None:
    """The message ends with one command, which leads to the same failure."""
    program = MUTANTS["no fencing"].program
    with pytest.raises(SimulationFailure) as caught:
        play_all((f"swarm:{seed}" for seed in range(KILLING_SCHEDULES_MAX)), program)
    assert str(caught.value).endswith(f"again: python -m tests.simulation {caught.value.spec}")
    with pytest.raises(SimulationFailure) as again:
        play(caught.value.spec, program)
    assert str(again.value) == str(caught.value)


@pytest.mark.parametrize("spec", ["swarm:5", "at:3:40=zombie", "script:9"])
def test_a_schedule_is_deterministic(spec: str) -> None:
    """The same spec gives the same story and the same bytes in every topic."""
    first, second = play(spec), play(spec)
    assert first.trace == second.trace
    assert topics(first) == topics(second)


@pytest.mark.parametrize("shelf", [NothingKept, NothingSaved, NothingFits])
def test_snapshots_change_no_output(shelf: type[Shelf]) -> None:
    """Lost, unsaved, foreign or garbled: every topic holds the same bytes as with good snapshots (I6)."""
    restored = 0
    for seed in range(60):
        good, bad = play(f"script:{seed}"), play(f"script:{seed}", Program(shelf=shelf))
        assert topics(good) == topics(bad)
        assert not bad.marks["restored from a snapshot"]
        restored += good.marks["restored from a snapshot"]
    assert restored > 15


def test_the_shipped_verifier_agrees() -> None:
    """`streamal verify`, which sees the topics only, finds nothing broken where these checks find nothing."""
    looked_at = 0
    for seed in range(150):
        world = play(f"swarm:{seed}")
        scenario = world.scenario
        for check in verify(world.broker, scenario.settings.rules, scenario.budget, GROUP, scenario.new_fold):
            assert not check.broken, (seed, check)
            looked_at += check.looked_at
    assert looked_at > 5_000


@pytest.mark.parametrize("role", ["events", "labels", "predictions", "dead_letters"])
def test_the_shipped_verifier_agrees_after_retention(role: str) -> None:
    """Whatever part of a topic was deleted after it had been consumed, nothing is broken (F60)."""
    not_judged = 0
    for seed in range(80):
        world, topic = play(f"swarm:{seed}"), getattr(TOPICS, role)
        scenario = world.scenario
        for partition in range(world.broker.partitions(topic)):
            world.broker.trim(topic, partition, Random(seed).randint(0, world.broker.end(topic, partition)))
        for check in verify(world.broker, scenario.settings.rules, scenario.budget, GROUP, scenario.new_fold):
            assert not check.broken, (seed, check)
            not_judged += check.not_judged.total()
    assert not_judged > 40


def test_the_simulated_topics_are_those_of_the_daemon() -> None:
    """As many topics, with as many partitions, as the configuration gives the real daemon."""
    world = play("script:1")
    config = Config(transport=TransportConfig(partitions=world.scenario.partitions))
    assert sorted(topic_partitions(config).values()) == sorted(world.broker.counts.values())


def topics(world: World) -> list[list[Record]]:
    return [world.truth(topic, partition) for topic in TOPICS for partition in range(world.broker.partitions(topic))]
