"""One transaction, from begin to commit or abort, with an end to every wait."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamal.core.records import OutputRecord, TopicPartition
from streamal.edge.kafka.librdkafka.log import enqueue, flush
from streamal.edge.kafka.membership import TRANSACTION_S

__all__ = ["Aborted", "transact"]


class Aborted(Exception):
    """The transaction was aborted in good order because of *cause*; the producer can begin another one."""

    def __init__(self, cause: KafkaException) -> None:
        super().__init__(cause)
        self.cause = cause


def transact(
    producer: Producer,
    outputs: Sequence[OutputRecord],
    offsets: Sequence[confluent_kafka.TopicPartition],
    membership: Any,
    timeout_s: float,
) -> dict[TopicPartition, int]:
    """Run one transaction; return the last offset that was written to each partition.

    Raises:
        Aborted: nothing has happened.
        KafkaException: whether anything has happened is not known; or nothing can be done any more.
    """
    deadline = time.monotonic() + timeout_s
    committing = False
    producer.begin_transaction()
    try:
        written = _send(producer, outputs)
        if offsets:  # while the records are on their way
            producer.send_offsets_to_transaction(list(offsets), membership, _left_s(deadline))
        flush(producer, min(TRANSACTION_S, _left_s(deadline)))
        committing = True
        producer.commit_transaction(_left_s(deadline))
    except KafkaException as error:
        cause = error.args[0]
        if cause.fatal() or cause.retriable() or (committing and not cause.txn_requires_abort()):
            raise  # retriable: the transaction is still going on
        producer.abort_transaction(_left_s(deadline))
        raise Aborted(error) from error
    return written


def _send(producer: Producer, outputs: Sequence[OutputRecord]) -> dict[TopicPartition, int]:
    """Hand *outputs* to the producer; return a mapping that has each partition's last offset once they are flushed.

    If one record fails the client fails the transaction, so only the last one of each partition is listened to.
    """
    written: dict[TopicPartition, int] = {}

    def note(place: TopicPartition, error: KafkaError | None, message: Message) -> None:
        if error is None:
            written[place] = message.offset() or 0

    last = {(output.topic, output.partition): number for number, output in enumerate(outputs)}
    for number, output in enumerate(outputs):
        at = output.topic, output.partition
        enqueue(producer, output, partial(note, TopicPartition(*at)) if last[at] == number else None)
    return written


def _left_s(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
