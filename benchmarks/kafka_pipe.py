"""The bare pipe: consume → JSON → produce, in transactions, with each client; the least that exactly-once costs."""

from __future__ import annotations

import os
from typing import Any

import kafka
import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata

from streamal.config import Config

_BATCH = 500


class KafkaPythonPipe:
    """With kafka-python, as one would write it by hand."""

    def __init__(self, config: Config) -> None:
        self.out, group = config.topics.predictions, config.transport.group
        servers = config.transport.bootstrap_servers
        self._consumer = KafkaConsumer(
            config.topics.events,
            bootstrap_servers=servers,
            group_id=group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=_BATCH,
            fetch_max_wait_ms=100,
        )
        self.producer = KafkaProducer(
            bootstrap_servers=servers,
            transactional_id=f"{group}-{os.getpid()}",
            acks="all",
            linger_ms=5,
            batch_size=131_072,
            retry_backoff_ms=20,
        )
        self.producer.init_transactions()

    def tick(self) -> int:
        """Copy a batch and return how many records it had."""
        batches = self._consumer.poll(timeout_ms=200)
        if not batches:
            return 0
        self.producer.begin_transaction()
        for place, records in batches.items():
            for record in records:
                self.send(record.value, place.partition)
        self.producer.flush()
        offsets = {
            kafka.TopicPartition(place.topic, place.partition): OffsetAndMetadata(records[-1].offset + 1, "", -1)
            for place, records in batches.items()
        }
        self.producer.send_offsets_to_transaction(offsets, self._consumer.group_metadata())
        self.producer.commit_transaction()
        return sum(map(len, batches.values()))

    def send(self, value: bytes, partition: int) -> None:
        """Send what comes of one record."""
        self.producer.send(self.out, msgspec.json.encode(msgspec.json.decode(value)), partition=partition)

    def close(self) -> None:
        """Leave."""
        self._consumer.close(autocommit=False)
        self.producer.close(timeout=2)


class ConfluentPipe:
    """With confluent-kafka, likewise."""

    def __init__(self, config: Config) -> None:
        self._topic, self.out = config.topics.events, config.topics.predictions
        servers, group = config.transport.bootstrap_servers, config.transport.group
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.subscribe([self._topic])
        self.producer = Producer(
            {"bootstrap.servers": servers, "transactional.id": f"{group}-{os.getpid()}", "linger.ms": 5}
        )
        self.producer.init_transactions()

    def tick(self) -> int:
        """Copy a batch and return how many records it had."""
        records: list[Any] = [record for record in self._consumer.consume(_BATCH, 0.05) if record.error() is None]
        if not records:
            return 0
        self.producer.begin_transaction()
        ends: dict[int, int] = {}
        for record in records:
            self.send(record.value(), record.partition())
            ends[record.partition()] = record.offset() + 1
        offsets = [TopicPartition(self._topic, partition, end) for partition, end in ends.items()]
        self.producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata())
        self.producer.commit_transaction()
        return len(records)

    def send(self, value: bytes, partition: int) -> None:
        """Send what comes of one record."""
        self.producer.produce(self.out, msgspec.json.encode(msgspec.json.decode(value)), partition=partition)

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


PIPES: dict[str, Any] = {"kafka-python": KafkaPythonPipe, "confluent": ConfluentPipe}
