"""A worker's seat in the consumer group, and its transactional producer (KIP-98, KIP-447)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

import kafka
from kafka import ConsumerGroupMetadata, KafkaProducer, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.producer.future import FutureRecordMetadata
from kafka.structs import MemberState

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka.membership import (
    HEARTBEAT_MS,
    POLL_GAP_MS,
    STABLE_S,
    TRANSACTION_S,
    Fence,
    Settled,
    expired,
    reading_offsets,
    require_known,
    served,
    watched,
)
from streamal.edge.kafka.python.connection import Connection, abandon, mapped, offset_of, state_of, unstick
from streamal.edge.kafka.python.log import KafkaLog
from streamal.edge.kafka.readback import ReadBack
from streamal.errors import ConfigError, Uncommitted
from streamal.ports import require_small_states

__all__ = ["KafkaTransport"]

_REBALANCE_S = 5.0  # a poll may take so long while the group settles
_WATCH_S = 15.0  # for a whole transaction; a healthy broker needs some milliseconds
_STABLE_MS = int(STABLE_S * 1e3)


class KafkaTransport(KafkaLog):
    """See `streamal.ports.Transport`. Joins the group at the first poll, so that starting may take its time (F45).

    Args:
        connection: the cluster.
        group: the consumer group; its offsets carry the partitions' states.
        events_topic: to be consumed, shared among the workers of the group.
        labels_topic: likewise; it has one partition, whose owner is the trainer.
        instance: a name that this worker has again after a restart. With it, it takes over its own seat at once (static
            membership) and a second worker of that name fences the first; without it, its partitions wait for the
            end of its session and of its transaction.
        name: what else tells this process apart, where there is no *instance*.
        session_timeout_s: after so long without a sign of life a worker's partitions go to others.
        predictions_topic: where it has records although the group has no offset, the offsets have expired, and the
            promises with them.
    """

    def __init__(
        self,
        connection: Connection,
        group: str,
        events_topic: str,
        labels_topic: str,
        *,
        instance: str | None = None,
        name: str = "worker",
        session_timeout_s: float = 10.0,
        predictions_topic: str | None = None,
    ) -> None:
        super().__init__(connection)
        self._group, self._events, self._labels, self._predictions = (
            group,
            events_topic,
            labels_topic,
            predictions_topic,
        )
        self._fence, self._transactional_id = Fence(instance), f"{group}-{instance or name}"
        self._generation = self._turn = 0
        self._seat: ConsumerGroupMetadata | None = None
        self._committed: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self._ahead: dict[TopicPartition, deque[Record]] = {}
        self._settled = Settled(connection.bootstrap_servers, self._high, self._stable)
        self._back = ReadBack(self._stable, self._settled.ended)
        self._producer: KafkaProducer | None = None
        try:
            self._there = {topic: self.partitions(topic) for topic in (events_topic, labels_topic)}
            for topic in self._there:
                self._require(topic, 0)
            if self._there[labels_topic] != 1:
                raise ConfigError(f"topic {labels_topic!r} must have 1 partition: its owner is the trainer")
            with self._fence.around(mapped("join the cluster")):
                self._producer = self._new_producer()
                self._consumer = connection.consumer(
                    group_id=group,
                    group_instance_id=instance,
                    partition_assignment_strategy=[CooperativeStickyAssignor],
                    session_timeout_ms=int(session_timeout_s * 1e3),
                    heartbeat_interval_ms=HEARTBEAT_MS,
                    max_poll_interval_ms=POLL_GAP_MS,
                    fetch_max_wait_ms=100,
                )
        except BaseException:
            self.close()
            raise

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        """Return up to *records_max* committed records from *offset* on, our own last ones without asking for them."""
        place = self._require(topic, partition)
        found = self._back.read(place, offset, self._beyond_gap(place, offset), records_max)
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
        """
        self._back.polled()
        with self._fence.around(mapped("poll")):
            if not self._consumer.subscription():
                inputs = (self._events, self._labels)
                self._consumer.subscribe(inputs)
                watched(lambda: [self._consumer.partitions_for_topic(topic) for topic in inputs], _WATCH_S)  # K7
            waiting = any(records and records_max_by_topic.get(place.topic) for place, records in self._ahead.items())
            self._take(records_max_by_topic, 0.0 if waiting else timeout_s)
        self._turn += 1
        return served(self._ahead, records_max_by_topic, self._turn)

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Write *outputs* and move *offsets* in one transaction; `read` and `end` wait until it can be seen.

        Raises:
            Behind: something that is not ours, or not any more, is open where *outputs* go (F56).
            Fatal: a state is above `streamal.ports.METADATA_BYTES_MAX`, or a record above the topic's limit.
        """
        require_small_states(offsets)
        touched = {TopicPartition(*at) for at in {(output.topic, output.partition) for output in outputs}}
        for place in touched:
            self._require(*place)
        with self._fence.around(mapped("commit")):
            if self._producer is None:
                raise Uncommitted("the outcome of the last transaction is unknown: rewind first")
            if offsets and (self._seat is None or not offsets.keys() <= self._committed.keys()):
                raise Uncommitted(f"we own {sorted(self._committed)}, not all of {sorted(offsets)}: rewind first")
            if outputs or offsets:
                self._back.forget()
                self._settled.require(touched)
                self._settled.begun(touched)
                written = self._transacted(self._producer, outputs, offsets)
                self._back.committed(outputs, written)
        self._committed = {**self._committed, **offsets}

    def rewind(self) -> None:
        """Go back to the committed offsets, with a new producer where the last transaction's outcome is unknown."""
        self._back.forget()
        with self._fence.around(mapped("rewind")):
            if self._producer is None:
                self._producer = self._new_producer()
            self._pick_up()

    def close(self) -> None:
        """Leave the group, unless as an *instance* that will be back; closing twice is allowed."""
        with suppress(errors.KafkaError, OSError):
            if consumer := getattr(self, "_consumer", None):
                consumer.close(autocommit=False, timeout_ms=2_000)
        if self._producer is not None:
            abandon(self._producer)
            self._producer = None
        super().close()

    def _take(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> None:
        """Fetch what is next into `_ahead`; after a rebalance, start anew from the committed offsets.

        The client hands out one partition's fetched records to their end before the next one's. So that none starves
        (F26), it is asked again, without those partitions of which there is enough, until it has no more.
        """
        joined_by = time.monotonic() + _REBALANCE_S
        while True:
            others = self._pause(records_max_by_topic)
            unstick(self._consumer)
            try:
                polled = self._consumer.poll(
                    int(timeout_s * 1e3), max_records=max(1, sum(records_max_by_topic.values()))
                )
            except errors.NoOffsetForPartitionError:  # the group has none there: `_pick_up` will seek
                polled = {}
            seat = self._consumer.group_metadata()
            if seat.state is MemberState.STABLE and _identity(seat) != _identity(self._seat):
                self._pick_up()  # F12: what was polled meanwhile is from the client's own idea of the position
                return
            for place, found in polled.items():
                if place in self._ahead:
                    self._ahead[TopicPartition(*place)].extend(
                        Record(place.topic, place.partition, one.offset, one.key, one.value) for one in found
                    )
            if seat.state is MemberState.REBALANCING and time.monotonic() < joined_by:
                timeout_s = 0.1  # K10
            elif polled and others:
                timeout_s = 0.0
            else:
                return

    def _pause(self, records_max_by_topic: Mapping[str, int]) -> bool:
        """Pause the partitions of which enough was fetched; return whether there are others."""
        owned = self._consumer.assignment()
        full = {
            place
            for place in owned
            if len(self._ahead.get(TopicPartition(*place), ())) >= records_max_by_topic.get(place.topic, 0)
        }
        self._consumer.pause(*full)
        self._consumer.resume(*(owned - full))
        return len(full) < len(owned)

    def _pick_up(self) -> None:
        """Take over what the group says is ours, at the offsets and with the states that are committed.

        The seat is noted as it is now: offsets committed under it are refused once the group has moved on (KIP-447),
        so that it does not matter whether partitions were revoked in good order or lost.
        """
        seat, self._seat = self._consumer.group_metadata(), None
        self._generation += 1
        self._ahead.clear()
        committed: dict[TopicPartition, OffsetAndMetadata] = {}
        for place in sorted(self._consumer.assignment()):
            require_known(TopicPartition(*place), self._there, self.partitions)
            with mapped(reading_offsets(self._group, self._connection.bootstrap_servers)):
                state = self._consumer.committed(place, metadata=True, timeout_ms=_STABLE_MS)
            committed[TopicPartition(*place)] = self._first(place) if state is None else state_of(state)
            self._consumer.seek(place, committed[TopicPartition(*place)].offset)
        self._committed = committed
        self._ahead = {place: deque() for place in committed}
        self._seat = seat if seat.state is MemberState.STABLE else None

    def _first(self, place: kafka.TopicPartition) -> OffsetAndMetadata:
        """Return where a group starts that has never committed here: at the first record that is left."""
        if (
            self._predictions is not None
            and place.topic == self._events
            and self.read(self._predictions, place.partition, 0, 1)
        ):
            raise expired(self._group, TopicPartition(*place), self._predictions)
        return OffsetAndMetadata(self._reader.beginning_offsets([place], timeout_ms=_STABLE_MS)[place], "")

    def _transacted(
        self,
        producer: KafkaProducer,
        outputs: Sequence[OutputRecord],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> dict[kafka.TopicPartition, int]:
        """Run one transaction; unless it ends well, its producer is of no more use (F4, K13)."""
        moved = {kafka.TopicPartition(*place): offset_of(state) for place, state in offsets.items()}
        seat, self._producer = self._seat, None  # K11: and without one, nothing is sent
        try:
            written = watched(lambda: _transaction(producer, outputs, moved, seat), _WATCH_S)  # K1
        except BaseException:
            abandon(producer)
            raise
        self._producer = producer
        return written

    def _end(self, place: kafka.TopicPartition) -> int:
        """Return the last stable offset, asked for with those of all that a step reads back."""
        return self._back.end(place)

    def _stable(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the last stable offsets."""
        return {
            TopicPartition(*place): end
            for place, end in self._ends([kafka.TopicPartition(*each) for each in places]).items()
        }

    def _new_producer(self) -> KafkaProducer:
        """Return a producer that has aborted, and fenced, whatever its predecessors left open."""
        self._settled.forget()
        producer = self._connection.producer(
            transactional_id=self._transactional_id, transaction_timeout_ms=int(TRANSACTION_S * 1e3), linger_ms=5
        )
        try:
            producer.init_transactions()
        except BaseException:
            abandon(producer)
            raise
        return producer


def _transaction(
    producer: KafkaProducer,
    outputs: Sequence[OutputRecord],
    offsets: Mapping[kafka.TopicPartition, kafka.OffsetAndMetadata],
    seat: ConsumerGroupMetadata | None,
) -> dict[kafka.TopicPartition, int]:
    """Run one transaction; return the last offset that was written to each partition."""
    producer.begin_transaction()
    try:
        written = _written(producer, outputs)
        if offsets:
            producer.send_offsets_to_transaction(offsets, seat)
    except errors.KafkaError:
        producer.abort_transaction()  # so that nobody has to wait for its timeout
        raise
    producer.commit_transaction()
    return written


def _written(producer: KafkaProducer, outputs: Sequence[OutputRecord]) -> dict[kafka.TopicPartition, int]:
    sent = _sent(producer, outputs)
    producer.flush(TRANSACTION_S)  # K2
    last: dict[kafka.TopicPartition, FutureRecordMetadata] = {}
    for place, future in sent:
        if not future.succeeded():
            future.get(timeout=0)  # K5
        last[place] = future
    return {place: int(future.get(timeout=0).offset) for place, future in last.items()}


def _sent(
    producer: KafkaProducer, outputs: Sequence[OutputRecord]
) -> list[tuple[kafka.TopicPartition, FutureRecordMetadata]]:
    """Hand *outputs* over, past `send`: what that does again for each record costs as much as the rest (K15)."""
    places = {at: kafka.TopicPartition(*at) for at in {(output.topic, output.partition) for output in outputs}}
    for place in places.values():
        producer.partitions_for(place.topic)  # waits until the client knows it
        producer._transaction_manager.maybe_add_partition_to_transaction(place)  # noqa: SLF001
    append, sent = producer._accumulator.append, []  # noqa: SLF001
    for output in outputs:
        place = places[output.topic, output.partition]
        sent.append((place, append(place, None, output.key, output.value, [])[0]))
    return sent


def _identity(seat: ConsumerGroupMetadata | None) -> tuple[int, str] | None:
    return None if seat is None else (seat.generation_id, seat.member_id)
