"""Checks that the topics, the committed offsets and what a worker has read belong together; else the worker ends.

A topic may be deleted and made anew, offsets may be deleted or set by hand. A worker that goes on with them would
break a promise in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

from streamal.core.books import Books
from streamal.core.records import Lane, OffsetAndMetadata, TopicPartition
from streamal.core.rules import TopicNames
from streamal.core.state import PartitionState, decode_state
from streamal.errors import Behind, InconsistentLog
from streamal.ports import Log

__all__ = ["is_read_by", "require_ends", "require_positions", "require_requests", "require_states"]

_AFRESH = "restore it from a copy, or begin afresh: new topics, and another transport.group"
_MADE_ANEW = "it was deleted and made anew, or has lost records"


def require_states(log: Log, topics: TopicNames, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    """Raise InconsistentLog for F61, an offset without its state where work was done already.

    Whoever has set it: without the state the budget and the counts begin anew, and replies may be learned twice.
    """
    for place, state in committed.items():
        done = TopicPartition(topics.training, 0)
        if place.topic == topics.events:
            done = TopicPartition(topics.predictions, place.partition)
        if not state.metadata and (log.begin(*done) or log.read(*done, 0, 1)):
            raise InconsistentLog(
                f"no state is committed beside the offset of {place.topic}-{place.partition}, yet "
                f"{done.topic}-{done.partition} has records: the offsets have expired (offsets.retention.minutes), "
                "were set by hand or by another program, or belong to another group. Without the state the budget and "
                "the counts are lost: restore the offsets with their metadata from a copy, or begin afresh: new "
                "topics, and another transport.group"
            )


def require_ends(log: Log, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    """Raise InconsistentLog for an input topic that ends before its committed offset."""
    for place, (offset, _) in committed.items():
        end = log.end(*place) if offset else 0
        if offset > end:
            raise InconsistentLog(
                f"{place.topic}-{place.partition} ends at {end}, yet {offset} is committed: {_MADE_ANEW}. Its next "
                f"records would be skipped, or predicted under names that are taken: {_AFRESH}"
            )


def require_positions(log: Log, topics: TopicNames, books: Books) -> None:
    """Raise InconsistentLog for F62, a topic of ours that ends before what was read of it."""
    positions = {TopicPartition(topics.requests, partition): at for partition, at in books.positions.items()}
    for place, position in {**positions, TopicPartition(topics.training, 0): books.version.offset}.items():
        end = log.end(*place) if position else 0
        if position > end:
            raise InconsistentLog(
                f"{place.topic}-{place.partition} ends at {end}, yet it was read up to {position}: {_MADE_ANEW}; "
                f"{_AFRESH}"
            )


def require_requests(topics: TopicNames, books: Books, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    """Raise Behind for F62, requests that the committed states have counted and that are neither open nor closed.

    All of the logs is read. So an unfinished transaction hides them, which passes, or they are lost: right answers to
    them would be unknown.
    """
    for place, (_, metadata) in committed.items():
        state = decode_state(metadata, PartitionState) if place.topic == topics.events else None
        if state is None or state.counters is None:
            continue
        asked = ((Lane.AUDIT, state.counters.audit), (Lane.STRATEGY, state.counters.strategy))
        missing = sum(books.pending.count_missing(place.partition, lane, count) for lane, count in asked)
        if missing:
            raise Behind(
                f"{missing} open requests are not on {topics.requests}-{place.partition}. If that lasts, {_MADE_ANEW}, "
                f"and answers to them would be lost: {_AFRESH}"
            )


def is_read_by(log: Log, topics: TopicNames, books: Books) -> bool:
    """Return whether the topics are those that *books* has read: their last records are the same (F41, F42, F62)."""
    offset = books.version.offset - 1
    if offset >= 0:
        found = log.read(topics.training, 0, offset, 1)
        if not found or (found[0].offset, found[0].value) != (offset, books.last):
            return False
    for partition, position in books.positions.items():
        if position > log.end(topics.requests, partition):
            return False
        if position - 1 < log.begin(topics.requests, partition):
            continue
        for record in log.read(topics.requests, partition, position - 1, 1):
            # compaction may have taken that record: then another one is found
            if record.offset == position - 1 and books.checksum(record.key, record.value) != books.checksums[partition]:
                return False
    return True
