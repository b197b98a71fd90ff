"""Checks every promise against the topics alone: the six topics and the group's committed offsets.

It shares no state with the daemon that it checks. Every check counts its cases: a pass over nothing shows as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar, assert_never

import msgspec

from streamal.core.budget.sampler import Budget, divide
from streamal.core.codec.dead_letters import DeadLetter
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.codec.replies import decode_reply
from streamal.core.fold import Fold
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import (
    Abstention,
    Closing,
    Example,
    Expiry,
    NaturalExample,
    NaturalLabel,
    Prediction,
    Record,
    Refusal,
    Reply,
    Request,
    SchemaSet,
    TopicPartition,
    WarmStart,
    coordinates,
)
from streamal.core.rules import Rules
from streamal.inspection.verify.caps import check_caps
from streamal.inspection.verify.checks import Check, NaturalLabels
from streamal.inspection.verify.predictions import check_predictions
from streamal.ports import Log, scan

__all__ = ["verify"]

R = TypeVar("R", Prediction, DeadLetter)


def verify(
    log: Log,
    rules: Rules,
    budget: Budget,
    group: str,
    new_fold: Callable[[], Fold],
    rederive: bool = True,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Check]:
    """Return all checks of the work of *group* so far.

    Args:
        log: any transport's topics. Stop the daemon first: what it writes meanwhile may look broken.
        rules: the daemon's, from its configuration.
        budget: the daemon's, from its configuration.
        group: the consumer group whose committed offsets count.
        new_fold: returns an untrained fold of the same configuration, to derive the predictions again.
        rederive: whether to do that, the slow part.
        progress: called with the number of predictions derived since the call before.
    """
    committed = {place: state.offset for place, state in log.committed(group).items()}
    predictions: dict[str, Prediction] = {}
    counts: dict[str, RunningTotals] = {}
    checks = [
        *_check_events(log, rules, budget, committed, predictions, counts),
        *_check_requests(log, rules, predictions),
        *check_caps(log, rules, budget, predictions),
        *_check_training(log, rules, committed, predictions),
        _check_totals(log, rules, counts),
    ]
    return [*checks, check_predictions(log, rules, predictions, new_fold, progress)] if rederive else checks


def _check_events(
    log: Log,
    rules: Rules,
    budget: Budget,
    committed: dict[TopicPartition, int],
    predictions: dict[str, Prediction],
    counts: dict[str, RunningTotals],
) -> Iterator[Check]:
    """Check that each consumed event has one prediction or dead letter (I1), and the budget in every prefix (I2).

    Fill in *predictions*, by event, and *counts*, the running totals up to each event.
    """
    complete = Check("each consumed event has exactly one prediction or one dead letter, no other has any")
    budget_check = Check("requests <= share * events + burst, in every prefix of every partition")
    versions = Check("the model version of predictions never goes back within a partition")
    letters = _count_dead_letters(log, rules, rules.topics.events)
    for partition in range(rules.partitions):
        burst = divide(budget.burst, partition, rules.partitions)
        found: dict[str, int] = {}
        accepted = asked = version = 0
        totals = RunningTotals()
        for record in scan(log, rules.topics.predictions, partition):
            prediction = _decode(record, Prediction)
            if prediction is None:
                complete.expect(False, f"{coordinates(partition, record.offset)} of predictions, which is not ours")
                continue
            found[prediction.event] = found.get(prediction.event, 0) + 1
            predictions[prediction.event] = prediction
            if found[prediction.event] == 1:
                counts[prediction.event] = totals = totals.add_event(prediction.probabilities, prediction.propensity)
            accepted, asked = accepted + 1, asked + (prediction.asked is not None)
            budget_check.expect(asked <= budget.share * accepted + burst, prediction.event)
            versions.expect(prediction.version >= version, prediction.event)
            version = prediction.version
        end = committed.get(TopicPartition(rules.topics.events, partition), 0)
        for record in scan(log, rules.topics.events, partition):
            key = coordinates(partition, record.offset)
            times = found.pop(key, 0) + letters.pop(key, 0)
            complete.expect(times == (record.offset < end), key)
        for key in found:
            complete.expect(False, f"{key}: a prediction without an event")
    for key in letters:
        complete.expect(False, f"{key}: a dead letter without an event")
    yield from (complete, budget_check, versions)


def _check_totals(log: Log, rules: Rules, counts: dict[str, RunningTotals]) -> Check:
    """Check the running totals that requests and examples carry: the estimate of quality rests on them."""
    check = Check("requests and examples carry the counts of all events up to their own")
    for record in (each for p in range(rules.partitions) for each in scan(log, rules.topics.requests, p)):
        request = None if record.value is None else decode_request(record.value)
        if isinstance(request, Request):
            check.expect(counts.get(request.request) == request.seen, request.request)
    for record in scan(log, rules.topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Example):
            check.expect(counts.get(training.request) == training.seen, training.request)
    return check


def _count_dead_letters(log: Log, rules: Rules, topic: str) -> Counter[str]:
    """Return how many dead letters each record of *topic* has, by coordinates."""
    found = (_decode(record, DeadLetter) for record in scan(log, rules.topics.dead_letters, 0))
    return Counter(coordinates(letter.partition, letter.offset) for letter in found if letter and letter.topic == topic)


def _decode(record: Record, kind: type[R]) -> R | None:
    """Return *record* of one of our own topics decoded, None if another program wrote it."""
    try:
        return msgspec.json.decode(record.value or b"", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _check_requests(log: Log, rules: Rules, predictions: dict[str, Prediction]) -> Iterator[Check]:
    """Check that requests and predictions agree (I2), and that requests minus training is the open queue (I3)."""
    once = Check("one request for each event whose prediction says so, none for any other")
    queue = Check("a request is off the queue exactly if training has closed it, and it is closed once")
    asked: dict[str, int] = {}
    closed: dict[str, int] = {}
    for partition in range(rules.partitions):
        for record in scan(log, rules.topics.requests, partition):
            key = (record.key or b"").decode(errors="replace")
            counts = closed if record.value is None else asked
            counts[key] = counts.get(key, 0) + 1
            if record.value is not None:
                request = decode_request(record.value)
                prediction = predictions.get(key)
                agrees = isinstance(request, Request) and prediction is not None and prediction.asked == request.lane
                once.expect(agrees and asked[key] == 1, key)
    trained: dict[str, int] = {}
    for record in scan(log, rules.topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Closing):
            trained[training.request] = trained.get(training.request, 0) + 1
    expected = {key for key, prediction in predictions.items() if prediction.asked is not None}
    for key in sorted(expected - asked.keys() - trained.keys()):  # compaction may have taken those that are closed
        once.expect(False, f"{key}: asked, but there is no request")
    for key in sorted(asked.keys() | closed.keys() | trained.keys()):
        queue.expect(key in expected and closed.get(key, 0) == trained.get(key, 0) <= 1, key)
    yield from (once, queue)


def _check_training(
    log: Log, rules: Rules, committed: dict[TopicPartition, int], predictions: dict[str, Prediction]
) -> Iterator[Check]:
    """Check that training holds the first valid reply to each request, and nothing else (I3, I8).

    A reply that came before its request (somebody guessed the coordinates) looks like a lost one.
    """
    natural = NaturalLabels(log, rules)
    first_reply = Check("each example and abstention is the first valid reply to its request")
    kept = Check("each request with a valid reply is closed, each reply that cannot be read has one dead letter")
    readable = Check("every record of training is streamal's own")
    replies = _read_replies(log, rules, committed, kept, natural)
    trained: set[str] = set()
    for record in scan(log, rules.topics.training, 0):
        training = decode_training(record.value)
        readable.expect(not isinstance(training, Refusal), f"offset {record.offset}")
        match training:
            case NaturalExample():
                natural.add_example(training)
            case Example() | Abstention():
                trained.add(training.request)
                if training.label is not None:
                    natural.bought.add(training.request)
                first = next(iter(replies.get(training.request, ())), None)
                same = first is not None and (first.label, first.annotator) == (training.label, training.annotator)
                first_reply.expect(same and _agrees(training, predictions.get(training.request)), training.request)
            case Expiry():
                trained.add(training.request)
            case SchemaSet() | WarmStart() | Refusal():
                pass
            case _:
                assert_never(training)
    for key in replies.keys() & predictions.keys():
        if predictions[key].asked is not None:
            kept.expect(key in trained, key)
    yield from (first_reply, kept, readable)
    if natural.any:
        yield natural.check()


def _read_replies(
    log: Log, rules: Rules, committed: dict[TopicPartition, int], kept: Check, natural: NaturalLabels
) -> dict[str, list[Reply]]:
    """Return the consumed replies by request, in order; count the others in *kept* and *natural*."""
    letters = _count_dead_letters(log, rules, rules.topics.labels)
    end = committed.get(TopicPartition(rules.topics.labels, 0), 0)
    replies: dict[str, list[Reply]] = {}
    for record in scan(log, rules.topics.labels, 0):
        reply = decode_reply(record.value, rules.wire, None)
        times = letters.pop(coordinates(0, record.offset), 0)
        if isinstance(reply, Refusal) or times or record.offset >= end:
            kept.expect(times == (record.offset < end), f"reply {record.offset}")
        elif isinstance(reply, NaturalLabel):
            natural.add_label(reply)
        else:
            replies.setdefault(reply.request, []).append(reply)
    for key in letters:
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
