"""Reading of fetched batches in kafka-python: a batch that cannot be read is named, and ends the poll."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, errors
from kafka.consumer.fetcher import Fetcher

from streamal.edge.kafka.python.codecs import InflatedTooLargeError
from streamal.errors import Unreadable

__all__ = ["name_unreadable"]


def name_unreadable(consumer: KafkaConsumer) -> KafkaConsumer:
    """Return *consumer*, whose poll raises `Unreadable` for a batch that it cannot read, each time it comes to it."""
    fetcher = consumer._fetcher  # noqa: SLF001  (the defect is in there)
    fetcher.PartitionRecords = _PartitionRecords
    parse = fetcher._parse_fetched_data  # noqa: SLF001

    def parse_or_name(fetch: Any) -> Any:
        place, data = fetch.topic_partition, fetch.partition_data
        if data.error_code == errors.CorruptRecordError.errno:
            # the client takes this answer for a passing one and asks again, for ever and in silence
            raise _unreadable(place, fetch.fetched_offset, "the broker says that it is damaged there")
        try:
            return parse(fetch)
        except errors.KafkaError as error:
            if type(error) is errors.KafkaError:  # the answer holds no whole batch: a length in it is damaged
                raise _unreadable(place, fetch.fetched_offset, f"it is damaged on the brokers: {error}") from error
            raise

    fetcher._parse_fetched_data = parse_or_name  # noqa: SLF001
    return consumer


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one fetched partition.

    K17, a batch that cannot be read: the library reads on in a generator that has failed, which has no more records
    and never an end. Its poll then never returns (F57, F58).
    """

    def take(self, n: int | None = None) -> list[Any]:
        """Return the next records; after an error nothing of this fetch is left, and it is fetched again."""
        try:
            taken: list[Any] = super().take(n)
        except Exception:
            self.drain()
            raise
        return taken

    def _unpack_records(self, tp: Any, *arguments: Any) -> Iterator[Any]:
        try:
            yield from super()._unpack_records(tp, *arguments)
        except MemoryError:
            raise
        except Exception as error:
            offset = max(self.fetch_offset, self.next_fetch_offset)
            raise _unreadable(tp, offset, _describe(error)) from error


def _unreadable(place: Any, offset: int, why: str) -> Unreadable:
    return Unreadable(place.topic, place.partition, offset, why)


def _describe(error: Exception) -> str:
    """Return what is wrong with a batch."""
    if isinstance(error, InflatedTooLargeError):
        return f"{error.args[0]} (32 times limits.record_bytes)"
    if isinstance(error, errors.UnsupportedCodecError | NotImplementedError):
        return f"its codec is unknown here ({error})"
    if "crc" in str(error):
        return "its checksum is wrong: it is damaged on the brokers"
    return f"it is damaged, or its producer wrote it so ({type(error).__name__}: {error})"
