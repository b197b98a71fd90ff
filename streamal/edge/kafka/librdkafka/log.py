"""Topics of a cluster, read without a group and appended to without a transaction."""

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
from streamal.edge.kafka.librdkafka.connection import REQUEST_S, Connection, mapped, retried
from streamal.edge.kafka.membership import deleted, missing, watched
from streamal.errors import Uncommitted

__all__ = ["ConfluentLog", "enqueue", "flush", "sound"]

_CLOSE_S = 2.0  # for what is under way


class ConfluentLog:
    """The `streamal.ports.Log` of a cluster. One thread uses it; others open their own.

    Raises:
        Fatal: the cluster could not be reached in time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._admin = connection.admin()
        self._reader_made: Consumer | None = None
        self._visitor_made: tuple[str, Consumer] | None = None
        """A consumer of the group that `committed` was asked for last; it never joins."""
        self._appender_made: Producer | None = None
        self._counts: dict[str, int] = {}
        self._read_on: tuple[TopicPartition, int, int] | None = None
        """What the reader is at: partition, offset where the last read has stopped, end as it was then."""
        self._gaps: dict[TopicPartition, tuple[int, int]] = {}
        """Where nothing was found but markers and aborted records: who asks for the news asks from there every time."""

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of *topic*; 0 if there is no such topic."""
        self._admin.poll(0)  # R7
        asked = TopicCollection([topic])
        with mapped(f"look for topic {topic!r}"):
            try:
                described = retried(
                    lambda: self._admin.describe_topics(asked, request_timeout=REQUEST_S)[topic].result(2 * REQUEST_S)
                )
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return 0
                raise
        self._counts[topic] = len(described.partitions)
        return self._counts[topic]

    def end(self, topic: str, partition: int) -> int:
        """Return the last stable offset."""
        place = self._require(topic, partition)
        with mapped(f"ask for the end of {topic}-{partition}"):
            return self._end(place)

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        """Return up to *records_max* committed records from *offset* on; 0 means from the first that is still there.

        Raises:
            LogDisagrees: the records from *offset* on were deleted (F14).
        """
        place = self._require(topic, partition)
        if records_max <= 0:
            return []
        begin = self._beyond_gap(place, offset)
        with mapped(f"read {topic}-{partition} from {offset}"):
            going_on = self._read_on is not None and self._read_on[:2] == (place, begin)
            end = self._read_on[2] if self._read_on and going_on else self._end(place)
            return self._fetched(place, begin, end, records_max) if begin < end else []

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Write one record, wait for all replicas, and return its offset."""
        return self.append_all([OutputRecord(topic, partition, key, value)])[0]

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        """Write records, wait once for all of them at all replicas, and return their offsets."""
        for topic, partition in {(output.topic, output.partition) for output in outputs}:
            self._require(topic, partition)
        offsets: dict[int, int] = {}
        errors: list[KafkaError] = []

        def delivered(number: int, error: KafkaError | None, message: Message) -> None:
            if error is None:
                offsets[number] = message.offset() or 0
            else:
                errors.append(error)

        with mapped("append records"):
            if self._appender_made is None:
                self._appender_made = self._connection.producer({})
            for number, output in enumerate(outputs):
                enqueue(self._appender_made, output, partial(delivered, number))
            flush(self._appender_made, 2 * REQUEST_S)
            if errors:
                raise KafkaException(errors[0])
        return [offsets[number] for number in range(len(outputs))]

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what *group* has committed.

        An administrator's client would know the partitions by itself, but ends our process when the broker goes (R13).
        """
        with mapped(f"ask for the offsets of group {group!r}"):
            if self._visitor_made is None or self._visitor_made[0] != group:
                self._dismiss()
                self._visitor_made = group, self._connection.consumer({"group.id": group})
            offset_reader = self._visitor_made[1]
            offset_reader.poll(0)  # R7
            topics = offset_reader.list_topics(timeout=REQUEST_S).topics
            asked = [
                confluent_kafka.TopicPartition(topic, partition)
                for topic in sorted(topics)
                if not topic.startswith("__")  # Kafka's own
                for partition in sorted(topics[topic].partitions)
            ]
            answers = retried(lambda: sound(offset_reader.committed(asked, timeout=REQUEST_S))) if asked else []
        return {
            TopicPartition(one.topic, one.partition): OffsetAndMetadata(one.offset, one.metadata or "")
            for one in answers
            if one.offset >= 0
        }

    def close(self) -> None:
        """Leave the cluster; closing twice is allowed."""
        if self._appender_made is not None:
            self._appender_made.flush(_CLOSE_S)
            self._appender_made = None
        if self._reader_made is not None:
            _closed(self._reader_made)
            self._reader_made = None
        self._dismiss()

    @property
    def _reader(self) -> Consumer:
        """The consumer outside the group, made at first use; its fetches never wait, for they ask for what is there."""
        if self._reader_made is None:
            self._reader_made = self._connection.consumer({"enable.partition.eof": True, "fetch.wait.max.ms": 0})
        return self._reader_made

    def _require(self, topic: str, partition: int) -> TopicPartition:
        """Return the partition; a ConfigError if there is none. What was there once is not asked for again."""
        if partition >= self._counts.get(topic, 0) and partition >= self.partitions(topic):
            raise missing(topic, partition, self._connection.bootstrap_servers)
        return TopicPartition(topic, partition)

    def _beyond_gap(self, place: TopicPartition, offset: int) -> int:
        """Return where the next record after *offset* can be."""
        after, before = self._gaps.get(place, (0, 0))
        return before if after <= offset < before else offset

    def _end(self, place: TopicPartition) -> int:
        """Return the last stable offset, asked for now."""
        return self._offsets([place], OFFSET_END)[place]

    def _dismiss(self) -> None:
        """Let go the consumer that has looked into a group."""
        if self._visitor_made is not None:
            _closed(self._visitor_made[1])
            self._visitor_made = None

    def _high(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the high watermarks: the ends of *places* with what is open there.

        A consumer sees either these or the last stable offsets, for life: so this one lives for one question.
        """
        reader = self._connection.consumer({"isolation.level": "read_uncommitted"})
        try:
            return _asked(reader, places, OFFSET_END)
        finally:
            _closed(reader)

    def _offsets(self, places: Iterable[TopicPartition], which: int) -> dict[TopicPartition, int]:
        """Return the offsets of all *places*, with one question."""
        return _asked(self._reader, places, which)

    def _fetched(self, place: TopicPartition, offset: int, end: int, records_max: int) -> list[Record]:
        """Read on until something is found, or *end* is reached over nothing but gaps."""
        reader = self._reader
        if self._read_on is None or self._read_on[:2] != (place, offset):
            reader.assign([confluent_kafka.TopicPartition(*place, offset)])
        self._read_on = None
        records: list[Record] = []
        position, deadline = offset, time.monotonic() + REQUEST_S
        try:
            while len(records) < records_max and position < end:
                for message in _next(reader, records_max - len(records), 0.1):
                    code = error.code() if (error := message.error()) else None
                    if code is None:
                        records.append(Record(*place, message.offset() or 0, message.key(), message.value()))
                        position = records[-1].offset + 1
                    elif code == KafkaError._PARTITION_EOF:  # noqa: SLF001  (R5)
                        position = max(position, message.offset() or 0)
                    elif code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
                        begin = self._offsets([place], OFFSET_BEGINNING)[place]
                        if offset > 0 or records:
                            raise deleted(place, begin, offset)
                        reader.assign([confluent_kafka.TopicPartition(*place, begin)])
                    else:
                        raise KafkaException(error)
                if time.monotonic() > deadline:
                    raise Uncommitted(f"{place} ends at {end}, but stops answering at {position}")
            if position < end:
                self._read_on = (place, position, end)
        finally:
            self._rest()
        self._gaps[place] = (records[-1].offset + 1 if records else offset, position)
        return records

    def _rest(self) -> None:
        """Let the reader fetch no more, unless it is in the middle of a scan: at an end it would ask without pause."""
        if self._read_on is None and self._reader_made is not None:
            self._reader_made.unassign()


def enqueue(producer: Producer, output: OutputRecord, delivered: Callable[..., Any] | None = None) -> None:
    """Hand a record over to *producer*; where its queue is full, wait for room."""
    deadline = time.monotonic() + REQUEST_S
    while True:
        try:
            producer.produce(output.topic, output.value, output.key, output.partition, on_delivery=delivered)
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


def _asked(consumer: Consumer, places: Iterable[TopicPartition], which: int) -> dict[TopicPartition, int]:
    """Return the offsets of all *places*, with one question."""
    asked = [confluent_kafka.TopicPartition(topic, partition, which) for topic, partition in places]
    answers = retried(lambda: sound(consumer.offsets_for_times(asked, timeout=REQUEST_S)))
    return {TopicPartition(one.topic, one.partition): one.offset for one in answers}


def _closed(consumer: Consumer) -> None:
    """Close *consumer*, if that can be done at all (R12)."""
    with suppress(KafkaException, RuntimeError, TimeoutError):
        watched(consumer.close, _CLOSE_S)


def _next(consumer: Consumer, count: int, timeout_s: float) -> list[Message]:
    """Return the messages that are there, at most *count*; if there are none, wait for the first (R2)."""
    if messages := consumer.consume(count, 0.0):
        return messages
    first = consumer.poll(timeout_s)
    return [] if first is None else [first]


def sound(answers: Sequence[confluent_kafka.TopicPartition]) -> list[confluent_kafka.TopicPartition]:
    """Return *answers*, or raise the first error among them."""
    for one in answers:
        if one.error is not None:
            raise KafkaException(one.error)
    return list(answers)
