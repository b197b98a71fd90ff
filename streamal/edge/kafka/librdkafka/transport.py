"""A worker's seat in the consumer group, and its transactional producer (KIP-98, KIP-447)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import confluent_kafka
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
)

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka.librdkafka.connection import REQUEST_S, Connection, mapped, retried
from streamal.edge.kafka.librdkafka.log import ConfluentLog, sound
from streamal.edge.kafka.librdkafka.transaction import Aborted, transact
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
from streamal.edge.kafka.readback import ReadBack
from streamal.errors import ConfigError, Uncommitted
from streamal.ports import require_small_states

__all__ = ["ConfluentTransport"]

_AHEAD = 8  # so many times its topic's maximum is fetched of a partition before it is halted
_CHUNK = 1_000  # messages taken from the client at once
_FATAL = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)  # noqa: SLF001
_SLICE_S = 0.1  # for one wait: news of the group come between two of them
_CLOSE_S = 5.0  # to leave the group; then its session ends by itself
_WATCH_S = 15.0  # for a whole transaction; a healthy broker needs some milliseconds


class ConfluentTransport(ConfluentLog):
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
        self._seat: Any = None
        self._committed: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self._owned: set[TopicPartition] = set()
        """What the group says is ours; of that, `_fetching` is what the client fetches (R1)."""
        self._fetching: set[TopicPartition] = set()
        self._moved = self._joined = False
        self._ahead: dict[TopicPartition, deque[Record]] = {}
        self._next: dict[TopicPartition, int] = {}
        self._settled = Settled(connection.bootstrap_servers, self._high, self._stable)
        self._back = ReadBack(self._stable, self._settled.ended)
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        try:
            self._there = {topic: self.partitions(topic) for topic in (events_topic, labels_topic)}
            for topic in self._there:
                self._require(topic, 0)
            if self._there[labels_topic] != 1:
                raise ConfigError(f"topic {labels_topic!r} must have 1 partition: its owner is the trainer")
            with self._fence.around(mapped("join the cluster")):
                self._producer = self._new_producer()
                self._consumer = connection.consumer(_membership(group, instance, session_timeout_s))
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
            self._idle()
            self._take(self._member(), records_max_by_topic, time.monotonic() + timeout_s)
        self._turn += 1
        return served(self._ahead, records_max_by_topic, self._turn)

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Write *outputs* and move *offsets* in one transaction; `read` and `end` wait until it can be seen.

        Raises:
            Behind: something that is not ours, or not any more, is open where *outputs* go (F56).
            Fatal: a state is above `streamal.ports.METADATA_BYTES_MAX`, or a record above the
                topic's limit.
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
            member = self._member()
            _require_alive(member.consume(_CHUNK, 0.0))  # R10; whatever was fetched is fetched again
            self._pick_up(member)

    def close(self) -> None:
        """Leave the group, unless as an *instance* that will be back; closing twice is allowed."""
        if self._consumer is not None:
            with suppress(KafkaException, RuntimeError, TimeoutError):
                watched(self._consumer.close, _CLOSE_S)  # R12
            self._consumer = None
        self._producer = None
        super().close()

    def _member(self) -> Consumer:
        """Return the group's consumer, which subscribes at the first call."""
        assert self._consumer is not None, "closed"
        if not self._joined:
            self._consumer.subscribe(
                [self._events, self._labels], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken
            )
            self._joined = True
        return self._consumer

    def _given(self, consumer: Consumer, partitions: Sequence[confluent_kafka.TopicPartition]) -> None:
        """Note what is ours from now on; `_pick_up` fetches it, from explicit offsets."""
        self._owned |= {TopicPartition(one.topic, one.partition) for one in partitions}
        self._moved = True
        consumer.incremental_assign([])  # or the client assigns them at offsets of its own

    def _taken(self, consumer: Consumer, partitions: Sequence[confluent_kafka.TopicPartition]) -> None:
        """Let go what is others' from now on. Until we have said so, the group gives it to nobody."""
        places = {TopicPartition(one.topic, one.partition) for one in partitions}
        self._owned -= places
        self._moved = True
        consumer.incremental_unassign([confluent_kafka.TopicPartition(*place) for place in places & self._fetching])
        self._fetching -= places

    def _idle(self) -> None:
        """Do between steps what nobody else does: end a scan that was left in the middle, serve log lines (R7)."""
        if self._read_on is not None:
            self._read_on = None
            self._rest()
        if self._producer is not None:
            self._producer.poll(0)
        self._admin.poll(0)

    def _take(self, consumer: Consumer, records_max_by_topic: Mapping[str, int], deadline: float) -> None:
        """Fetch what is next into `_ahead`; after a rebalance, start anew from the committed offsets.

        Everything that the client has is looked at, so that no partition starves behind another (F26); of which there
        is plenty, that is halted. The client's queue has an end where all have enough or are halted.
        """
        while True:
            self._steer(consumer, records_max_by_topic)
            ready = any(records and records_max_by_topic.get(place.topic) for place, records in self._ahead.items())
            left_s = deadline - time.monotonic()
            messages = consumer.consume(_CHUNK, 0.0)  # R2
            if not (messages or ready or self._moved) and left_s > 0:
                first = consumer.poll(min(left_s, _SLICE_S))
                messages = [] if first is None else [first]
            if self._moved:
                _require_alive(messages)
                self._pick_up(consumer)  # F12: what was polled meanwhile belongs to a seat that is over
                return
            self._keep(messages)
            enough = all(
                len(records) >= records_max_by_topic.get(place.topic, 0) for place, records in self._ahead.items()
            )
            if enough if messages else (ready or left_s <= 0):
                return

    def _keep(self, messages: Sequence[Message]) -> None:
        """Put *messages* behind those that wait; raise what is an error among them."""
        place = TopicPartition("", -1)
        for message in messages:
            if (error := message.error()) is not None:
                raise KafkaException(error)
            topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            if (topic, partition) != place:
                place = TopicPartition(topic, partition)
            if place in self._fetching and offset >= self._next[place]:
                self._ahead[place].append(Record(topic, partition, offset, message.key(), message.value()))
                self._next[place] = offset + 1

    def _steer(self, consumer: Consumer, records_max_by_topic: Mapping[str, int]) -> None:
        """Halt the partitions of which plenty was fetched, and take up those of which there is too little (R1)."""
        few, plenty = [], []
        for place, records in self._ahead.items():
            wanted = records_max_by_topic.get(place.topic, 0)
            if place in self._fetching and len(records) >= _AHEAD * wanted:
                plenty.append(place)
            elif place not in self._fetching and len(records) < _AHEAD // 2 * wanted:
                # more takes some steps to come: with none left we would wait 25 ms for it
                few.append(place)
        if plenty:
            consumer.incremental_unassign([confluent_kafka.TopicPartition(*place) for place in plenty])
            self._fetching.difference_update(plenty)
        if few:
            consumer.incremental_assign([confluent_kafka.TopicPartition(*place, self._next[place]) for place in few])
            self._fetching.update(few)

    def _pick_up(self, consumer: Consumer) -> None:
        """Take over what the group says is ours, at the offsets and with the states that are committed.

        The seat is noted as it is now: offsets committed under it are refused once the group has moved on (KIP-447).
        What is taken from us is given to others only after `_taken` has run, in this thread. A client that is no
        member has no seat: the broker would take its offsets without looking.
        """
        self._generation += 1
        self._seat = None
        self._ahead.clear()
        consumer.incremental_unassign([confluent_kafka.TopicPartition(*place) for place in self._fetching])
        self._fetching.clear()
        seat, member = consumer.consumer_group_metadata(), consumer.memberid()
        asked = [confluent_kafka.TopicPartition(*place) for place in sorted(self._owned)]
        for place in self._owned:
            require_known(place, self._there, self.partitions)
        committed: dict[TopicPartition, OffsetAndMetadata] = {}
        with mapped(reading_offsets(self._group, self._connection.bootstrap_servers)):
            answers = retried(lambda: sound(consumer.committed(asked, timeout=STABLE_S))) if asked else []
        for one in answers:
            place = TopicPartition(one.topic, one.partition)
            committed[place] = (
                OffsetAndMetadata(one.offset, one.metadata or "") if one.offset >= 0 else self._first(place)
            )
        self._committed = committed
        self._ahead = {place: deque() for place in committed}
        self._next = {place: state.offset for place, state in committed.items()}
        self._seat = seat if member else None
        self._moved = False

    def _first(self, place: TopicPartition) -> OffsetAndMetadata:
        """Return where a group starts that has never committed here: at the first record that is left."""
        if (
            self._predictions is not None
            and place.topic == self._events
            and self.read(self._predictions, place.partition, 0, 1)
        ):
            raise expired(self._group, place, self._predictions)
        return OffsetAndMetadata(self._offsets([place], OFFSET_BEGINNING)[place], "")

    def _transacted(
        self, producer: Producer, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, int]:
        """Run one transaction; unless it ends well, or is aborted in good order, its producer is of no use (F4)."""
        moved = [
            confluent_kafka.TopicPartition(*place, offset, metadata) for place, (offset, metadata) in offsets.items()
        ]
        seat, self._producer = self._seat, None
        try:
            written = watched(lambda: transact(producer, outputs, moved, seat, _WATCH_S), _WATCH_S + 1.0)  # R9
        except Aborted as aborted:
            self._producer = producer
            raise aborted.cause from None
        self._producer = producer
        return written

    def _end(self, place: TopicPartition) -> int:
        """Return the last stable offset, asked for with those of all that a step reads back."""
        return self._back.end(place)

    def _stable(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the last stable offsets."""
        return self._offsets(places, OFFSET_END)

    def _new_producer(self) -> Producer:
        """Return a producer that has aborted, and fenced, whatever its predecessors left open."""
        self._settled.forget()
        producer = self._connection.producer(
            {"transactional.id": self._transactional_id, "transaction.timeout.ms": int(TRANSACTION_S * 1e3)}
        )
        producer.init_transactions(REQUEST_S)
        return producer


def _membership(group: str, instance: str | None, session_timeout_s: float) -> Mapping[str, Any]:
    """Return the consumer's settings."""
    static = {} if instance is None else {"group.instance.id": instance}
    return {
        "group.id": group,
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(session_timeout_s * 1e3),
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "max.poll.interval.ms": max(POLL_GAP_MS, int(session_timeout_s * 1e3)),
        "fetch.wait.max.ms": 100,
        "max.partition.fetch.bytes": 262_144,  # a larger record comes all the same; what is halted is fetched again
        "queued.min.messages": _CHUNK,
        **static,
    }


def _require_alive(messages: Sequence[Message]) -> None:
    """Raise what ends a consumer for good: it is told once, and then nothing comes any more."""
    for message in messages:
        if (error := message.error()) is not None and (error.fatal() or error.code() in _FATAL):
            raise KafkaException(error)
