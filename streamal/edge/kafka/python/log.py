"""`ClusterLog` over kafka-python: topics of a cluster, read without a group and appended to without a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import kafka
from kafka import KafkaConsumer, KafkaProducer, errors
from kafka.admin import OffsetSpec

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka.base import ANSWER_S, ClusterLog, DeletedError
from streamal.edge.kafka.python.connection import (
    Connection,
    abandon,
    retry_passing,
    retry_without_leader,
    state_of,
    translate_errors,
)

__all__ = ["KafkaLog"]

_ANSWER_MS = int(ANSWER_S * 1e3)
_CLOSE_S = 2.0  # for what is under way


class KafkaLog(ClusterLog):
    """The `streamal.ports.Log` of a cluster, over kafka-python; Fatal if the cluster cannot be reached in time."""

    _translate = staticmethod(translate_errors)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection
        self._admin = connection.admin()
        self._reader_or_none: KafkaConsumer | None = None
        self._appender: KafkaProducer | None = None

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of *topic*; 0 if there is no such topic."""
        with translate_errors(f"look for topic {topic!r}"):
            for described in retry_passing(lambda: self._admin.describe_topics([topic])):
                if described["error_code"] == 0:
                    self._counts[topic] = len(described["partitions"])
                    return self._counts[topic]
                if described["error_code"] != errors.UnknownTopicOrPartitionError.errno:
                    raise errors.for_code(described["error_code"])(topic)
        return 0

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what *group* has committed."""
        with translate_errors(f"ask for the offsets of group {group!r}"):
            offsets = retry_passing(lambda: self._admin.list_group_offsets(group))[group]
        return {
            TopicPartition(*place): state_of(state) for place, state in sorted(offsets.items()) if state.offset >= 0
        }

    def close(self) -> None:
        """Leave the cluster; closing twice is allowed."""
        with suppress(errors.KafkaError, OSError):
            if self._reader_or_none is not None:
                self._reader_or_none.close(autocommit=False, timeout_ms=_CLOSE_S * 1e3)
            if self._appender is not None:
                self._appender.close(timeout=_CLOSE_S)
        self._admin.close()

    @property
    def _reader(self) -> KafkaConsumer:
        """The consumer outside the group, made at first use; its fetches never wait, for they ask for what is there."""
        if self._reader_or_none is None:
            self._reader_or_none = self._connection.consumer(fetch_max_wait_ms=0)
        return self._reader_or_none

    def _produce(self, outputs: Sequence[OutputRecord]) -> list[int]:
        appender, self._appender = self._appender or self._connection.producer(), None
        try:
            sent = [appender.send(o.topic, o.value, o.key, partition=o.partition) for o in outputs]
            offsets = [int(each.get(timeout=ANSWER_S).offset) for each in sent]
        except BaseException:
            abandon(appender)  # K14, a producer may never deliver again: the next call has a new one
            raise
        self._appender = appender
        return offsets

    def _last_stable(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        asked = [kafka.TopicPartition(*place) for place in places]
        # K9, a partition without a known leader fails the question: its metadata are on their way
        ends = retry_without_leader(lambda: self._reader.end_offsets(asked, timeout_ms=_ANSWER_MS))
        return {TopicPartition(*place): end for place, end in ends.items()}

    def _high_watermarks(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        asked = {kafka.TopicPartition(*place): OffsetSpec.LATEST for place in places}
        answers = retry_passing(lambda: self._admin.list_partition_offsets(asked, timeout_ms=_ANSWER_MS))
        return {place: answers[kafka.TopicPartition(*place)].offset for place in places}

    def _begin(self, place: TopicPartition) -> int:
        asked = kafka.TopicPartition(*place)
        return int(self._reader.beginning_offsets([asked], timeout_ms=_ANSWER_MS)[asked])

    def _aim(self, place: TopicPartition, offset: int | None) -> None:
        target = kafka.TopicPartition(*place)
        self._reader.assign([target])
        if offset is not None:
            self._reader.seek(target, offset)

    def _fetch_some(self, place: TopicPartition, position: int, records_max: int) -> tuple[list[Record], int]:  # noqa: ARG002  (the client knows it)
        target = kafka.TopicPartition(*place)
        try:
            found = self._reader.poll(timeout_ms=2, max_records=records_max).get(target, ())
        except errors.OffsetOutOfRangeError as error:
            raise DeletedError from error
        return [Record(*place, one.offset, one.key, one.value) for one in found], self._reader.position(target)

    def _rest(self) -> None:
        """Do nothing: a consumer that is not polled asks for nothing."""
