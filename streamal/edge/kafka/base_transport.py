"""What both Kafka clients share, second part: a worker's membership in the group, and its transactions.

The order of the steps, which exactly-once rests on, stands here once (KIP-98, KIP-447). The package of a client adds
how its library does each of them, and what the traps of that library need.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka.base import Cluster, ClusterLog
from streamal.edge.kafka.membership import (
    INPUTS_S,
    STABLE_S,
    Fence,
    NoOpenTransaction,
    describe_offset_reading,
    expired_offsets,
    require_inputs,
    require_known,
    take_in_turn,
)
from streamal.edge.kafka.readback import ReadBack
from streamal.errors import ConfigError, InconsistentLog, Uncommitted, Unreadable
from streamal.ports import require_small_states

__all__ = ["ClusterTransport", "WorkerOptions", "skip_advice"]

_ProducerT = TypeVar("_ProducerT")
_ConsumerT = TypeVar("_ConsumerT")


def skip_advice(topic: str, partition: int, offset: int) -> str:
    """Return the ways past a batch of an input that cannot be read."""
    return (
        f"mend it at the brokers; or stop all workers, and `streamal skip {topic} {partition} {offset} "
        '--why "…"` writes a dead letter for each of its records'
    )


@dataclass(frozen=True)
class WorkerOptions:
    """Who a worker is, and what it consumes.

    Attributes:
        group: the consumer group; its offsets carry the partitions' states.
        events_topic: to be consumed, shared among the workers of the group.
        labels_topic: likewise; it has one partition, whose owner is the trainer.
        instance: a name that this worker has again after a restart. With it, the worker takes its own partitions over
            at once (static membership), and a second worker of that name fences the first. Without it, its partitions
            wait for the end of its session and of its transaction.
        name: what else tells this process apart, where there is no *instance*.
        session_timeout_s: after so long without a sign of life a worker's partitions go to others.
        predictions_topic: where it has records although the group has no offset, the offsets have expired, and the
            promises with them: the worker refuses to start.
    """

    group: str
    events_topic: str
    labels_topic: str
    instance: str | None = None
    name: str = "worker"
    session_timeout_s: float = 10.0
    predictions_topic: str | None = None

    @property
    def transactional_id(self) -> str:
        """Return the name under which a successor fences this worker."""
        return f"{self.group}-{self.instance or self.name}"


class ClusterTransport(ClusterLog, Generic[_ProducerT, _ConsumerT]):
    """See `streamal.ports.Transport`.

    F45, a long log at start: it joins the group at the first poll, so that nobody waits while the log is folded.
    """

    def __init__(self, cluster: Cluster, options: WorkerOptions) -> None:
        super().__init__(cluster)
        self._options, self._fence = options, Fence(options.instance)
        self._generation = self._turn = 0
        self._looked_at = time.monotonic()
        self._membership: Any = None
        """What the client calls the group's metadata: offsets are committed in its name."""
        self._committed: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self._prefetched: dict[TopicPartition, deque[Record]] = {}
        self._unreadable: dict[TopicPartition, Unreadable] = {}
        """Partitions whose next batch, behind what is prefetched, cannot be read; they are not fetched any more."""
        self._no_open_transaction = NoOpenTransaction(self._servers, self._high_watermarks, self._last_stable)
        self._read_back = ReadBack(self._last_stable, self._no_open_transaction.note_end)
        self._producer: _ProducerT | None = None
        self._consumer: _ConsumerT | None = None
        try:
            self._inputs = self._count_inputs()
            with self._fence.guard(self._translate("join the cluster")):
                self._producer = self._new_producer()
                self._consumer = self._new_consumer()
        except BaseException:
            self.close()
            raise

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        """Return up to *records_max* committed records from *offset* on, our own last ones without asking for them."""
        place = self._require(topic, partition)
        with self._translate(f"ask for the end of {topic}-{partition}"):
            found = self._read_back.read(place, offset, self._beyond_gap(place, offset), records_max)
        if found is None:
            return super().read(topic, partition, offset, records_max)
        own, end = found
        if own:
            self._gaps[place] = own[-1].offset + 1, end
        return own

    def assignment(self) -> tuple[int, Mapping[TopicPartition, OffsetAndMetadata]]:
        """Return (generation, owned partitions with their committed state); the mapping given out never changes."""
        return self._generation, self._committed

    def poll(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> list[Record]:
        """Return the next records, waiting for them up to *timeout_s*; takes part in the group's rebalances.

        Raises:
            Uncommitted: a predecessor's transaction is unfinished, or the cluster in trouble; nothing was consumed.
            Unreadable: F57 to F59, the next batch of a partition cannot be read; what comes before it was consumed.
        """
        self._read_back.note_poll()
        try:
            with self._fence.guard(self._translate("poll")):
                self._prefetch(records_max_by_topic, timeout_s)
        except Uncommitted:
            self._look_at_inputs()
            raise
        if time.monotonic() - self._looked_at >= INPUTS_S:
            self._look_at_inputs()
        for place, error in self._unreadable.items():
            if records_max_by_topic.get(place.topic) and not self._prefetched.get(place):
                raise error
        self._turn += 1
        return take_in_turn(self._prefetched, records_max_by_topic, self._turn)

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Write *outputs* and move *offsets* in one transaction; `read` and `end` wait until it can be seen.

        Raises:
            Behind: F56, a transaction that is not ours, or not any more, is open where *outputs* go.
            Fatal: a state is above `streamal.ports.METADATA_BYTES_MAX`, or a record above the topic's limit.
        """
        require_small_states(offsets)
        places = {TopicPartition(*at) for at in {(output.topic, output.partition) for output in outputs}}
        for place in places:
            self._require(*place)
        with self._fence.guard(self._translate("commit")):
            if self._producer is None:
                raise Uncommitted("the outcome of the last transaction is unknown: rewind first")
            if offsets and (self._membership is None or not offsets.keys() <= self._committed.keys()):
                raise Uncommitted(f"we own {sorted(self._committed)}, not all of {sorted(offsets)}: rewind first")
            if outputs or offsets:
                self._read_back.forget()
                self._no_open_transaction.require(places)
                self._no_open_transaction.note_begin(places)
                written = self._transact(self._producer, outputs, offsets)
                self._read_back.note_commit(outputs, written)
        self._committed = {**self._committed, **offsets}

    def rewind(self) -> None:
        """Go back to the committed offsets, with a new producer where the last transaction's outcome is unknown."""
        self._read_back.forget()
        with self._fence.guard(self._translate("rewind")):
            if self._producer is None:
                self._producer = self._new_producer()
            self._drop_fetched()
            self._pick_up()

    def _look_at_inputs(self) -> None:
        """Raise a ConfigError if an input was deleted or has new partitions; if nobody answers, that is for later."""
        self._looked_at = time.monotonic()
        with suppress(Uncommitted):
            require_inputs(self._inputs, self.partitions)

    def _note_unreadable(self, error: Unreadable) -> None:
        """Note a batch that cannot be read, with the command that leads past it."""
        place = TopicPartition(error.topic, error.partition)
        self._unreadable[place] = Unreadable(*place, error.offset, error.why, skip_advice(*place, error.offset))

    @abstractmethod
    def _new_producer(self) -> _ProducerT:
        """Return a producer that has aborted, and fenced, whatever its predecessors left open; forget what is clear."""

    @abstractmethod
    def _new_consumer(self) -> _ConsumerT:
        """Return the group's consumer, which has not joined yet."""

    @abstractmethod
    def _prefetch(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> None:
        """Fetch what is next into `_prefetched`; after a rebalance, `_pick_up` instead."""

    @abstractmethod
    def _transact(
        self,
        producer: _ProducerT,
        outputs: Sequence[OutputRecord],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> Mapping[TopicPartition, int]:
        """Run one transaction and return the last offset written to each partition.

        F4, an unknown outcome: unless the transaction ends well, `_producer` is None afterwards.
        """

    @abstractmethod
    def _drop_fetched(self) -> None:
        """Let go what the client has fetched, and learn from it whether we are a member still."""

    @abstractmethod
    def _stop_fetching(self) -> tuple[Any, list[TopicPartition]]:
        """Return (our membership as it is now, None without one; the partitions that the group says are ours)."""

    @abstractmethod
    def _fetch_states(
        self, places: Sequence[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return the committed offset and state of those of *places* that have one; each question takes *timeout_s*."""

    @abstractmethod
    def _start_fetching(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Fetch from *offsets* on."""

    def _end(self, place: TopicPartition) -> int:
        """Return the last stable offset, asked for with those of all that a step reads back."""
        return self._read_back.end(place)

    def _count_inputs(self) -> dict[str, int]:
        """Return the number of partitions of both inputs; a ConfigError if one is missing or cannot be consumed."""
        labels_topic = self._options.labels_topic
        counts = {topic: self.partitions(topic) for topic in (self._options.events_topic, labels_topic)}
        for topic in counts:
            self._require(topic, 0)
        if counts[labels_topic] != 1:
            raise ConfigError(f"topic {labels_topic!r} must have 1 partition: its owner is the trainer")
        return counts

    def _pick_up(self) -> None:
        """Take over what the group says is ours, at the offsets and with the states that are committed.

        The membership is noted as it is now: once the group has moved on, the broker refuses offsets that are
        committed in its name (KIP-447). So it does not matter whether partitions were revoked in good order or lost.
        """
        self._generation += 1
        self._membership = None
        self._prefetched.clear()
        self._unreadable.clear()
        membership, places = self._stop_fetching()
        for place in places:
            require_known(place, self._inputs, self.partitions)
        with self._translate(describe_offset_reading(self._options.group, self._servers)):
            states = self._fetch_states(places, STABLE_S) if places else {}
        try:
            committed = self._with_first(places, states)
        except InconsistentLog:
            # an owner of before may have committed for the first time since the states were read: read them once more
            with self._translate(describe_offset_reading(self._options.group, self._servers)):
                states = self._fetch_states(places, STABLE_S)
            committed = self._with_first(places, states)
        self._start_fetching(committed)
        self._committed = committed
        self._prefetched = {place: deque() for place in committed}
        self._membership = membership

    def _with_first(
        self, places: Sequence[TopicPartition], states: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return *states* of all *places*, with a beginning where the group has committed nothing."""
        return {place: states[place] if place in states else self._first(place) for place in places}

    def _first(self, place: TopicPartition) -> OffsetAndMetadata:
        """Return where a group starts that has never committed here: at the first record that is left."""
        options = self._options
        if (
            options.predictions_topic is not None
            and place.topic == options.events_topic
            and self.read(options.predictions_topic, place.partition, 0, 1)
        ):
            raise expired_offsets(options.group, place, options.predictions_topic)
        return OffsetAndMetadata(self._begin(place), "")
