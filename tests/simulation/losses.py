"""A topic is deleted and made anew, or states are lost, while no worker runs; then what was lost is restored.

Whoever starts in between must end before it writes anything (F61, F62).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.state import PartitionState, decode_state
from streamal.edge.memory import _Log
from tests.simulation.process import Violation
from tests.simulation.scenario import GROUP, TOPICS

if TYPE_CHECKING:
    from tests.simulation.world import World

TICKS = 3


def lose(world: World, what: str) -> None:
    """Lose *what* ("requests", "events" or "states"), let every worker meet the loss, and restore it."""
    for name in list(world.processes):
        world.kill(name)
        world.expel(name)
    world.strikes.on, on = False, world.strikes.on
    world.strikes._catch_up()
    places = _places(world, what)
    if places:
        logs, offsets = dict(world.broker.logs), dict(world.broker.groups[GROUP].offsets)
        before = _written(world)
        for place in places:
            if what == "states":
                world.broker.groups[GROUP].offsets[place] = OffsetAndMetadata(offsets[place].offset, "")
            else:
                world.broker.logs[place] = _Log()
        world.say(f"{what} lost: {places}")
        world.lost = what
        _meet(world, what)
        world.lost = None
        if _written(world) != before - (0 if what == "states" else sum(len(logs[place].slots) for place in places)):
            raise Violation("F62", f"something was written without the {what}")
        world.broker.logs.update(logs)
        world.broker.groups[GROUP].offsets.update(offsets)
        world.say(f"{what} restored")
    world.strikes.on = on


def _places(world: World, what: str) -> list[TopicPartition]:
    """Return the partitions where the loss of *what* breaks a promise."""
    offsets = world.broker.groups[GROUP].offsets
    if what == "states":
        return [place for place, state in offsets.items() if state.metadata and _done(world, place)]
    if what == "events":
        return [place for place, state in offsets.items() if place.topic == TOPICS.events and state.offset]
    asked = {
        place.partition: state.counters.audit + state.counters.strategy
        for place, (_, metadata) in offsets.items()
        if place.topic == TOPICS.events and (state := decode_state(metadata, PartitionState)) and state.counters
    }
    closed = [(record.key or b"").decode() for record in world.truth(TOPICS.training)]
    return [
        TopicPartition(TOPICS.requests, partition)
        for partition, count in asked.items()
        if count > len({key for key in closed if key.startswith(f"{partition}-")})
    ]


def _done(world: World, place: TopicPartition) -> bool:
    if place.topic == TOPICS.labels:
        return bool(world.truth(TOPICS.training))
    return bool(world.truth(TOPICS.predictions, place.partition))


def _written(world: World) -> int:
    return sum(len(log.slots) for log in world.broker.logs.values())


def _meet(world: World, what: str) -> None:
    """Start each worker alone and let it work; it has to end by itself."""
    for name in world.scenario.workers:
        world.start(name)
        for _ in range(TICKS + world.scenario.settings.attempts_max):
            process = world.processes[name]
            if process.alive and process.daemon is not None:
                world._run(process, process.daemon.tick)
        if world.processes[name].alive:
            raise Violation("F62", f"{name} goes on without the {what}")
        world.expel(name)
