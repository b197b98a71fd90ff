"""The world around the daemon: one broker, one clock, annotators, and workers that die and come back.

It carries out the script's actions, and at the end lets everything come to rest.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from streamal.core.budget.sampler import Budget
from streamal.core.codec.events import encode
from streamal.core.fold import Fold
from streamal.core.records import OffsetAndMetadata, Record, SchemaSet, TopicPartition, coordinates
from streamal.core.state import TrainerState, encode_state
from streamal.daemon.daemon import Daemon
from streamal.daemon.poison import Poison
from streamal.edge.memory import Broker, MemoryTransport
from streamal.errors import Behind, Fatal, Fenced, InconsistentLog
from tests.simulation import losses
from tests.simulation.annotators import Annotators
from tests.simulation.fakes import FakeClock, MarkLog, MarkMeter, Notes, NoTimer, Shelf, SimulatedCrash
from tests.simulation.faults import Plan, no_faults
from tests.simulation.process import Process, Violation
from tests.simulation.scenario import GROUP, OTHER_SHARES, TOPICS, Action, Scenario
from tests.simulation.strikes import Strikes

ROUNDS_MAX = 150
POISON_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Program:
    """What is simulated: production, unless a mutant replaces a part."""

    daemon: type[Daemon] = Daemon
    transport: type[MemoryTransport] = MemoryTransport
    shelf: type[Shelf] = Shelf
    new_fold: Callable[[Scenario], Fold] = Scenario.new_fold
    poison: type[Poison] = Poison


class World:
    """A broker and all that happens to it."""

    def __init__(self, scenario: Scenario, program: Program | None = None, plan: Plan = no_faults) -> None:
        self.scenario, self.program = scenario, program or Program()
        self.clock, self.marks, self.trace = FakeClock(), Counter[str](), list[str]()
        self.broker = Broker()
        for topic in TOPICS:
            one = topic in {TOPICS.labels, TOPICS.training, TOPICS.dead_letters}
            self.broker.create(topic, 1 if one else scenario.partitions)
        if scenario.outdated:
            self._log_outdated_schema()
        self.strikes = Strikes(self, plan)
        self.broker.fault = self.strikes
        self.annotators = Annotators(self.broker, self.clock, self.say)
        self.shelves = {name: self.program.shelf() for name in scenario.workers}
        self.notes = {name: Notes() for name in scenario.workers}
        self.processes: dict[str, Process] = {}
        self.running: list[Process] = []
        self.budget, self.settings = scenario.budget, scenario.settings
        self.budgets: list[tuple[dict[int, int], Budget]] = []
        """The budgets before each change of the share, with how many predictions each partition had then."""
        self.lost: str | None = None
        """What is lost just now: a worker that meets it must end."""
        self.refusable: set[str] = set()
        """Coordinates of the events that must be refused; all others must be predicted."""
        self.placeholders: set[str] = set()
        """Coordinates of the events that are accepted before there is a schema and must be refused afterwards."""
        self.lethal: set[str] = set()
        """Those of the others that kill whoever predicts them, once the model has learned anything."""

    # What the script does.

    def act(self, action: Action) -> None:
        """Carry out one line of the script."""
        do, who, number, value = action
        if do in {"event", "bad event", "placeholder", "lethal event"}:
            self.produce(int(number), value, do)
        elif do == "reply":
            self.annotators.reply(who, int(number), value)
        elif do == "clock":
            self.say(f"clock {number:+}")
            self.clock.move(number)
        elif do == "jump":
            self.say(f"clock jumps by {number:+}")
            self.marks["clock back"] += number < 0
            self.clock.jump(number)
        elif do == "skew":
            self.say(f"clock of {who} is wrong by {number:+}")
            self.marks["a worker's clock is wrong"] += bool(number)
            self.clock.skew(who, number)
        elif do == "share":
            self.change_share(OTHER_SHARES[int(number)])
        elif do in {"tick", "kill", "leave", "expel"}:
            {"tick": self.tick, "kill": self.kill, "leave": self.leave, "expel": self.expel}[do](who)
        elif do.startswith("lose "):
            losses.lose(self, do.removeprefix("lose "))
        else:
            self.tamper(do, who)

    def change_share(self, share: Fraction) -> None:
        """Stop all workers; who starts from now on is configured with another *share*."""
        self.say(f"share {share}")
        for name in list(self.processes):
            self.leave(name)
            self.kill(name)
        counts = {p: len(self.truth(TOPICS.predictions, p)) for p in range(self.scenario.partitions)}
        self.budgets.append((counts, self.budget))
        self.budget, self.settings = self.scenario.under(share)
        self.marks["share changed"] += any(counts.values())

    def budget_at(self, partition: int, number: int) -> Budget:
        """Return the budget under which prediction *number* (from 0 on) of *partition* was made."""
        return next((budget for counts, budget in self.budgets if number < counts[partition]), self.budget)

    def produce(self, partition: int, value: bytes | None, kind: str) -> None:
        """Append an event."""
        offset = self.broker.append(TOPICS.events, partition, None, value)
        kinds = {"bad event": self.refusable, "placeholder": self.placeholders, "lethal event": self.lethal}
        if kind in kinds:
            kinds[kind].add(coordinates(partition, offset))
        self.say(f"{kind} {partition}-{offset}")

    def _log_outdated_schema(self) -> None:
        """Let the log begin with the schema that an earlier configuration led to."""
        record = SchemaSet({"x": "string", "old": "number"}, 0.0)
        offset = self.broker.append(TOPICS.training, 0, None, encode(record))
        state = encode_state(TrainerState(offset + 1, 1))
        self.broker.groups[GROUP].offsets[TopicPartition(TOPICS.labels, 0)] = OffsetAndMetadata(0, state)
        self.marks["schema of the log differs"] += 1

    def tamper(self, do: str, who: str) -> None:
        """Do something to the snapshots of *who*."""
        shelf = self.shelves[who]
        self.say(f"snapshots of {who}: {do}")
        if do == "full":
            shelf.full = not shelf.full
        elif do == "copy":
            for other in self.shelves.values():
                shelf.copy(other)
        else:
            {"lose": shelf.lose, "rot": shelf.rot, "remake": shelf.remake, "garble": shelf.garble}[do]()

    # Workers.

    def tick(self, name: str) -> int:
        """Let *name* do one step, after a start if it is not there; return how many records it consumed."""
        process = self.processes.get(name)
        if process is None or not process.alive or (process.paused and process.fenced):
            process = self.start(name)
        if process.paused or not process.alive:
            return 0
        assert process.daemon is not None
        if self.strikes.on:
            self.say(f"tick {name}")
        consumed = self._run(process, process.daemon.tick)
        self._check_clock(process)
        if process.alive and process.daemon._stopping:
            self.leave(name)
        return consumed

    def _check_clock(self, process: Process) -> None:
        """I11: a worker believes no jump of its clock, and no time that another one has noted, before it has lasted."""
        assert process.daemon is not None
        limits, elapsed = self.scenario.settings, self.clock.elapsed
        began, since = process.started
        mine = [
            at
            for at, who, size in self.clock.jumps
            if who in {None, process.name} and at >= since and size > limits.clock_jump_s
        ]
        if any(later - at >= limits.clock_settle_s for at, later in itertools.pairwise([*mine, elapsed])):
            return
        if process.daemon._now > began + (elapsed - since) + 2 * limits.clock_jump_s:
            raise Violation("I11", f"{process.name} believes that it is {process.daemon._now}")

    def start(self, name: str) -> Process:
        """Start a process under *name*, fencing the one before; it may die on the way."""
        process = Process(name, self.processes.get(name))
        self.processes[name] = process
        shelf = self.shelves.setdefault(name, self.program.shelf())
        log, clock = MarkLog(self.marks, shelf), self.clock.of(name)

        process.started = clock.now(), clock.monotonic()

        def boot() -> int:
            process.transport = self.program.transport(self.broker, GROUP, name, TOPICS.events, TOPICS.labels)
            process.daemon = self.program.daemon(
                self.settings,
                lambda: self.program.new_fold(self.scenario),
                process.transport,
                shelf,
                clock,
                MarkMeter(self.marks),
                log,
            )
            if self.scenario.lethal:
                process.daemon.poison = self.program.poison(
                    self.notes.setdefault(name, Notes()), NoTimer(), POISON_ATTEMPTS, math.inf
                )
            process.daemon.start()
            return 0

        self.say(f"start {name}")
        self._run(process, boot, starting=True)
        return process

    def kill(self, name: str) -> None:
        """Kill *name* between two steps: nobody tells the broker."""
        process = self.processes.get(name)
        if process is not None and not process.paused:
            self.say(f"kill {name}")
            process.alive = False

    def expel(self, name: str) -> None:
        """Let the session of *name* time out, whether or not it lives."""
        process = self.processes.get(name)
        if process is not None and process.transport is not None:
            self.say(f"expel {name}")
            self.broker.expel(GROUP, name)
            process.fenced = True

    def leave(self, name: str) -> None:
        """Stop *name* as SIGTERM does, and look whether it has left in good order (I13)."""
        process = self.processes.get(name)
        if process is None or not process.alive or process.paused or process.daemon is None:
            return
        daemon, transport = process.daemon, process.transport
        assert transport is not None
        self.say(f"leave {name}")

        def end() -> int:
            daemon.stop()
            daemon.run()
            transport.close()
            return 0

        self._run(process, end)
        if process.alive:
            process.alive, process.fenced = False, True
            self.marks["clean stop"] += 1
            if any(transport._member in log.unfinished for log in self.broker.logs.values()):
                raise Violation("I13", f"{name} has left an open transaction")

    def _run(self, process: Process, call: Callable[[], int], *, starting: bool = False) -> int:
        """Run *call* in *process*; whatever ends the process ends here."""
        self.running.append(process)
        try:
            return call()
        except SimulatedCrash:
            if starting and process.before is not None:
                self.marks["crash inside recovery"] += 1
        except Fenced:
            self.marks["zombie fenced"] += process.woken and process.fenced
            self.say(f"{process.name} is fenced")
        except InconsistentLog as error:
            if self.lost is not None:
                self.marks[f"halted without its {self.lost}"] += 1
            elif not isinstance(error.__cause__, Behind):
                raise Violation("log", f"{process.name}: {error}") from error
            else:
                self.marks["gave up waiting for the log"] += 1
        except Fatal:
            self.marks["gave up"] += 1
        except Violation:
            raise
        except Exception as error:
            raise Violation("I8", f"{process.name} raised {type(error).__name__}: {error}") from error
        finally:
            self.running.pop()
        process.alive = False
        return 0

    # The end.

    def settle(self) -> None:
        """Stop all faults and run until nothing is left to do, then until every request is closed (I16)."""
        self.say("faults stop")
        self.strikes.stop()
        for name, process in self.processes.items():
            if not process.alive:
                self.broker.expel(GROUP, name)
        for name in list(self.clock.skews):
            self.clock.skew(name, 0.0)
        self._run_dry("lag")
        self.clock.jump(self.clock.latest - self.clock.time)
        for seconds in (0.0, self.scenario.settings.clock_settle_s, self.scenario.settings.rules.ttl_s):
            self.clock.move(seconds + 1.0)
            self._run_dry("expiry")

    def _run_dry(self, what: str) -> None:
        quiet = 0
        for _ in range(ROUNDS_MAX):
            ends = [len(log.slots) for log in self.broker.logs.values()]
            busy = sum(self.tick(name) for name in self.scenario.workers)
            busy += sum(daemon._attempts for daemon in self.daemons()) + len(self.scenario.workers)
            busy -= sum(process.alive for process in self.processes.values())
            still = not busy and ends == [len(log.slots) for log in self.broker.logs.values()]
            quiet = quiet + 1 if still else 0
            if quiet == 2:  # a worker that becomes careful skips a step (F35)
                return
        raise Violation("I16", f"still busy after {ROUNDS_MAX} rounds without faults ({what})")

    def finish(self) -> None:
        """Let all workers leave; nothing may be unfinished then (I13)."""
        for name in list(self.processes):
            self.leave(name)
        if any(log.unfinished for log in self.broker.logs.values()):
            raise Violation("I13", "a transaction is open after everybody has left")

    def daemons(self) -> Iterator[Daemon]:
        """Return the daemons of the living."""
        for process in self.processes.values():
            if process.alive and process.daemon is not None:
                yield process.daemon

    def truth(self, topic: str, partition: int = 0) -> list[Record]:
        """Return what was committed to a partition, whether or not an open transaction hides it for now."""
        return [record for record in self.broker.logs[topic, partition].slots if record is not None]

    def say(self, line: str) -> None:
        """Add a line to the trace."""
        self.trace.append("  " * len(self.running) + line)
