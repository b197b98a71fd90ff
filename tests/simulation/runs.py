"""Runs and their names.

A run is named by its *spec*: ``swarm:7`` (scenario 7, faults of seed 7), ``at:3:120=crash,131=abort`` (scenario 3
with a crash at its 120th I/O point and an abort at the 131st), ``script:5`` (scenario 5, nothing strikes at I/O
points), ``lethal:7`` (``swarm:7`` with events that kill whoever predicts them).
``python -m tests.simulation SPEC`` repeats it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random

from tests.simulation.checks import check_all
from tests.simulation.faults import KINDS, at, at_random, fits
from tests.simulation.process import Violation
from tests.simulation.scenario import FAULTS, make_scenario
from tests.simulation.world import Program, World

TRACE_LINES = 60
SCRIPTED = frozenset(FAULTS) - {"kill", "rebalance", "silent"}
"""What goes on in the scenarios of the exhaustive runs, besides the one fault at an I/O point."""


class SimulationFailure(AssertionError):
    """A run that broke a promise: which, and how to see it again."""

    def __init__(self, spec: str, violation: Violation, world: World) -> None:
        trace = "\n".join(world.trace[-TRACE_LINES:])
        scenario = world.scenario
        super().__init__(
            f"{violation}\n{trace}\nscenario: partitions {scenario.partitions}, workers {scenario.workers}, "
            f"faults {sorted(scenario.faults)}\nagain: python -m tests.simulation {spec}"
        )
        self.check, self.spec = violation.check, spec


def make_world(spec: str, program: Program | None = None) -> World:
    """Return the world that *spec* names, before anything has happened."""
    kind, seed, *faults = spec.split(":")
    if kind == "swarm":
        scenario = make_scenario(int(seed))
        return World(scenario, program, at_random(int(seed), scenario.faults))
    if kind == "lethal":
        scenario = make_scenario(int(seed), lethal=True)
        return World(scenario, program, at_random(int(seed), scenario.faults))
    if kind == "script":
        return World(make_scenario(int(seed), frozenset(FAULTS)), program)
    assert kind == "at", f"{spec!r} is no spec"
    struck = dict(fault.split("=") for fault in faults[0].split(",")) if faults and faults[0] else {}
    return World(make_scenario(int(seed), SCRIPTED), program, at({int(k): fault for k, fault in struck.items()}))


def play(spec: str, program: Program | None = None) -> World:
    """Run *spec* to its end and check everything.

    Raises:
        SimulationFailure: a promise was broken.
    """
    world = make_world(spec, program)
    try:
        for action in world.scenario.script:
            world.act(action)
        world.settle()
        check_all(world, final=True)
        world.finish()
    except Violation as violation:
        raise SimulationFailure(spec, violation, world) from violation
    return world


def points_of(spec: str) -> list[str]:
    """Return the names of all I/O points that the run of *spec* passes while faults may strike, in order."""
    world = make_world(spec)
    plan, points = world.strikes.plan, list[str]()

    def recorder(number: int, point: str) -> str | None:
        points.append(point)
        return plan(number, point)

    world.strikes.plan = recorder
    for action in world.scenario.script:
        world.act(action)
    return points


def exhaustive(seed: int, kinds: Iterable[str] = KINDS) -> Iterator[str]:
    """Yield the specs with one fault each: every kind at every I/O point of scenario *seed* where it can happen."""
    points = points_of(f"at:{seed}")
    for kind in kinds:
        yield from (f"at:{seed}:{number}={kind}" for number, point in enumerate(points) if fits(kind, point))


def pairs(seed: int, samples: int, after: int = 40) -> Iterator[str]:
    """Yield the specs with a crash at some point of scenario *seed*, and another at each of the next *after* points."""
    points = len(points_of(f"at:{seed}"))
    for first in Random(f"pairs {seed}").sample(range(points), min(samples, points)):
        yield from (f"at:{seed}:{first}=crash,{first + further}=crash" for further in range(1, after + 1))


def outages(seed: int, samples: int, length: int = 300) -> Iterator[str]:
    """Yield the specs in which each transaction of *length* I/O points of scenario *seed* fails: workers give up."""
    points = len(points_of(f"at:{seed}"))
    for first in Random(f"outages {seed}").sample(range(points), min(samples, points)):
        yield f"at:{seed}:" + ",".join(f"{number}=abort" for number in range(first, first + length))


def play_all(specs: Iterable[str], program: Program | None = None) -> tuple[int, Counter[str]]:
    """Run all *specs*; return how many they were and what was met on the way, added up."""
    played, marks = 0, Counter[str]()
    for spec in specs:
        marks.update(play(spec, program).marks)
        played += 1
    return played, marks
