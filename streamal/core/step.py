"""The whole program on one page: **infer** (events → predictions, requests) and **join** (replies → training).

A step is a pure function of the fold, the partitions' committed states, the polled records and the time. What it
returns is one transaction: outputs, the consumed offsets and, beside each offset, the partition's new state. The
third part, **learn**, is `streamal.core.fold`, which takes only what was committed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from streamal.core.fold import Fold
from streamal.core.infer import infer
from streamal.core.join import join
from streamal.core.records import OffsetAndMetadata, Record, TopicPartition
from streamal.core.rules import Rules, Step
from streamal.core.state import TrainerState, encode_state
from streamal.core.strategies.base import Memory

__all__ = ["step"]

_NONE: Mapping[str, Record] = {}
_NO_MEMORIES: Mapping[TopicPartition, Memory] = {}


def step(
    rules: Rules,
    fold: Fold,
    committed: Mapping[TopicPartition, OffsetAndMetadata],
    polled: Sequence[Record],
    now: float,
    answered: float = math.inf,
    recalled: Mapping[str, Record] = _NONE,
    memories: Mapping[TopicPartition, Memory] = _NO_MEMORIES,
) -> Step:
    """Return the transaction that consumes *polled*, given what this worker has *committed* and knows (*fold*).

    *now* is in seconds and must not go back; the states' and the fold's own times guard it too. If ``labels`` is
    among *committed*, this worker is the trainer: it also joins, and closes what has expired; but nothing with a
    deadline after *answered*, the time up to which all replies were polled. *recalled* are the events that `named`
    asks for, by coordinates, as far as the log still has them; *memories* what a
    strategy that looks back knows of each partition (see `rebuild_memory`). Changes nothing.
    """
    by_place: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in polled:
        by_place[record.topic, record.partition].append(record)
    result = Step([], {}, Counter(), [], {})
    for at, records in by_place.items():
        place = TopicPartition(*at)
        if place.topic == rules.topics.events:
            past = memories.get(place)
            result.offsets[place] = infer(rules, fold, place, committed[place], records, now, result, past)
    labels = TopicPartition(rules.topics.labels, 0)
    if labels in committed:
        replies = by_place[labels]
        trained = join(rules, fold, replies, recalled, max(now, fold.books.now), answered, result)
        if replies or trained:
            offset = replies[-1].offset + 1 if replies else committed[labels].offset
            version, quarantined = fold.books.version, fold.learned.guard.quarantined
            state = TrainerState(version.offset, version.records + trained, quarantined)
            result.offsets[labels] = OffsetAndMetadata(offset, encode_state(state))
    return result
