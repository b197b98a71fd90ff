"""`ClusterTransport` over librdkafka: a worker's membership in the consumer group, and its transactional producer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka.base import ANSWER_S
from streamal.edge.kafka.base_transport import ClusterTransport, WorkerOptions
from streamal.edge.kafka.librdkafka.connection import Connection, describe_unreadable
from streamal.edge.kafka.librdkafka.log import ConfluentLog, close_consumer, query_committed
from streamal.edge.kafka.librdkafka.transaction import Aborted, transact
from streamal.edge.kafka.membership import HEARTBEAT_MS, POLL_GAP_MS, TRANSACTION_S, WATCHDOG_S, call_with_timeout
from streamal.errors import Unreadable

__all__ = ["ConfluentTransport"]

_PREFETCH_FACTOR = 8  # so many times the records of a poll are fetched of a partition before it is halted
_CHUNK = 1_000  # messages taken from the client at once
_FATAL = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)  # noqa: SLF001
_SLICE_S = 0.1  # for one wait: news of the group come between two of them
_CLOSE_S = 5.0  # to leave the group; then its session ends by itself


class ConfluentTransport(ClusterTransport[Producer, Consumer], ConfluentLog):
    """See `streamal.ports.Transport` and `ClusterTransport`."""

    def __init__(self, connection: Connection, options: WorkerOptions) -> None:
        self._owned: set[TopicPartition] = set()
        """What the group says is ours; of that, `_fetching` is what the client fetches."""
        self._fetching: set[TopicPartition] = set()
        self._has_moved = self._has_joined = False
        self._next: dict[TopicPartition, int] = {}
        self._misled: set[TopicPartition] = set()
        super().__init__(connection, options)

    def close(self) -> None:
        """Leave the group, unless as an *instance* that will be back; closing twice is allowed."""
        if self._consumer is not None and self._options.instance is None:
            deadline = time.monotonic() + _CLOSE_S
            with suppress(KafkaException, RuntimeError):
                self._unsubscribe(self._consumer, deadline - _CLOSE_S / 2)
            close_consumer(self._consumer, deadline - time.monotonic())
        elif self._consumer is not None:
            handles, self._consumer = [self._consumer], None
            with suppress(TimeoutError):
                call_with_timeout(handles.clear, _CLOSE_S)  # R12; a static member leaves nothing by close()
        self._consumer = self._producer = None
        super().close()

    def _unsubscribe(self, consumer: Consumer, deadline: float) -> None:
        """Give our partitions back before the consumer closes: R12, no rebalance may reach it then."""
        if not self._has_joined:
            return
        consumer.unsubscribe()
        while self._owned and time.monotonic() < deadline:
            message = consumer.poll(_SLICE_S)
            if message is not None and message.error() is not None:
                return  # the group asks for nothing back

    def _new_consumer(self) -> Consumer:
        return self._connection.consumer(_consumer_settings(self._options))

    def _new_producer(self) -> Producer:
        self._no_open_transaction.forget()
        producer = self._connection.producer(
            {
                "transactional.id": self._options.transactional_id,
                "transaction.timeout.ms": int(TRANSACTION_S * 1e3),
            }
        )
        producer.init_transactions(ANSWER_S)
        return producer

    @property
    def _member(self) -> Consumer:
        """The group's consumer, which subscribes at the first use."""
        assert self._consumer is not None, "closed"
        if not self._has_joined:
            topics = [self._options.events_topic, self._options.labels_topic]
            self._consumer.subscribe(
                topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            self._has_joined = True
        return self._consumer

    def _on_assign(self, consumer: Consumer, partitions: Sequence[confluent_kafka.TopicPartition]) -> None:
        """Note what is ours from now on; `_pick_up` fetches it, from explicit offsets."""
        self._owned |= {TopicPartition(one.topic, one.partition) for one in partitions}
        self._has_moved = True
        consumer.incremental_assign([])  # or the client assigns them at offsets of its own

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[confluent_kafka.TopicPartition]) -> None:
        """Let go what is others' from now on. Until this has run, the group gives it to nobody."""
        places = {TopicPartition(one.topic, one.partition) for one in partitions}
        self._owned -= places
        self._has_moved = True
        consumer.incremental_unassign([confluent_kafka.TopicPartition(*place) for place in places & self._fetching])
        self._fetching -= places

    def _serve_other_handles(self) -> None:
        """End a scan that was left in the middle; R7, log lines wait in memory until the handle is polled."""
        if self._scan is not None:
            self._scan = None
            self._rest()
        if self._producer is not None:
            self._producer.poll(0)
        self._admin.poll(0)

    def _prefetch(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> None:
        """Fetch what is next into `_prefetched`; after a rebalance, start anew from the committed offsets.

        F26, a flood in one partition starves the others: so everything that the client has is looked at, and what is
        plenty is halted. The client's queue has an end where all partitions have enough or are halted.
        """
        self._serve_other_handles()
        consumer, deadline = self._member, time.monotonic() + timeout_s
        while True:
            self._balance(consumer, records_max_by_topic)
            is_ready = any(
                records and records_max_by_topic.get(place.topic) for place, records in self._prefetched.items()
            )
            left_s = deadline - time.monotonic()
            messages = self._consume(consumer, 0.0 if is_ready else left_s)
            if self._has_moved:
                _require_alive(messages)
                self._pick_up()  # F12, a rebalance in the middle: what was polled belongs to a membership that is over
                return
            self._store(messages)
            if self._have_enough(records_max_by_topic) if messages else (is_ready or left_s <= 0):
                return

    def _consume(self, consumer: Consumer, timeout_s: float) -> list[Message]:
        """Return what the client has; if that is nothing, wait for the first message or for news of the group.

        R2, ``consume(n, timeout)`` waits for n messages or the whole time: so it is asked without a time-out.
        """
        messages = consumer.consume(_CHUNK, 0.0)
        if messages or self._has_moved or timeout_s <= 0:
            return messages
        first = consumer.poll(min(timeout_s, _SLICE_S))
        return [] if first is None else [first]

    def _have_enough(self, records_max_by_topic: Mapping[str, int]) -> bool:
        """Return whether each partition has as many records waiting as one poll may take."""
        return all(
            len(records) >= records_max_by_topic.get(place.topic, 0) for place, records in self._prefetched.items()
        )

    def _store(self, messages: Sequence[Message]) -> None:
        """Put *messages* behind those that wait; raise what is an error among them."""
        place = TopicPartition("", -1)
        for message in messages:
            topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            if (topic, partition) != place:
                place = TopicPartition(topic, partition)
            if (error := message.error()) is not None:
                self._note_error(place, offset, error)
                continue
            if place in self._fetching and offset >= self._next[place]:
                self._prefetched[place].append(Record(topic, partition, offset, message.key(), message.value()))
                self._next[place] = offset + 1

    def _note_error(self, place: TopicPartition, offset: int, error: KafkaError) -> None:
        """Fetch no more of *place* if its next batch cannot be read; raise any other error.

        R14, behind such a batch the client goes on at an offset that does not exist, and complains about that later.
        """
        why, is_late = describe_unreadable(error), place in self._misled
        if why is None and not (is_late and error.code() == KafkaError._AUTO_OFFSET_RESET):  # noqa: SLF001
            raise KafkaException(error)
        if place in self._fetching:
            if why is not None:
                self._note_unreadable(Unreadable(*place, max(self._next[place], offset), why))
                self._misled.add(place)
            self._fetching.discard(place)
            self._member.incremental_unassign([confluent_kafka.TopicPartition(*place)])

    def _balance(self, consumer: Consumer, records_max_by_topic: Mapping[str, int]) -> None:
        """Halt the partitions of which plenty was fetched, and take up those of which there is too little.

        R1, pause() and resume() may lose a partition for good: it is taken out of the client's assignment instead, and
        taken up again at an explicit offset.
        """
        few, plenty = [], []
        for place, records in self._prefetched.items():
            wanted = records_max_by_topic.get(place.topic, 0)
            if place in self._fetching and len(records) >= _PREFETCH_FACTOR * wanted:
                plenty.append(place)
            elif place in self._unreadable:
                continue
            elif place not in self._fetching and len(records) < _PREFETCH_FACTOR // 2 * wanted:
                # more takes some steps to come: with none left we would wait 25 ms for it
                few.append(place)
        if plenty:
            consumer.incremental_unassign([confluent_kafka.TopicPartition(*place) for place in plenty])
            self._fetching.difference_update(plenty)
        if few:
            consumer.incremental_assign([confluent_kafka.TopicPartition(*place, self._next[place]) for place in few])
            self._fetching.update(few)

    def _drop_fetched(self) -> None:
        """Let go what the client has fetched: it is fetched again.

        R10, a static member that has not been polled presents itself without its member id: this serves its callbacks.
        """
        _require_alive(self._member.consume(_CHUNK, 0.0))

    def _stop_fetching(self) -> tuple[Any, list[TopicPartition]]:
        consumer = self._member
        consumer.incremental_unassign([confluent_kafka.TopicPartition(*place) for place in self._fetching])
        self._fetching.clear()
        # a client that is no member has no membership: the broker would take its offsets without looking
        membership = consumer.consumer_group_metadata() if consumer.memberid() else None
        return membership, sorted(self._owned)

    def _fetch_states(
        self, places: Sequence[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return query_committed(self._member, places, timeout_s)

    def _start_fetching(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Note the offsets; `_balance` starts to fetch as the polls want it."""
        self._next = {place: state.offset for place, state in offsets.items()}
        self._has_moved = False

    def _transact(
        self, producer: Producer, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, int]:
        moved = [
            confluent_kafka.TopicPartition(*place, offset, metadata) for place, (offset, metadata) in offsets.items()
        ]
        membership, self._producer = self._membership, None
        try:
            # R9, send_offsets_to_transaction() ignores its time-out when the broker goes
            written = call_with_timeout(
                lambda: transact(producer, outputs, moved, membership, WATCHDOG_S), WATCHDOG_S + 1.0
            )
        except Aborted as aborted:
            self._producer = producer
            raise aborted.cause from None
        self._producer = producer
        return written


def _consumer_settings(options: WorkerOptions) -> Mapping[str, Any]:
    """Return librdkafka's settings for the group's consumer."""
    static = {} if options.instance is None else {"group.instance.id": options.instance}
    session_ms = int(options.session_timeout_s * 1e3)
    return {
        "group.id": options.group,
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "max.poll.interval.ms": max(POLL_GAP_MS, session_ms),
        "fetch.wait.max.ms": 100,
        "max.partition.fetch.bytes": 262_144,  # a larger record comes all the same; what is halted is fetched again
        "queued.min.messages": _CHUNK,
        **static,
    }


def _require_alive(messages: Sequence[Message]) -> None:
    """Raise the error that ends a consumer for good: it comes once, and nothing comes after it."""
    for message in messages:
        if (error := message.error()) is not None and (error.fatal() or error.code() in _FATAL):
            raise KafkaException(error)
