"""What happens inside of the daemon's I/O calls: faults strike, and what only shows there is noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streamal.core.records import TopicPartition
from streamal.edge.memory import _Log, _Member
from streamal.errors import Uncommitted
from tests.simulation.fakes import SimulatedCrash
from tests.simulation.faults import Plan
from tests.simulation.process import Process, Violation
from tests.simulation.scenario import GROUP, TOPICS

if TYPE_CHECKING:
    from tests.simulation.world import World

NESTED_TICKS = 2


class Strikes:
    """The broker's fault hook. Others may work while a worker stands still inside of a call."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.plan = world, plan
        self.points, self.on = 0, True
        self._slow: list[tuple[_Log, _Member]] = []
        self._slow_until = 0
        self._watched: dict[str, Callable[[Process], None]] = {
            "join:after": self._watch_join,
            "poll:after": self._watch_poll,
            "commit:before": self._watch_batch,
            "commit:after": self._watch_commit,
        }

    def stop(self) -> None:
        """Strike no more."""
        self.on = False
        self._catch_up()

    def __call__(self, instance: str, point: str) -> None:
        """Be told of an I/O point; let the plan strike."""
        process = self.world.running[-1]
        if point in self._watched:
            self._watched[point](process)
        if self._slow and self.points >= self._slow_until:
            self._catch_up()
        if self.on:
            fault = self.plan(self.points, point)
            self.points += 1
            if fault is not None:
                self.world.say(f"{fault} at {point} of {instance} (point {self.points - 1})")
                self._strike(process, fault, point)

    def _strike(self, process: Process, fault: str, point: str) -> None:
        self.world.marks[f"fault {fault}"] += 1
        if fault == "crash":
            raise SimulatedCrash
        if fault in {"abort", "unknown"}:
            if point.startswith("send") and point != "send:0":
                self.world.marks["abort after outputs"] += 1
            elif point == "commit:before":
                self.world.marks["unknown outcome that had not succeeded"] += 1
            elif point == "commit:after":
                self.world.marks["unknown outcome that had succeeded"] += 1
            raise Uncommitted(f"simulated at {point}")
        if fault == "slow":
            self._slow_down(process)
        elif fault == "signal":
            if process.daemon is not None:
                process.daemon.stop()
        elif len(self.world.running) == 1 and process.daemon is not None:
            self._pause(process, fault)

    def _pause(self, process: Process, fault: str) -> None:
        """Let the others work while *process* stands still inside of an I/O call, and wake it again."""
        process.paused = True
        others = [name for name in self.world.scenario.workers if name != process.name]
        if fault == "zombie":
            self.world.expel(process.name)
        if fault == "replaced" or (fault == "zombie" and not others):
            others.append(process.name)
            self.world.start(process.name)
        elif fault == "rebalance":
            for name in others or ("0",):
                self.world.leave(name)
                self.world.tick(name)
                if name == "0":
                    self.world.leave(name)
        for turn in range(NESTED_TICKS):
            for name in others:
                self.world.annotators.reply("good", self.points + turn)
                self.world.tick(name)
        process.paused, process.woken = False, True
        self.world.say(f"{process.name} wakes")

    def _slow_down(self, process: Process) -> None:
        """Let the markers of the transaction at hand reach some of its topics only later."""
        assert process.transport is not None
        touched = [log for log in self.world.broker.logs.values() if process.transport._member in log.unfinished]
        for log in touched[self.points % 2 :]:
            log.unfinished[marker := _Member()] = log.unfinished[process.transport._member]
            self._slow.append((log, marker))
        self._slow_until = self.points + 20 + self.points % 200

    def _catch_up(self) -> None:
        for log, marker in self._slow:
            del log.unfinished[marker]
        self._slow.clear()

    def _watch_join(self, process: Process) -> None:
        if process.before is not None:
            process.before.fenced = True

    def _watch_batch(self, process: Process) -> None:
        generation = self.world.broker.groups[GROUP].generation
        self.world.marks["two rebalances in one batch"] += 0 < process.generation <= generation - 2

    def _watch_commit(self, process: Process) -> None:
        if process.fenced:
            raise Violation("I7", f"{process.name} has committed after it was fenced")

    def _watch_poll(self, process: Process) -> None:
        """Note what only this moment shows: a reply that overtakes its request, two rebalances between polls."""
        generation = self.world.broker.groups[GROUP].generation
        self.world.marks["two rebalances between polls"] += 0 < process.generation <= generation - 2
        process.generation = generation
        transport, daemon = process.transport, process.daemon
        place = TopicPartition(TOPICS.labels, 0)
        if transport is None or daemon is None or place not in transport._positions:
            return
        first, end = transport.assignment()[1][place].offset, transport._positions[place]
        for posted in reversed(self.world.annotators.posted):
            if posted.offset < first:
                break
            if posted.offset < end and posted.seen and posted.request not in daemon.fold.books.pending:
                self.world.marks["reply overtakes its request"] += 1
