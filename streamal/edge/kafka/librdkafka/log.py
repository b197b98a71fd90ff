"""`ClusterLog` over librdkafka: topics of a cluster, read without a group and appended to without a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
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
    TopicCollection,
)

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka.base import ANSWER_S, ClusterLog, DeletedError
from streamal.edge.kafka.librdkafka.connection import (
    Connection,
    describe_unreadable,
    retry_passing,
    translate_errors,
)
from streamal.edge.kafka.membership import call_with_timeout
from streamal.errors import Unreadable

__all__ = ["ConfluentLog", "close_consumer", "enqueue", "flush", "query_committed"]

_CLOSE_S = 2.0  # for what is under way


class ConfluentLog(ClusterLog):
    """The `streamal.ports.Log` of a cluster, over librdkafka; Fatal if the cluster cannot be reached in time."""

    _translate = staticmethod(translate_errors)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection, self._admin = connection, connection.admin()
        self._reader_or_none: Consumer | None = None
        self._offset_reader: tuple[str, Consumer] | None = None
        """(Group, a consumer of it) that `committed` was asked for last; it never joins the group."""
        self._appender: Producer | None = None
        self._unread: Unreadable | None = None
        """The reader has met a batch that cannot be read, and stands behind it."""

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of *topic*; 0 if there is no such topic."""
        self._admin.poll(0)  # R7, log lines wait in memory until the handle is polled
        wanted = TopicCollection([topic])
        with translate_errors(f"look for topic {topic!r}"):
            try:
                described = retry_passing(
                    lambda: self._admin.describe_topics(wanted, request_timeout=ANSWER_S)[topic].result(2 * ANSWER_S)
                )
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return 0
                raise
        self._counts[topic] = len(described.partitions)
        return self._counts[topic]

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what *group* has committed.

        R13, a failed assertion ends our process: an administrator's client would know the partitions by itself, but
        dies when the broker goes. A consumer of the group is asked instead, for all partitions of all topics.
        """
        with translate_errors(f"ask for the offsets of group {group!r}"):
            if self._offset_reader is None or self._offset_reader[0] != group:
                self._close_offset_reader()
                self._offset_reader = group, self._connection.consumer({"group.id": group})
            consumer = self._offset_reader[1]
            consumer.poll(0)  # R7, log lines wait in memory until the handle is polled
            topics = consumer.list_topics(timeout=ANSWER_S).topics
            places = [
                TopicPartition(topic, partition)
                for topic in sorted(topics)
                if not topic.startswith("__")  # Kafka's own
                for partition in sorted(topics[topic].partitions)
            ]
            return query_committed(consumer, places, ANSWER_S) if places else {}

    def close(self) -> None:
        """Leave the cluster; closing twice is allowed."""
        if self._appender is not None:
            self._appender.flush(_CLOSE_S)
            self._appender = None
        if self._reader_or_none is not None:
            close_consumer(self._reader_or_none)
            self._reader_or_none = None
        self._close_offset_reader()

    @property
    def _reader(self) -> Consumer:
        """The consumer outside the group, made at first use; its fetches never wait, for they ask for what is there."""
        if self._reader_or_none is None:
            self._reader_or_none = self._connection.consumer({"enable.partition.eof": True, "fetch.wait.max.ms": 0})
        return self._reader_or_none

    def _close_offset_reader(self) -> None:
        """Close the consumer that has looked into a group."""
        if self._offset_reader is not None:
            close_consumer(self._offset_reader[1])
            self._offset_reader = None

    def _produce(self, outputs: Sequence[OutputRecord]) -> list[int]:
        offsets: dict[int, int] = {}
        errors: list[KafkaError] = []

        def note(number: int, error: KafkaError | None, message: Message) -> None:
            if error is None:
                offsets[number] = message.offset() or 0
            else:
                errors.append(error)

        if self._appender is None:
            self._appender = self._connection.producer({})
        for number, output in enumerate(outputs):
            enqueue(self._appender, output, partial(note, number))
        flush(self._appender, 2 * ANSWER_S)
        if errors:
            raise KafkaException(errors[0])
        return [offsets[number] for number in range(len(outputs))]

    def _last_stable(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return _query_offsets(self._reader, places, OFFSET_END)

    def _high_watermarks(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        # a consumer sees either these or the last stable offsets, for life: so this one lives for one question
        reader = self._connection.consumer({"isolation.level": "read_uncommitted"})
        try:
            return _query_offsets(reader, places, OFFSET_END)
        finally:
            close_consumer(reader)

    def _begin(self, place: TopicPartition) -> int:
        return _query_offsets(self._reader, [place], OFFSET_BEGINNING)[place]

    def _aim(self, place: TopicPartition, offset: int | None) -> None:
        if offset is not None:
            if self._unread is not None and self._reader_or_none is not None:
                close_consumer(self._reader_or_none)  # R14, it goes on at an offset that does not exist
                self._reader_or_none = None
            self._unread = None
            self._reader.assign([confluent_kafka.TopicPartition(*place, offset)])

    def _fetch_some(self, place: TopicPartition, position: int, records_max: int) -> tuple[list[Record], int]:
        if self._unread is not None:
            raise self._unread
        records: list[Record] = []
        for message in _next_messages(self._reader, records_max, 0.1):
            error = message.error()
            if error is None:
                records.append(Record(*place, message.offset() or 0, message.key(), message.value()))
                position = records[-1].offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                # R5, a position does not move over markers: only this event tells that nothing more comes
                position = max(position, message.offset() or 0)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET and not records:  # noqa: SLF001
                raise DeletedError
            elif (why := describe_unreadable(error)) is not None:
                self._unread = Unreadable(*place, max(position, message.offset() or 0), why)
                break
            else:
                raise KafkaException(error)
        return records, position

    def _rest(self) -> None:
        """Let the reader fetch no more, unless it is in the middle of a scan: at an end it would ask without pause."""
        if self._scan is not None and self._scan.offset >= self._scan.end:
            self._scan = None
        if self._scan is None and self._reader_or_none is not None:
            self._reader_or_none.unassign()


def enqueue(producer: Producer, output: OutputRecord, on_delivery: Callable[..., Any] | None = None) -> None:
    """Hand a record over to *producer*; where its queue is full, wait for room."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            producer.produce(output.topic, output.value, output.key, output.partition, on_delivery=on_delivery)
        except BufferError:
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from None  # noqa: SLF001
            producer.poll(0.05)
        else:
            return


def flush(producer: Producer, timeout_s: float) -> None:
    """Wait until everything is delivered or has failed; raise KafkaException if that takes longer."""
    if producer.flush(timeout_s):
        producer.purge()
        text = f"no answer within {timeout_s:g} s"
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, text, retriable=True))  # noqa: SLF001


def query_committed(
    consumer: Consumer, places: Iterable[TopicPartition], timeout_s: float
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Return what the group of *consumer* has committed, for those of *places* where it has."""
    asked = [confluent_kafka.TopicPartition(*place) for place in places]
    answers = retry_passing(lambda: _require_success(consumer.committed(asked, timeout=timeout_s)))
    return {
        TopicPartition(one.topic, one.partition): OffsetAndMetadata(one.offset, one.metadata or "")
        for one in answers
        if one.offset >= 0
    }


def close_consumer(consumer: Consumer, timeout_s: float = _CLOSE_S) -> None:
    """Close *consumer*; R12, amid a rebalance that may wait for ever: then leave it behind."""
    with suppress(KafkaException, RuntimeError, TimeoutError):
        call_with_timeout(consumer.close, timeout_s)


def _query_offsets(consumer: Consumer, places: Iterable[TopicPartition], which: int) -> dict[TopicPartition, int]:
    """Return the first or last offsets of all *places*, with one question."""
    asked = [confluent_kafka.TopicPartition(topic, partition, which) for topic, partition in places]
    answers = retry_passing(lambda: _require_success(consumer.offsets_for_times(asked, timeout=ANSWER_S)))
    return {TopicPartition(one.topic, one.partition): one.offset for one in answers}


def _next_messages(consumer: Consumer, count: int, timeout_s: float) -> list[Message]:
    """Return the messages that are there, at most *count*; if there are none, wait for the first.

    R2, ``consume(n, timeout)`` waits for n messages or the whole time: so it is asked without a time-out.
    """
    if messages := consumer.consume(count, 0.0):
        return messages
    first = consumer.poll(timeout_s)
    return [] if first is None else [first]


def _require_success(answers: Sequence[confluent_kafka.TopicPartition]) -> list[confluent_kafka.TopicPartition]:
    """Return *answers*, or raise the first error among them."""
    for one in answers:
        if one.error is not None:
            raise KafkaException(one.error)
    return list(answers)
