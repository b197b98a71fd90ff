"""Checks for `verify` that ``training`` holds the first valid reply to each request, and nothing else."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, assert_never

from streamal.core.codec.events import decode_training
from streamal.core.codec.replies import decode_reply
from streamal.core.records import (
    Abstention,
    Example,
    Expiry,
    NaturalExample,
    NaturalLabel,
    Prediction,
    Quarantine,
    Refusal,
    Reply,
    SchemaSet,
    TopicPartition,
    WarmStart,
    coordinates,
    partition_of,
)
from streamal.core.schema import Schema
from streamal.inspection.verify.checks import Check, NaturalLabels
from streamal.inspection.verify.evidence import Evidence
from streamal.ports import scan

__all__ = ["check_training"]

_GONE = "replies were deleted by retention"
_LETTERS_GONE = "replies may have lost their dead letter by retention"
_EARLY = "replies came before their request, and were unknown then"
_IN_ORDER = 3
"""So many examples in a row whose replies are left, in the same order: the replies to all later ones are left too."""


class _Posted(NamedTuple):
    """A reply and its offset in ``labels``."""

    offset: int
    reply: Reply


Replies = Mapping[str, Sequence[_Posted]]


def check_training(evidence: Evidence, unknown: int, schema: Schema | None) -> Iterator[Check]:
    """Check that training holds the first valid reply to each request, and nothing else (I3, I8).

    A reply that came before its request (somebody guessed the coordinates) is not the first valid one. No record says
    so: the trainer's own count of such replies, *unknown*, is taken as their greatest number, and a reply behind one to
    a later request of its partition is none of them. *schema* says which features of natural labels were kept.
    """
    natural = NaturalLabels(evidence, schema)
    first_reply = Check("each example and abstention is the first valid reply to its request")
    kept = Check("each request with a valid reply is closed, each reply that cannot be read has one dead letter")
    readable = Check("every record of training is streamal's own")
    replies = _read_replies(evidence, kept, natural, schema)
    closings: list[Example | Abstention] = []
    trained: set[str] = set()
    for record in scan(evidence.log, evidence.rules.topics.training, 0):
        training = decode_training(record.value)
        readable.expect(not isinstance(training, Refusal), f"offset {record.offset}")
        match training:
            case NaturalExample():
                natural.add_example(training)
            case Example() | Abstention():
                trained.add(training.request)
                closings.append(training)
                if training.label is not None:
                    natural.bought.add(training.request)
            case Expiry():
                trained.add(training.request)
            case SchemaSet() | WarmStart() | Quarantine() | Refusal():
                pass
            case _:
                assert_never(training)
    early = _EarlyReplies(evidence, replies, closings, unknown)
    _check_closings(evidence, first_reply, replies, closings, early)
    for key, prediction in evidence.predictions.items():
        if prediction.asked is not None and key in replies:
            early.judge(kept, key, () if key in trained else replies[key])
    yield from (first_reply, kept, readable)
    if natural.any:
        yield natural.check()


def _check_closings(
    evidence: Evidence, check: Check, replies: Replies, closings: Sequence[Example | Abstention], early: _EarlyReplies
) -> None:
    """Check that each of *closings* says what the first valid reply to its request says.

    Replies are joined in their order. So where retention has deleted the first replies, those of the first closings
    are missing, and of no other.
    """
    found = [_find(closing, replies) for closing in closings]
    in_order = _find_in_order(found)
    row = _IN_ORDER if not evidence.labels_from else 0
    for closing, posted, is_in_order in zip(closings, found, in_order, strict=True):
        key = closing.request
        row += is_in_order
        agrees = not evidence.is_predicted(key) or _agrees(closing, evidence.predictions.get(key))
        if not posted and agrees and row < _IN_ORDER:
            check.skip("examples and abstentions have lost their reply by retention")
        elif not posted or not agrees:
            check.expect(False, key)
        else:
            early.judge(check, key, [each for each in replies[key] if each.offset < posted[0].offset])


def _find(closing: Example | Abstention, replies: Replies) -> list[_Posted]:
    """Return the replies that say what *closing* says, in order."""
    said = (closing.label, closing.annotator, closing.reply)
    candidates = replies.get(closing.request, ())
    return [each for each in candidates if (each.reply.label, each.reply.annotator, each.reply.reply) == said]


def _find_in_order(found: Sequence[Sequence[_Posted]]) -> list[bool]:
    """Return for each closing whether its reply is left and comes before those of all later closings."""
    lowest, in_order = math.inf, []
    for posted in reversed(found):
        in_order.append(bool(posted) and posted[0].offset < lowest)
        lowest = min(lowest, posted[0].offset if posted else math.inf)
    return in_order[::-1]


class _EarlyReplies:
    """Tells replies that came before their request from those that were lost."""

    def __init__(
        self, evidence: Evidence, replies: Replies, closings: Sequence[Example | Abstention], unknown: int
    ) -> None:
        self._letters_from = evidence.letters_from(evidence.rules.topics.labels, 0)
        accepted: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for closing in closings:
            if posted := _find(closing, replies):  # the last of them: a guess may say the same as the valid reply
                accepted[partition_of(closing.request)].append((posted[-1].offset, _offset_of(closing.request)))
        self._accepted = {partition: sorted(pairs) for partition, pairs in accepted.items()}
        self._latest = {
            partition: list(itertools.accumulate((event for _, event in pairs), max))
            for partition, pairs in self._accepted.items()
        }
        never_asked = (
            posted.offset >= self._letters_from
            for key, of_request in replies.items()
            if evidence.is_predicted(key) and not _is_asked(evidence.predictions.get(key))
            for posted in of_request
        )
        self._left = unknown - sum(never_asked)

    def judge(self, check: Check, key: str, replies: Sequence[_Posted]) -> None:
        """Count in *check* the request *key*, to which *replies* were posted and not joined."""
        lost = False
        for posted in replies:
            if posted.offset < self._letters_from:
                check.skip(_LETTERS_GONE)
            elif self._left > 0 and not self._was_asked_before(key, posted.offset):
                self._left -= 1
                check.skip(_EARLY)
            else:
                lost = True
        check.expect(not lost, key)

    def _was_asked_before(self, key: str, offset: int) -> bool:
        """Return whether a reply before *offset* was joined with a request that is not older than *key*."""
        partition = partition_of(key)
        before = bisect_left(self._accepted.get(partition, []), (offset, 0))
        return before > 0 and self._latest[partition][before - 1] >= _offset_of(key)


def _read_replies(evidence: Evidence, kept: Check, natural: NaturalLabels, schema: Schema | None) -> Replies:
    """Return the consumed replies by request, in order; count the others in *kept* and *natural*."""
    topic, wire = evidence.rules.topics.labels, evidence.rules.wire
    letters, letters_from = evidence.letters_of(topic), evidence.letters_from(topic, 0)
    end = evidence.committed.get(TopicPartition(topic, 0), 0)
    replies: dict[str, list[_Posted]] = {}
    kept.skip(_GONE, evidence.labels_from)
    unreadable: list[range] = []
    for record in scan(evidence.log, topic, 0, unreadable=unreadable):
        reply = decode_reply(record.value, wire, None)
        if isinstance(reply, Refusal) and schema is not None:
            reply = decode_reply(record.value, wire, schema)  # it may drop what is not well-formed
        times = letters.pop(coordinates(0, record.offset), 0)
        if isinstance(reply, Refusal) and not times and record.offset < min(end, letters_from):
            kept.skip(_LETTERS_GONE)
        elif isinstance(reply, Refusal) or times or record.offset >= end:
            kept.expect(times == (record.offset < end), f"reply {record.offset}")
        elif isinstance(reply, NaturalLabel):
            natural.add_label(reply, is_certain=record.offset >= letters_from)
        else:
            replies.setdefault(reply.request, []).append(_Posted(record.offset, reply))
    for offset in itertools.chain(*unreadable):
        kept.expect(letters.pop(coordinates(0, offset), 0) == (offset < end), f"reply {offset}")
    for key in letters:
        if _offset_of(key) >= evidence.labels_from:
            kept.expect(False, f"{key}: a dead letter without a reply")
    return replies


def _agrees(training: Example | Abstention, prediction: Prediction | None) -> bool:
    """Whether *training* carries the propensity, lane, guess and confidence of its event's prediction."""
    if prediction is None or (training.propensity, training.lane) != (prediction.propensity, prediction.asked):
        return False
    if isinstance(training, Abstention):
        return True
    expected = max(prediction.probabilities.values(), default=0.0), prediction.probabilities.get(training.label, 0.0)
    return training.predicted == prediction.label and (training.confidence, training.probability) == expected


def _is_asked(prediction: Prediction | None) -> bool:
    return prediction is not None and prediction.asked is not None


def _offset_of(key: str) -> int:
    """Return the offset in the coordinates *key*."""
    return int(key.partition("-")[2])
