"""Topics of a cluster, read without a group and appended to without a transaction."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import kafka
from kafka import KafkaConsumer, KafkaProducer, errors
from kafka.admin import OffsetSpec

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka.membership import deleted, missing
from streamal.edge.kafka.python.connection import Connection, abandon, mapped, retried, state_of
from streamal.errors import Uncommitted

__all__ = ["KafkaLog"]

_ANSWER_MS = 10_000  # for questions about offsets, and for records that are known to be there
_CLOSE_S = 2.0  # for what is under way


class KafkaLog:
    """The `streamal.ports.Log` of a cluster. One thread uses it; others open their own.

    Raises:
        Fatal: the cluster could not be reached in time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._admin = connection.admin()
        self._reader_made: KafkaConsumer | None = None
        self._appender_made: KafkaProducer | None = None
        self._counts: dict[str, int] = {}
        self._read_on: tuple[kafka.TopicPartition, int, int] | None = None
        """Partition, offset where the last read has stopped, end as it was then."""
        self._gaps: dict[kafka.TopicPartition, tuple[int, int]] = {}
        """Where nothing was found but markers and aborted records: who asks for the news asks from there every time."""

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of *topic*; 0 if there is no such topic."""
        with mapped(f"look for topic {topic!r}"):
            for described in retried(lambda: self._admin.describe_topics([topic])):
                if described["error_code"] == 0:
                    self._counts[topic] = len(described["partitions"])
                    return self._counts[topic]
                if described["error_code"] != errors.UnknownTopicOrPartitionError.errno:
                    raise errors.for_code(described["error_code"])(topic)
        return 0

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
            if self._read_on is not None and self._read_on[:2] == (place, begin) and begin < self._read_on[2]:
                end = self._read_on[2]
            else:
                end = self._end(place)
            return self._fetched(place, begin, end, records_max) if begin < end else []

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Write one record, wait for all replicas, and return its offset."""
        return self.append_all([OutputRecord(topic, partition, key, value)])[0]

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        """Write records, wait once for all of them at all replicas, and return their offsets."""
        for topic, partition in {(output.topic, output.partition) for output in outputs}:
            self._require(topic, partition)
        with mapped("append records"):
            appender, self._appender_made = self._appender_made or self._connection.producer(), None
            try:
                sent = [appender.send(o.topic, o.value, o.key, partition=o.partition) for o in outputs]
                offsets = [int(each.get(timeout=_ANSWER_MS / 1e3).offset) for each in sent]
            except BaseException:
                abandon(appender)  # K14: the next call has a new one
                raise
            self._appender_made = appender
            return offsets

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what *group* has committed."""
        with mapped(f"ask for the offsets of group {group!r}"):
            offsets = retried(lambda: self._admin.list_group_offsets(group))[group]
        return {
            TopicPartition(*place): state_of(state) for place, state in sorted(offsets.items()) if state.offset >= 0
        }

    def close(self) -> None:
        """Leave the cluster; closing twice is allowed."""
        with suppress(errors.KafkaError, OSError):
            if self._reader_made is not None:
                self._reader_made.close(autocommit=False, timeout_ms=_CLOSE_S * 1e3)
            if self._appender_made is not None:
                self._appender_made.close(timeout=_CLOSE_S)
        self._admin.close()

    @property
    def _reader(self) -> KafkaConsumer:
        """The group-less consumer, made at first use; its fetches never wait, for they ask for what is there."""
        if self._reader_made is None:
            self._reader_made = self._connection.consumer(fetch_max_wait_ms=0)
        return self._reader_made

    def _require(self, topic: str, partition: int) -> kafka.TopicPartition:
        """Return the partition; a ConfigError if there is none. What was there once is not asked for again."""
        if partition >= self._counts.get(topic, 0) and partition >= self.partitions(topic):
            raise missing(topic, partition, self._connection.bootstrap_servers)
        return kafka.TopicPartition(topic, partition)

    def _beyond_gap(self, place: kafka.TopicPartition, offset: int) -> int:
        """Return where the next record after *offset* can be."""
        after, before = self._gaps.get(place, (0, 0))
        return before if after <= offset < before else offset

    def _end(self, place: kafka.TopicPartition) -> int:
        """Return the last stable offset, asked for now."""
        return self._ends([place])[place]

    def _ends(self, places: list[kafka.TopicPartition]) -> dict[kafka.TopicPartition, int]:
        deadline = time.monotonic() + _ANSWER_MS / 1e3
        while True:
            try:
                ends: dict[kafka.TopicPartition, int] = self._reader.end_offsets(places, timeout_ms=_ANSWER_MS)
            except KeyError as missing:  # K9; its metadata are on their way
                if time.monotonic() > deadline:
                    raise errors.LeaderNotAvailableError(str(missing)) from None
                time.sleep(0.02)
            else:
                return ends

    def _high(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the high watermarks: the ends of *places* with what is open there."""
        asked = {kafka.TopicPartition(*place): OffsetSpec.LATEST for place in places}
        answers = retried(lambda: self._admin.list_partition_offsets(asked, timeout_ms=_ANSWER_MS))
        return {place: answers[place].offset for place in places}

    def _fetched(self, place: kafka.TopicPartition, offset: int, end: int, records_max: int) -> list[Record]:
        """Read on until something is found, or *end* is reached over nothing but gaps."""
        reader, going_on = self._reader, self._read_on is not None and self._read_on[:2] == (place, offset)
        self._read_on = None
        reader.assign([place])
        if not going_on:
            reader.seek(place, offset)
        records: list[Record] = []
        position, deadline = offset, time.monotonic() + _ANSWER_MS / 1e3
        while len(records) < records_max and position < end:
            try:
                found = reader.poll(timeout_ms=2, max_records=records_max - len(records)).get(place, ())
            except errors.OffsetOutOfRangeError:
                begin = reader.beginning_offsets([place], timeout_ms=_ANSWER_MS)[place]
                if offset > 0 or records:
                    raise deleted(TopicPartition(*place), begin, offset) from None
                reader.seek(place, begin)
            else:
                records += [Record(place.topic, place.partition, one.offset, one.key, one.value) for one in found]
            position = reader.position(place)
            if time.monotonic() > deadline:
                raise Uncommitted(f"{place.topic}-{place.partition} ends at {end}, but stops answering at {position}")
        self._read_on = (place, position, end)
        self._gaps[place] = (records[-1].offset + 1 if records else offset, position)
        return records
