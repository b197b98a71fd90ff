"""`ClusterTransport` over kafka-python: a worker's membership in the consumer group, and its transactional producer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import kafka
from kafka import ConsumerGroupMetadata, KafkaConsumer, KafkaProducer, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.producer.future import FutureRecordMetadata
from kafka.structs import MemberState

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka.base_transport import ClusterTransport
from streamal.edge.kafka.membership import HEARTBEAT_MS, POLL_GAP_MS, TRANSACTION_S, WATCHDOG_S, call_with_timeout
from streamal.edge.kafka.python.connection import abandon, offset_of, restore_prefetched, state_of
from streamal.edge.kafka.python.log import KafkaLog
from streamal.errors import Unreadable

__all__ = ["KafkaTransport"]

_REBALANCE_S = 5.0  # a poll may take so long while the group settles


class KafkaTransport(ClusterTransport[KafkaProducer, KafkaConsumer], KafkaLog):
    """See `streamal.ports.Transport` and `ClusterTransport`."""

    def close(self) -> None:
        """Leave the group, unless as an *instance* that will be back; closing twice is allowed."""
        with suppress(errors.KafkaError, OSError):
            if self._consumer is not None:
                self._consumer.close(autocommit=False, timeout_ms=2_000)
        if self._producer is not None:
            abandon(self._producer)
            self._producer = None
        super().close()

    def _new_consumer(self) -> KafkaConsumer:
        return self._connection.consumer(
            group_id=self._options.group,
            group_instance_id=self._options.instance,
            partition_assignment_strategy=[CooperativeStickyAssignor],
            session_timeout_ms=int(self._options.session_timeout_s * 1e3),
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_GAP_MS,
            fetch_max_wait_ms=100,
        )

    def _new_producer(self) -> KafkaProducer:
        self._no_open_transaction.forget()
        producer = self._connection.producer(
            transactional_id=self._options.transactional_id,
            transaction_timeout_ms=int(TRANSACTION_S * 1e3),
            linger_ms=5,
        )
        try:
            producer.init_transactions()
        except BaseException:
            abandon(producer)
            raise
        return producer

    @property
    def _member(self) -> KafkaConsumer:
        """The group's consumer."""
        assert self._consumer is not None, "closed"
        return self._consumer

    def _subscribe(self) -> None:
        """Name the topics to consume, once."""
        if not self._member.subscription():
            self._member.subscribe(list(self._inputs))
            # K7, a leader without the topics' metadata assigns nothing: fetch them before the group is joined
            call_with_timeout(lambda: [self._member.partitions_for_topic(topic) for topic in self._inputs], WATCHDOG_S)

    def _prefetch(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> None:
        """Fetch what is next into `_prefetched`; after a rebalance, start anew from the committed offsets.

        F26, a flood in one partition starves the others: the client returns all that it has fetched of one partition,
        then turns to the next. So it is asked again, without the partitions of which there is enough, until it has no
        more.
        """
        self._subscribe()
        if any(records and records_max_by_topic.get(place.topic) for place, records in self._prefetched.items()):
            timeout_s = 0.0
        joined_by = time.monotonic() + _REBALANCE_S
        while True:
            some_want_more = self._pause_full(records_max_by_topic)
            restore_prefetched(self._member)
            polled = self._poll_client(timeout_s, max(1, sum(records_max_by_topic.values())))
            membership = self._member.group_metadata()
            if membership.state is MemberState.STABLE and _identity(membership) != _identity(self._membership):
                # F12, a stale position: what was polled meanwhile is from the client's own idea of the position
                self._pick_up()
                return
            for place, records in polled.items():
                if place in self._prefetched:
                    self._prefetched[place].extend(records)
            if membership.state is MemberState.REBALANCING and time.monotonic() < joined_by:
                timeout_s = 0.1  # K10, an answer between two polls is lost: go on polling until the group is joined
            elif polled and some_want_more:
                timeout_s = 0.0
            else:
                return

    def _poll_client(self, timeout_s: float, records_max: int) -> dict[TopicPartition, list[Record]]:
        """Return what the client has; nothing where the group has no offset yet, for `_pick_up` will seek there."""
        try:
            polled = self._member.poll(int(timeout_s * 1e3), max_records=records_max)
        except errors.NoOffsetForPartitionError:
            return {}
        except Unreadable as error:
            self._note_unreadable(error)
            return {}
        return {
            TopicPartition(*place): [
                Record(place.topic, place.partition, one.offset, one.key, one.value) for one in records
            ]
            for place, records in polled.items()
        }

    def _pause_full(self, records_max_by_topic: Mapping[str, int]) -> bool:
        """Pause the partitions of which enough was fetched; return whether there are others."""
        owned = self._member.assignment()
        full = {
            place
            for place in owned
            if TopicPartition(*place) in self._unreadable
            or len(self._prefetched.get(TopicPartition(*place), ())) >= records_max_by_topic.get(place.topic, 0)
        }
        self._member.pause(*full)
        self._member.resume(*(owned - full))
        return len(full) < len(owned)

    def _drop_fetched(self) -> None:
        """Do nothing: seeking drops what the client has fetched."""

    def _stop_fetching(self) -> tuple[ConsumerGroupMetadata | None, list[TopicPartition]]:
        membership = self._member.group_metadata()
        places = [TopicPartition(*place) for place in sorted(self._member.assignment())]
        return (membership if membership.state is MemberState.STABLE else None), places

    def _fetch_states(
        self, places: Sequence[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        states = {}
        for place in places:
            asked = kafka.TopicPartition(*place)
            state = self._member.committed(asked, metadata=True, timeout_ms=int(timeout_s * 1e3))
            if state is not None:
                states[place] = state_of(state)
        return states

    def _start_fetching(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        for place, (offset, _) in offsets.items():
            self._member.seek(kafka.TopicPartition(*place), offset)

    def _transact(
        self,
        producer: KafkaProducer,
        outputs: Sequence[OutputRecord],
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> dict[kafka.TopicPartition, int]:
        # K13, offsets of an aborted transaction are sent again with the next: unless it ends well, the producer goes
        moved = {kafka.TopicPartition(*place): offset_of(state) for place, state in offsets.items()}
        membership = self._membership
        self._producer = None  # K11, nothing bounds what waits in the client: without a producer nothing is sent
        try:
            # K1, transaction calls wait without a limit
            written = call_with_timeout(lambda: _transaction(producer, outputs, moved, membership), WATCHDOG_S)
        except BaseException:
            abandon(producer)
            raise
        self._producer = producer
        return written


def _transaction(
    producer: KafkaProducer,
    outputs: Sequence[OutputRecord],
    offsets: Mapping[kafka.TopicPartition, kafka.OffsetAndMetadata],
    membership: ConsumerGroupMetadata | None,
) -> dict[kafka.TopicPartition, int]:
    """Run one transaction; return the last offset that was written to each partition."""
    producer.begin_transaction()
    try:
        written = _write(producer, outputs)
        if offsets:
            producer.send_offsets_to_transaction(offsets, membership)
    except errors.KafkaError:
        producer.abort_transaction()  # so that nobody has to wait for its timeout
        raise
    producer.commit_transaction()
    return written


def _write(producer: KafkaProducer, outputs: Sequence[OutputRecord]) -> dict[kafka.TopicPartition, int]:
    """Write *outputs* and return the last offset of each partition; raise what has failed."""
    sent = _send(producer, outputs)
    producer.flush(TRANSACTION_S)  # K2, a commit without a flush disables linger_ms for good
    last: dict[kafka.TopicPartition, FutureRecordMetadata] = {}
    for place, future in sent:
        if not future.succeeded():
            future.get(timeout=0)  # K5, a flush returns in silence when records have failed: this raises
        last[place] = future
    return {place: int(future.get(timeout=0).offset) for place, future in last.items()}


def _send(
    producer: KafkaProducer, outputs: Sequence[OutputRecord]
) -> list[tuple[kafka.TopicPartition, FutureRecordMetadata]]:
    """Hand *outputs* to the producer's accumulator.

    K15, `KafkaProducer.send` is slow: what it does again for each record costs as much as all the rest.
    """
    places = {at: kafka.TopicPartition(*at) for at in {(output.topic, output.partition) for output in outputs}}
    for place in places.values():
        producer.partitions_for(place.topic)  # waits until the client knows it
        producer._transaction_manager.maybe_add_partition_to_transaction(place)  # noqa: SLF001
    append, sent = producer._accumulator.append, []  # noqa: SLF001
    for output in outputs:
        place = places[output.topic, output.partition]
        sent.append((place, append(place, None, output.key, output.value, [])[0]))
    return sent


def _identity(membership: ConsumerGroupMetadata | None) -> tuple[int, str] | None:
    return None if membership is None else (membership.generation_id, membership.member_id)
