"""The whole program on one page: **infer** (events → predictions, requests) and **join** (replies → training).

A step is a pure function of the fold, the partitions' committed states, the polled records and the time. What it
returns is one transaction: outputs, the consumed offsets and, beside each offset, the partition's new state. The
third part, **learn**, is `streamal.core.fold`, which takes only what was committed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from streamal.core.fold import Fold
from streamal.core.infer import infer
from streamal.core.join import Replies, decode_replies, join
from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.core.rules import Refused, Rules, Step, Tally
from streamal.core.strategies.base import Memory

__all__ = ["step"]

_NO_MEMORIES: Mapping[TopicPartition, Memory] = {}
_NO_KILLERS: Mapping[TopicPartition, Collection[int]] = {}


def step(
    rules: Rules,
    fold: Fold,
    committed: Mapping[TopicPartition, OffsetAndMetadata],
    polled: Sequence[Record],
    now: float,
    replies: Replies | None = None,
    memories: Mapping[TopicPartition, Memory] = _NO_MEMORIES,
    killers: Mapping[TopicPartition, Collection[int]] = _NO_KILLERS,
) -> Step:
    """Return the transaction that consumes *polled*, given what this worker has *committed* and knows (*fold*).

    *now* is in seconds; no record is older than the one before it, whatever *now* is: the states and the fold note the
    times. If ``labels`` is
    among *committed*, this worker is the trainer: it also joins, and closes the requests that have expired. *replies*
    are those among *polled*, with the events that they reference; by default they are decoded here. *memories* are
    what a strategy that looks back knows of each partition (see `rebuild_memory`), *killers* the offsets of events that
    are not to be read (see `infer`). Changes nothing.
    """
    events: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
    for record in polled:
        if record.topic == rules.topics.events:
            events[TopicPartition(record.topic, record.partition)].append(record)
    outputs: list[OutputRecord] = []
    offsets: dict[TopicPartition, OffsetAndMetadata] = {}
    tally: Tally = Counter()
    advanced: dict[TopicPartition, Memory] = {}
    refused: list[Refused] = []
    for place, records in events.items():
        memory, dead = memories.get(place), killers.get(place, ())
        inferred = infer(rules, fold, place, committed[place], records, now, memory, dead)
        outputs += inferred.outputs
        tally.update(inferred.tally)
        refused += inferred.refused
        offsets[place] = inferred.commit
        if inferred.memory is not None:
            advanced[place] = inferred.memory
    labels = TopicPartition(rules.topics.labels, 0)
    if labels not in committed:
        return Step(outputs, offsets, tally, [], advanced, refused)
    replies = decode_replies(rules, fold, polled) if replies is None else replies
    joined = join(rules, fold, committed[labels], replies, now)
    outputs += joined.outputs
    tally.update(joined.tally)
    refused += joined.refused
    if joined.commit is not None:
        offsets[labels] = joined.commit
    return Step(outputs, offsets, tally, joined.label_delays_s, advanced, refused)
