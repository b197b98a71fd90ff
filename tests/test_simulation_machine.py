"""The same world, driven by Hypothesis: it looks for the shortest story that breaks a promise.

Rules are what producers, annotators, the supervisor, the group coordinator, the disk and the clock may do, in any
order; the invariants hold after every one of them; at the end all faults stop and everything must come to rest.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.simulation.checks import check_all
from tests.simulation.faults import KINDS, fits
from tests.simulation.mutants import MUTANTS
from tests.simulation.process import Violation
from tests.simulation.scenario import BAD_BYTES, FAULTS, event, make_scenario
from tests.simulation.world import Program, World

WORKERS = st.integers(0, 2)
NUMBERS = st.integers(0, 999)
REPLIES = st.sampled_from(
    ("good", "good", "duplicate", "conflicting", "forged", "abstain", "bad", "new_class", "natural", "self-contained")
)
STRIKES = st.sampled_from(KINDS)
TAMPERING = st.sampled_from(("lose", "rot", "remake", "garble", "copy", "full"))
MOVES_S = st.sampled_from((1.0, 30.0, 4e3, -10.0, -1e9))
PHASES = (Phase.explicit, Phase.generate)
SETTINGS = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Machine(RuleBasedStateMachine):
    """One world; a fault strikes when the worker that ticks has passed so many I/O points."""

    program = Program()

    def __init__(self) -> None:
        super().__init__()
        self.world = World(make_scenario(0, frozenset(FAULTS)), self.program)

    @initialize(seed=st.integers(0, 200))
    def begin(self, seed: int) -> None:
        """Draw the rules and limits."""
        self.world = World(make_scenario(seed, frozenset(FAULTS)), self.program)

    @rule(partition=NUMBERS, seed=NUMBERS)
    def produce(self, partition: int, seed: int) -> None:
        """A producer sends a good event."""
        value = event(Random(seed), frozenset({"poison"}))
        self.world.produce(partition % self.world.scenario.partitions, value, "event")

    @rule(partition=NUMBERS, value=st.sampled_from(BAD_BYTES))
    def produce_bad(self, partition: int, value: bytes | None) -> None:
        """A producer sends rubbish."""
        self.world.produce(partition % self.world.scenario.partitions, value, "bad event")

    @rule(kind=REPLIES, number=NUMBERS, value=st.sampled_from(BAD_BYTES))
    def reply(self, kind: str, number: int, value: bytes | None) -> None:
        """An annotator answers: late, if the clock has moved on."""
        self.world.annotators.reply(kind, number, value)

    @rule(worker=WORKERS, fault=st.none() | STRIKES, after=st.integers(0, 25))
    def tick(self, worker: int, fault: str | None, after: int) -> None:
        """A worker does one step, after a start if need be; a fault may strike on the way."""
        target = self.world.strikes.points + after
        struck = False

        def plan(number: int, point: str) -> str | None:
            nonlocal struck
            if fault is None or struck or number < target or not fits(fault, point):
                return None
            struck = True
            return fault

        self.world.strikes.plan = plan
        self.world.tick(self._name(worker))

    @rule(worker=WORKERS)
    def kill(self, worker: int) -> None:
        """A worker dies between two steps."""
        self.world.kill(self._name(worker))

    @rule(worker=WORKERS)
    def expel(self, worker: int) -> None:
        """A worker's session times out."""
        self.world.expel(self._name(worker))

    @rule(worker=WORKERS)
    def leave(self, worker: int) -> None:
        """A worker is stopped in good order."""
        self.world.leave(self._name(worker))

    @rule(worker=WORKERS, how=TAMPERING)
    def tamper(self, worker: int, how: str) -> None:
        """Snapshots are lost, damaged, exchanged, or the disk fills up."""
        self.world.tamper(how, self._name(worker))

    @rule(seconds=MOVES_S)
    def move_clock(self, seconds: float) -> None:
        """Time passes, or the clock is set."""
        (self.world.clock.move if seconds > 0.0 else self.world.clock.jump)(seconds)

    @invariant()
    def promises(self) -> None:
        """All promises hold at any time."""
        check_all(self.world, final=False)

    def _name(self, worker: int) -> str:
        names = self.world.scenario.workers
        return names[worker % len(names)]

    def teardown(self) -> None:
        """Without faults everything comes to rest."""
        self.world.strikes.plan = lambda number, point: None
        self.world.settle()
        check_all(self.world, final=True)
        self.world.finish()


@pytest.mark.parametrize("stories", [120, pytest.param(400, marks=pytest.mark.slow)])
def test_no_story_breaks_a_promise(stories: int) -> None:
    """Whatever the order of events, replies, deaths, rebalances and repairs, every invariant holds throughout."""
    run_state_machine_as_test(Machine, settings=settings(SETTINGS, max_examples=stories))


@pytest.mark.parametrize(
    "name",
    ["non-atomic commit", "no pending check", pytest.param("sampler state not committed", marks=pytest.mark.slow)],
)
def test_the_machine_finds_broken_programs(name: str) -> None:
    """The machine is no weaker than the plain simulation: it tells a story that breaks the mutant."""

    class Broken(Machine):
        program = MUTANTS[name].program

    with pytest.raises(Violation):
        run_state_machine_as_test(Broken, settings=settings(SETTINGS, max_examples=400, phases=PHASES))
