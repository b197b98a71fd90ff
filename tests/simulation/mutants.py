"""Broken programs: each breaks one promise in a way that somebody might write, and must be caught.

A mutant is a subclass of a production part (or of a fake), handed to the world in its place; nothing is patched.
`MUTANTS` names for each the invariants of which at least one has to be reported.
"""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec

from streamal.core.books import Books
from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.money import Settlements
from streamal.core.fold import Fold
from streamal.core.learned import Learned
from streamal.core.model.model import LabelRules, Model
from streamal.core.new_classes import NewClasses
from streamal.core.pending import Pending
from streamal.core.records import (
    Closing,
    Lane,
    OffsetAndMetadata,
    Outcome,
    OutputRecord,
    Record,
    Reply,
    Request,
    SchemaSet,
    TopicPartition,
)
from streamal.core.snapshot import encode_snapshot
from streamal.core.state import PartitionState, decode_state, encode_state
from streamal.daemon.daemon import Daemon, Settings
from streamal.daemon.poison import Poison
from streamal.edge.memory import MemoryTransport
from streamal.errors import Uncommitted
from tests.simulation.fakes import FINGERPRINT, Chain, Shelf
from tests.simulation.scenario import CLASSES, GROUP, TOPICS, Scenario
from tests.simulation.world import Program


class NotAtomic(MemoryTransport):
    """Outputs are visible before the offsets have moved (F3)."""

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        for output in outputs:
            self.append(output.topic, output.partition, output.key, output.value)
        super().commit([], offsets)


class ForgetsState(MemoryTransport):
    """The sampler's state is not committed with the offset (F5)."""

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        forgotten = {
            place: OffsetAndMetadata(offset, "")
            for place, (offset, _) in offsets.items()
            if place.topic == TOPICS.events
        }
        super().commit(outputs, {**offsets, **forgotten})


class KeepsRawTokens(MemoryTransport):
    """The tokens are taken over as a bare number when the share changes (F63)."""

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        super().commit(outputs, {place: self._change(place, *offset) for place, offset in offsets.items()})

    def _change(self, place: TopicPartition, offset: int, metadata: str) -> OffsetAndMetadata:
        before = self.committed(GROUP).get(place, OffsetAndMetadata(0, "")).metadata
        if place.topic == TOPICS.events and before:
            old, new = (decode_state(text, PartitionState) for text in (before, metadata))
            assert old is not None and new is not None  # noqa: PT018
            if old.counters and new.counters and old.counters.terms != new.counters.terms:
                tokens = new.counters.tokens + self._too_many(old.counters, new.counters)
                metadata = encode_state(msgspec.structs.replace(new, counters=new.counters._replace(tokens=tokens)))
        return OffsetAndMetadata(offset, metadata)

    def _too_many(self, old: BudgetCounters, new: BudgetCounters) -> int:
        """Return how many tokens the change brings that were never earned."""
        assert old.terms is not None and new.terms is not None  # noqa: PT018
        return old.tokens - new.terms.tokens


class GrantsTheBurstAgain(KeepsRawTokens):
    """Another share is taken for a new partition (F63)."""

    def _too_many(self, old: BudgetCounters, new: BudgetCounters) -> int:
        assert new.terms is not None
        return new.terms.price


class NeverFences(MemoryTransport):
    """Who has lost its place goes on writing (F11)."""

    def _require_member(self) -> None:
        """Believe it."""

    def _require_owner(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Believe that too."""


class ReadsUncommitted(MemoryTransport):
    """Readers see what is not committed yet."""

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        log = self._log(topic, partition)
        hidden = [record for seat in log.unfinished for where, record in seat.written if where is log]
        found = super().read(topic, partition, offset, records_max)
        return sorted([*found, *(record for record in hidden if record.offset >= offset)], key=lambda r: r.offset)


class NeverRewinds(Daemon):
    """After an abort the loop goes on with the next records (F9)."""

    def _back_off(self, error: Uncommitted) -> None:
        super()._back_off(error)
        self._attempts = 0


class HoldsForEver(Daemon):
    """What was held back is kept, although the transport goes back to where it began (F66)."""

    def _rewind(self) -> None:
        self._transport.rewind()


class RefusesAtOnce(Daemon):
    """A reply to a request that was not read yet counts as unknown (F24)."""

    _polled = False

    def _take_over(self) -> None:
        super()._take_over()
        self._polled = True

    def _fold_logs(self, share_s: float | None = None) -> None:
        self._polled = False
        super()._fold_logs(share_s)

    def _fold_requests(self) -> None:
        if not self._polled:
            super()._fold_requests()


class NeverWaits(Daemon):
    """A new owner works with what it can read, however far its predecessor was."""

    def _fold_logs(self, share_s: float | None = None) -> None:
        committed, self._committed = self._committed, {}
        super()._fold_logs(share_s)
        self._committed = committed


class ExpiresAtOnce(Daemon):
    """What is due expires, whether or not the replies that came in time were read (F20)."""

    def _replies_polled_until(self, polled: Sequence[Record], now: float) -> float:
        return now


class TrustsTheTopics(Daemon):
    """Open requests that are on no topic any more are not missed (F62)."""

    def _fold_all(self) -> None:
        self._fold_logs(math.inf)


class StartsAtOnce(Daemon):
    """Does not wait at its start for requests that an unfinished transaction hides; misses those that are lost."""

    def _fold_all(self) -> None:
        logs = self._transport.logs  # type: ignore[attr-defined]  # a memory transport's
        if any(log.unfinished for log in logs.values()):
            self._fold_logs(math.inf)
        else:
            super()._fold_all()


class TrustsTheOffsets(Daemon):
    """Who takes partitions over believes their offsets, with a state or without (F61)."""

    def _require_consistent(self, assignment: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Believe them."""


class ProducersClock(Daemon):
    """Time is what the last event claims (F36)."""

    def _read_clock(self) -> float:
        for partition in range(self._rules.partitions):
            for record in self._transport.read(TOPICS.events, partition, 0, 1000):
                try:
                    self._now = float(msgspec.json.decode(record.value or b"")["time"])
                except (KeyError, TypeError, ValueError, UnicodeError, RecursionError):
                    continue
        return self._now


class BelievesEveryJump(Daemon):
    """Time is what the clock says, however it came there (F64)."""

    def __init__(self, settings: Settings, *parts: Any) -> None:
        super().__init__(replace(settings, clock_settle_s=0.0), *parts)


class SpreadsAWrongClock(Daemon):
    """Time is never before what any worker has noted (F64)."""

    def _read_clock(self) -> float:
        self._now = max(super()._read_clock(), self.fold.books.now, self.fold.books.asked_at)
        return self._now


class FoldsEarly(Daemon):
    """The model learns what it is about to commit, whether or not that succeeds."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        transport = self._transport
        assert isinstance(transport, _Telling)
        transport.told = self._learn

    def _learn(self, output: OutputRecord) -> None:
        if output.topic == TOPICS.training and output.value is not None:
            log = self._transport._log(TOPICS.training, 0)  # type: ignore[attr-defined]  # a memory transport's
            self.fold.apply_training(max(self.fold.books.version.offset, len(log.slots)), output.value)


class _Telling(MemoryTransport):
    """Tells of the outputs before they are written."""

    told: Callable[[OutputRecord], None] | None = None

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if self.told is not None:
            for output in outputs:
                self.told(output)
        super().commit(outputs, offsets)


class AnySnapshot(Shelf):
    """Snapshots of another make are taken for ours (F41)."""

    def load(self) -> list[bytes]:
        return [_ours(data) for data in super().load()]


class NoChecksum(Shelf):
    """Damaged snapshots are not left out (F39)."""

    def load(self) -> list[bytes]:
        return [stored.data for stored in self.disk]


class AcceptsAll(Pending):
    """Every reply is learned, to whatever request (F18, F23)."""

    def outcome(self, reply: Reply, closings: Mapping[str, str]) -> Outcome:
        if reply.request not in self._open:
            self._open[reply.request] = Request(reply.request, {}, None, {}, 0, Lane.AUDIT, "", 0, 1, 0, 0)
        return Outcome.ABSTAINED if reply.label is None else Outcome.ACCEPTED


class ForgetsTheClosed(Pending):
    """A second reply in the same step is joined again (F18)."""

    def outcome(self, reply: Reply, closings: Mapping[str, str]) -> Outcome:
        return super().outcome(reply, {})


class LearnsWhatItKnows(Pending):
    """A natural label is learned as often as it is told."""

    def natural_outcome(self, event: str, label: str, labels: Mapping[str, str]) -> Outcome:
        return Outcome.ACCEPTED


class CountsWhatItSees(Pending):
    """Open requests that an unfinished transaction hides are not counted (F13)."""

    def count(self, partition: int, lane: Lane, asked: int = 0) -> int:
        return super().count(partition, lane)


class LearnsUnasked(Daemon):
    """Natural labels are learned although ``labels.natural`` is off (F67)."""

    def __init__(self, settings: Settings, *parts: Any) -> None:
        rules = replace(settings.rules, wire=replace(settings.rules.wire, natural=True))
        super().__init__(replace(settings, rules=rules), *parts)


class CountsNoClasses(NewClasses):
    """Nobody's new classes are counted (F67)."""

    def note(self, annotator: str | None, at: float) -> None:
        """Forget it."""


class CountsNoMemory(Pending):
    """Open requests take no memory (F65)."""

    def open_bytes(self, partition: int, lane: Lane, asked: int, largest: int) -> int:
        return 0


class ForgetsDeaths(Poison):
    """A death is not counted beside the offset: the worker dies for ever (F35)."""

    def take_over(
        self, owned: Mapping[TopicPartition, OffsetAndMetadata], events: str
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        self.look(owned, events)
        return {}


class IsNeverCareful(Poison):
    """Events are never taken one by one (F35)."""

    def look(self, owned: Mapping[TopicPartition, OffsetAndMetadata], events: str) -> None:
        self.careful = False


class BlamesTheFirst(Poison):
    """The first event of a step is refused after the first death in it (F35)."""

    def begin(self, events: Iterable[Record]) -> None:
        self.careful = True
        super().begin(events)


class RefundsTwice(Settlements):
    """What was reserved too much is given back twice."""

    def fold(self, record: Closing) -> None:
        super().fold(record)
        super().fold(record)


class KeepsFirstValues(Books):
    """The first value of a feature says its type (F32)."""

    def apply_request(self, request: Request) -> None:
        before = self.samples or []
        count, known = len(before), {name for features in before for name in features}
        super().apply_request(request)
        if self.samples is not None and len(self.samples) > count:
            self.samples[-1] = {name: value for name, value in self.samples[-1].items() if name not in known}


class BelievesTheLog(Learned):
    """A schema in the log overrules the declared types (F32)."""

    def _set_schema(self, record: SchemaSet) -> None:
        super()._set_schema(record)
        assert self.schema is not None
        self.schema = replace(self.schema, kinds={**self.schema.kinds, **record.features})


class TellsNoDifferences(Learned):
    """What the log's schema says otherwise than the declared one is ignored in silence (F32)."""

    def _set_schema(self, record: SchemaSet) -> None:
        super()._set_schema(record)
        self.differences = ()


_salts = itertools.count()


def unseeded(scenario: Scenario) -> Fold:
    """Return a fold whose model starts elsewhere each time."""
    fold = scenario.new_fold()
    fold.learned.model = Model(Chain(str(next(_salts))), LabelRules(CLASSES, scenario.learn_new))
    return fold


def with_pending(kind: type[Pending]) -> Program:
    """Return the program with another `Pending`."""

    def new_fold(scenario: Scenario) -> Fold:
        fold = scenario.new_fold()
        fold.books.pending = kind(scenario.closed_max)
        return fold

    return Program(new_fold=new_fold)


def keeps_first_values(scenario: Scenario) -> Fold:
    """Return a fold that infers the schema from the first values."""
    fold = scenario.new_fold()
    fold.books = KeepsFirstValues(**_fields_of(fold.books))
    return fold


def with_learned(kind: type[Learned]) -> Program:
    """Return the program with another `Learned`."""

    def new_fold(scenario: Scenario) -> Fold:
        fold = scenario.new_fold()
        fold.learned = kind(**_fields_of(fold.learned))
        return fold

    return Program(new_fold=new_fold)


def _fields_of(part: Books | Learned) -> dict[str, Any]:
    return {field.name: getattr(part, field.name) for field in fields(part)}


def refunds_twice(scenario: Scenario) -> Fold:
    """Return a fold that is too generous."""
    fold = scenario.new_fold()
    fold.books.settlements = RefundsTwice()
    return fold


def counts_no_classes(scenario: Scenario) -> Fold:
    """Return a fold that lets anybody create classes."""
    fold = scenario.new_fold()
    fold.books.new_classes = CountsNoClasses()
    return fold


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken program, and the checks of which one must catch it."""

    program: Program
    caught_by: frozenset[str]
    first_seed: int = 0
    kind: str = "swarm"


def _mutant(caught_by: str, program: Program) -> Mutant:
    return Mutant(program, frozenset(caught_by.split()))


MUTANTS: Mapping[str, Mutant] = {
    "non-atomic commit": _mutant("I1 I2 I3 I8", Program(transport=NotAtomic)),
    "no pending check": _mutant("I3 I8 I9", with_pending(AcceptsAll)),
    "joins twice in a step": _mutant("I3 I8", with_pending(ForgetsTheClosed)),
    "sampler state not committed": _mutant("log I11", Program(transport=ForgetsState)),
    "tokens of another share": Mutant(Program(transport=KeepsRawTokens), frozenset({"I2"}), first_seed=400),
    "a burst for each share": _mutant("I2", Program(transport=GrantsTheBurstAgain)),
    "no rewind after an abort": _mutant("I1 I3 I16", Program(daemon=NeverRewinds)),
    "keeps what it has held back": _mutant("I1 I16 I3", Program(daemon=HoldsForEver)),
    "counts no memory": _mutant("I9", with_pending(CountsNoMemory)),
    "no fencing": _mutant("I1 I7 I16", Program(transport=NeverFences)),
    "refuses unknown replies at once": _mutant("I3", Program(daemon=RefusesAtOnce)),
    "does not wait for the predecessor": Mutant(Program(daemon=NeverWaits), frozenset({"I2", "I3"}), first_seed=500),
    "expires what was answered": _mutant("I3", Program(daemon=ExpiresAtOnce)),
    "snapshot of another make": _mutant("I4 I5", Program(shelf=AnySnapshot)),
    "snapshot without checksum": _mutant("I4 I5", Program(shelf=NoChecksum)),
    "does not miss lost requests": _mutant("F62 I2", Program(daemon=TrustsTheTopics)),
    "does not miss lost states or events": _mutant("F62 I2", Program(daemon=TrustsTheOffsets)),
    "record-timestamp clock": _mutant("I11 I16 I3", Program(daemon=ProducersClock)),
    "believes every jump of the clock": _mutant("I11", Program(daemon=BelievesEveryJump)),
    "spreads a wrong clock": _mutant("I11", Program(daemon=SpreadsAWrongClock)),
    "unseeded model": _mutant("I4 I5", Program(new_fold=unseeded)),
    "folds before the commit": _mutant("I3 I4 I5 I16 log", Program(daemon=FoldsEarly, transport=_Telling)),
    "reads uncommitted": _mutant("I3 I4 I5 I16 log", Program(transport=ReadsUncommitted)),
    "learns natural labels twice": _mutant("I3", with_pending(LearnsWhatItKnows)),
    "learns natural labels that are off": _mutant("I3", Program(daemon=LearnsUnasked)),
    "counts no new classes": Mutant(Program(new_fold=counts_no_classes), frozenset({"I9"}), 800),
    "the first value says the type": _mutant("F32 I1", Program(new_fold=keeps_first_values)),
    "the log overrules a declared type": _mutant("F32 I1", with_learned(BelievesTheLog)),
    "tells no differences of the schema": _mutant("F32", with_learned(TellsNoDifferences)),
    "forgets deaths": Mutant(Program(poison=ForgetsDeaths), frozenset({"I16", "I1"}), kind="lethal"),
    "is never careful": Mutant(Program(poison=IsNeverCareful), frozenset({"I16", "I1"}), kind="lethal"),
    "blames the first of a step": Mutant(Program(poison=BlamesTheFirst), frozenset({"I1"}), kind="lethal"),
    "refunds twice": _mutant("I2", Program(new_fold=refunds_twice)),
    "counts only the open requests that it sees": _mutant(
        "I9", replace(with_pending(CountsWhatItSees), daemon=StartsAtOnce)
    ),
}


def _ours(data: bytes) -> bytes:
    try:
        return encode_snapshot(pickle.loads(data)[2], FINGERPRINT)
    except pickle.UnpicklingError:
        return data
