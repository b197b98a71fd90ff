"""A broker like Kafka in memory, and a worker's `Transport` on it. Replay and simulation run on them.

The broker behaves like Kafka where a worker can notice: sparse offsets (markers and aborted records take slots),
unfinished transactions that hold back the last stable offset, generations, fencing (KIP-447). It has no clock, no
threads and no randomness.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.errors import ConfigError, Fenced, InconsistentLog, Uncommitted
from streamal.ports import require_small_states

__all__ = ["Broker", "MemoryTransport"]

_START, _NO_FAULT = OffsetAndMetadata(0, ""), nullcontext()


@dataclass(eq=False, slots=True)
class _Log:
    """One partition. ``slots[offset]`` is None for a marker, and for a record that is aborted or not committed yet."""

    slots: list[Record | None] = field(default_factory=list)
    begin: int = 0
    unfinished: dict[_Member, int] = field(default_factory=dict)  # -> the first offset of its transaction here

    def end(self) -> int:
        """Return the last stable offset."""
        return min(self.unfinished.values()) if self.unfinished else len(self.slots)

    def scan(self, offset: int, records_max: int, found: list[Record]) -> int:
        """Add up to *records_max* committed records from *offset* on to *found*; return where to go on."""
        slots, end, full = self.slots, self.end(), len(found) + records_max
        while offset < end and len(found) < full:
            record = slots[offset]
            offset += 1
            if record is not None:
                found.append(record)
        return offset


@dataclass(eq=False, slots=True)
class _Member:
    """One member of a group, with its transaction, which is unfinished while something is *written*.

    An instance that joins again is another member.
    """

    written: list[tuple[_Log, Record]] = field(default_factory=list)

    def write(self, log: _Log, output: OutputRecord) -> None:
        offset = len(log.slots)
        log.slots.append(None)
        log.unfinished.setdefault(self, offset)
        self.written.append((log, Record(output.topic, output.partition, offset, output.key, output.value)))

    def finish(self, *, committed: bool) -> None:
        """Show the records, or leave gaps for ever; either way a marker takes one offset of each log."""
        for log, record in self.written if committed else ():
            log.slots[record.offset] = record
        for log in dict.fromkeys(log for log, _ in self.written):
            del log.unfinished[self]
            log.slots.append(None)
        self.written.clear()


@dataclass(slots=True)
class _Group:
    """A consumer group; *owners* maps a partition to (its member, the generation since which that has been so)."""

    generation: int = 0
    members: dict[str, _Member] = field(default_factory=dict)
    places: list[TopicPartition] = field(default_factory=list)
    owners: dict[TopicPartition, tuple[_Member, int]] = field(default_factory=dict)
    offsets: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)

    def rebalance(self) -> None:
        """Begin a new generation: assign the partitions in turn to the members, in the order of their names."""
        self.generation += 1
        members = [self.members[name] for name in sorted(self.members)]
        before, self.owners = self.owners, {}
        for number, place in enumerate(self.places if members else ()):
            member = members[number % len(members)]
            owner, since = before.get(place, (None, 0))
            self.owners[place] = (member, since if owner is member else self.generation)


class _Topics:
    """The `Log` of a broker, and of each transport on it (there with fault points)."""

    def __init__(self, shared: _Topics | None = None) -> None:
        self.counts: dict[str, int] = {} if shared is None else shared.counts
        self.logs: dict[tuple[str, int], _Log] = {} if shared is None else shared.logs
        self.groups: defaultdict[str, _Group] = defaultdict(_Group) if shared is None else shared.groups

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of *topic*; 0 if there is no such topic."""
        return self.counts.get(topic, 0)

    def begin(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that was not trimmed."""
        return self._log(topic, partition).begin

    def end(self, topic: str, partition: int) -> int:
        """Return the last stable offset."""
        with self._io("end"):
            return self._log(topic, partition).end()

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        """Return up to *records_max* committed records from *offset* on; 0 means from the first that is still there.

        Raises:
            InconsistentLog: F14, the records from *offset* on were trimmed.
        """
        found: list[Record] = []
        with self._io("read"):
            log = self._log(topic, partition)
            if 0 < offset < log.begin:
                raise InconsistentLog(f"{topic}-{partition} starts at {log.begin}; {offset} was trimmed")
            log.scan(offset, records_max, found)
        return found

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Write one record outside any transaction and return its offset."""
        with self._io("append"):
            slots = self._log(topic, partition).slots
            slots.append(Record(topic, partition, offset := len(slots), key, value))
        return offset

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        """Write each of *outputs* outside any transaction and return their offsets."""
        return [self.append(each.topic, each.partition, each.key, each.value) for each in outputs]

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what *group* has committed."""
        with self._io("committed"):
            return dict(self.groups[group].offsets)

    def close(self) -> None:
        """Do nothing: a broker has nothing to release."""

    def _log(self, topic: str, partition: int) -> _Log:
        log = self.logs.get((topic, partition))
        if log is None:
            raise ConfigError(f"there is no partition {partition} of topic {topic!r}: create the topic first")
        return log

    def _io(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002  (a transport makes it two fault points)
        return _NO_FAULT


class Broker(_Topics):
    """Topics, groups and transactions, shared by any number of transports of one thread; itself a `Log`.

    Attributes:
        fault: called as ``fault(instance, point)`` before and after each I/O point of a transport; may raise, or
            change the broker. Points: ``join poll read end append committed rewind commit close``, each with
            ``:before`` and ``:after``, and ``send:k`` when *k* outputs of a transaction are written.
            `Uncommitted` at a send or at ``commit:before`` aborts the transaction; anything else leaves it
            unfinished, as a crash does, until the instance joins anew, rewinds, closes or is expelled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fault: Callable[[str, str], None] | None = None

    def create(self, topic: str, partitions: int) -> None:
        """Make *topic*, unless it is there; a ConfigError if it is there with another number of partitions."""
        assert partitions > 0
        if (have := self.counts.setdefault(topic, partitions)) != partitions:
            raise ConfigError(f"topic {topic!r} has {have} partitions, not {partitions}: partitions are fixed")
        for number in range(partitions):
            self.logs.setdefault((topic, number), _Log())

    def trim(self, topic: str, partition: int, before_offset: int) -> None:
        """Delete the records below *before_offset*, as retention does; offsets go on as before."""
        log = self._log(topic, partition)
        log.begin = max(log.begin, min(before_offset, log.end()))
        log.slots[: log.begin] = [None] * log.begin

    def join(self, group: str, instance: str, inputs: Sequence[str]) -> _Member:
        """Add *instance* to *group*, fence its namesake, and return it; *inputs* are the group's topics."""
        state = self.groups[group]
        if instance in state.members:
            state.members[instance].finish(committed=False)
        state.places = [TopicPartition(topic, number) for topic in inputs for number in range(self.partitions(topic))]
        member = state.members[instance] = _Member()
        state.rebalance()
        return member

    def expel(self, group: str, instance: str) -> None:
        """End a member's session and transaction, as the coordinator does after their time-out."""
        state = self.groups[group]
        if instance in state.members:
            state.members.pop(instance).finish(committed=False)
            state.rebalance()


class MemoryTransport(_Topics):
    """A worker's membership on a `Broker`; see `streamal.ports.Transport`. As in Kafka, it owns nothing before a poll.

    Every method of a worker that was expelled or replaced, except reading, raises `Fenced`.
    """

    def __init__(self, broker: Broker, group: str, instance: str, events_topic: str, labels_topic: str) -> None:
        super().__init__(broker)
        self._broker, self._group_name, self._instance, self._group = broker, group, instance, self.groups[group]
        self._log(events_topic, 0)
        if broker.partitions(labels_topic) != 1:
            raise ConfigError(f"topic {labels_topic!r} must have 1 partition: its owner is the trainer")
        with self._io("join"):
            self._member = broker.join(group, instance, (events_topic, labels_topic))
        self._generation = self._turn = self._seen = 0
        self._since: dict[TopicPartition, int] = {}
        self._committed: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._owned: dict[str, list[tuple[TopicPartition, _Log]]] = {}

    def assignment(self) -> tuple[int, Mapping[TopicPartition, OffsetAndMetadata]]:
        """Return (generation, owned partitions with their committed state); the mapping given out never changes."""
        return self._generation, self._committed

    def poll(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> list[Record]:  # noqa: ARG002  (never waits)
        """Return the next records at once; the partition of a topic that comes first changes with each poll."""
        self._point("poll:before")
        self._require_member()
        if self._seen != self._group.generation:
            self._pick_up()
        found: list[Record] = []
        self._turn += 1
        for topic, records_max in records_max_by_topic.items():
            owned, full = self._owned.get(topic, ()), len(found) + records_max
            for number in range(len(owned)):
                place, log = owned[(self._turn + number) % len(owned)]
                self._positions[place] = log.scan(self._positions[place], full - len(found), found)
        self._point("poll:after")
        return found

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Write *outputs* and move *offsets* in one transaction; a state that is too large is Fatal."""
        member = self._member
        require_small_states(offsets)
        logs = [self._log(output.topic, output.partition) for output in outputs]
        if member.written:
            raise Uncommitted(f"the last transaction of {self._instance!r} is unfinished: rewind first")
        try:
            for count, output in enumerate(outputs):
                self._point(f"send:{count}")
                self._require_member()
                member.write(logs[count], output)
            self._point("commit:before")
            self._require_member()
            self._require_owner(offsets)
        except Uncommitted:
            member.finish(committed=False)
            raise
        member.finish(committed=True)
        self._group.offsets.update(offsets)
        self._committed = {**self._committed, **offsets}
        self._point("commit:after")

    def rewind(self) -> None:
        """Abort what is unfinished, pick up the assignment, and go back to the committed offsets."""
        with self._io("rewind"):
            self._require_member()
            self._member.finish(committed=False)
            self._since = {}
            self._pick_up(rewound=True)

    def close(self) -> None:
        """Leave the group, if this member is still in it; an unfinished transaction is aborted."""
        if self._group.members.get(self._instance) is self._member:
            with self._io("close"):
                self._broker.expel(self._group_name, self._instance)

    def _pick_up(self, *, rewound: bool = False) -> None:
        """Read from the group what is ours; partitions that stayed ours without a break keep their positions."""
        self._seen = self._group.generation
        since = {place: since for place, (member, since) in self._group.owners.items() if member is self._member}
        if since == self._since and not rewound:
            return
        self._generation += 1
        self._committed = {place: self._group.offsets.get(place, _START) for place in since}
        kept = {place: self._positions[place] for place, _ in since.items() & self._since.items()}
        self._positions = {place: state.offset for place, state in self._committed.items()} | kept
        self._since, self._owned = since, {}
        for place in since:
            self._owned.setdefault(place.topic, []).append((place, self._log(*place)))

    def _require_member(self) -> None:
        if self._group.members.get(self._instance) is not self._member:
            raise Fenced(f"{self._instance!r} has left group {self._group_name!r}, or was expelled or replaced: end")

    def _require_owner(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Refuse offsets of an old generation, or of partitions that are not ours; as in Kafka, outputs alone pass."""
        if offsets and self._seen != self._group.generation:
            raise Uncommitted(f"group {self._group_name!r} was rebalanced: rewind and pick up the new assignment")
        if not offsets.keys() <= self._since.keys():
            self._member.finish(committed=False)
            raise Fenced(f"{self._instance!r} owns only {sorted(self._since)}, not all of {sorted(offsets)}: end")

    def _point(self, point: str) -> None:
        if self._broker.fault:
            self._broker.fault(self._instance, point)

    def _io(self, name: str) -> AbstractContextManager[None]:
        return self._points(name) if self._broker.fault else _NO_FAULT

    @contextmanager
    def _points(self, name: str) -> Iterator[None]:
        self._point(f"{name}:before")
        yield
        self._point(f"{name}:after")
