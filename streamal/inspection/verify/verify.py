"""The promises, recomputed from the topics alone: a program that shares no state with the daemon it checks.

It reads what anybody may read: the six topics and the group's committed offsets. Every check counts what it looked
at, so that a pass over nothing is seen for what it is.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from streamal.core.budget.sampler import Budget, divide
from streamal.core.codec.events import DeadLetter, decode_event, decode_request, decode_training
from streamal.core.codec.replies import decode_reply
from streamal.core.fold import Fold
from streamal.core.pending import answer
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import (
    Abstention,
    Closing,
    Event,
    Example,
    Expiry,
    NaturalExample,
    NaturalLabel,
    Prediction,
    Record,
    Refusal,
    Reply,
    Request,
    TopicPartition,
    coordinates,
)
from streamal.core.rules import Rules
from streamal.errors import InconsistentLog
from streamal.inspection.verify.caps import caps
from streamal.inspection.verify.checks import Check, NaturalLabels
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
    """Return all checks over what *group* has done so far.

    Args:
        log: any transport's topics; the daemon should be stopped, or what it does meanwhile may look broken.
        rules: of the daemon, from its configuration.
        budget: likewise.
        group: whose committed offsets count.
        new_fold: an untrained fold of the same configuration, to re-derive the predictions.
        rederive: skip that part (the slow one) if False.
        progress: called with how many more predictions were derived again.
    """
    committed = {place: state.offset for place, state in log.committed(group).items()}
    predictions: dict[str, Prediction] = {}
    counts: dict[str, RunningTotals] = {}
    checks = [
        *_events(log, rules, budget, committed, predictions, counts),
        *_requests(log, rules, predictions),
        *caps(log, rules, budget, predictions),
        *_training(log, rules, committed, predictions),
        _counted(log, rules, counts),
    ]
    return [*checks, _rederived(log, rules, predictions, new_fold, progress)] if rederive else checks


def _events(
    log: Log,
    rules: Rules,
    budget: Budget,
    committed: dict[TopicPartition, int],
    predictions: dict[str, Prediction],
    counts: dict[str, RunningTotals],
) -> Iterator[Check]:
    """Each consumed event has one prediction or one dead letter (I1); the budget holds in every prefix (I2).

    *predictions* and *counts*, those up to each event, are filled in.
    """
    once = Check("each consumed event has exactly one prediction or one dead letter, no other has any")
    holds = Check("requests <= share * events + burst, in every prefix of every partition")
    stamps = Check("the model version of predictions never goes back within a partition")
    letters = _letters(log, rules, rules.topics.events)
    for partition in range(rules.partitions):
        burst = divide(budget.burst, partition, rules.partitions)
        found: dict[str, int] = {}
        accepted = asked = version = 0
        seen = RunningTotals()
        for record in scan(log, rules.topics.predictions, partition):
            prediction = _decoded(record, Prediction)
            if prediction is None:
                once.that(False, f"{coordinates(partition, record.offset)} of predictions, which is not ours")
                continue
            found[prediction.event] = found.get(prediction.event, 0) + 1
            predictions[prediction.event] = prediction
            if found[prediction.event] == 1:
                counts[prediction.event] = seen = seen.add_event(prediction.probabilities, prediction.propensity)
            accepted, asked = accepted + 1, asked + (prediction.asked is not None)
            holds.that(asked <= budget.share * accepted + burst, prediction.event)
            stamps.that(prediction.version >= version, prediction.event)
            version = prediction.version
        end = committed.get(TopicPartition(rules.topics.events, partition), 0)
        for record in scan(log, rules.topics.events, partition):
            key = coordinates(partition, record.offset)
            times = found.pop(key, 0) + letters.pop(key, 0)
            once.that(times == (record.offset < end), key)
        for key in found:
            once.that(False, f"{key}: a prediction without an event")
    for key in letters:
        once.that(False, f"{key}: a dead letter without an event")
    yield from (once, holds, stamps)


def _counted(log: Log, rules: Rules, counts: dict[str, RunningTotals]) -> Check:
    """What requests and examples say of all the events up to their own is so: the quality figure rests on it."""
    told = Check("requests and examples carry the counts of all events up to their own")
    for record in (each for p in range(rules.partitions) for each in scan(log, rules.topics.requests, p)):
        request = None if record.value is None else decode_request(record.value)
        if isinstance(request, Request) and request.seen is not None:
            told.that(counts.get(request.request) == request.seen, request.request)
    for record in scan(log, rules.topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Example) and training.seen is not None:
            told.that(counts.get(training.request) == training.seen, training.request)
    return told


def _letters(log: Log, rules: Rules, topic: str) -> Counter[str]:
    """Return how many dead letters each record of *topic* has, by coordinates."""
    found = (_decoded(record, DeadLetter) for record in scan(log, rules.topics.dead_letters, 0))
    return Counter(coordinates(letter.partition, letter.offset) for letter in found if letter and letter.topic == topic)


def _decoded(record: Record, kind: type[R]) -> R | None:
    """Return what one of our own topics holds, None if somebody else wrote it."""
    try:
        return msgspec.json.decode(record.value or b"", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _requests(log: Log, rules: Rules, predictions: dict[str, Prediction]) -> Iterator[Check]:
    """Requests and predictions tell the same story (I2), and requests − training is the open queue (I3)."""
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
                once.that(agrees and asked[key] == 1, key)
    trained: dict[str, int] = {}
    for record in scan(log, rules.topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Closing):
            trained[training.request] = trained.get(training.request, 0) + 1
    expected = {key for key, prediction in predictions.items() if prediction.asked is not None}
    for key in sorted(expected - asked.keys() - trained.keys()):  # compaction may have taken those that are closed
        once.that(False, f"{key}: asked, but there is no request")
    for key in sorted(asked.keys() | closed.keys() | trained.keys()):
        queue.that(key in expected and closed.get(key, 0) == trained.get(key, 0) <= 1, key)
    yield from (once, queue)


def _training(
    log: Log, rules: Rules, committed: dict[TopicPartition, int], predictions: dict[str, Prediction]
) -> Iterator[Check]:
    """What was learned is what the first valid reply said, all of it, and nothing else was learned (I3, I8).

    A reply that was there before its request (somebody guessed the coordinates) looks as if it had been lost.
    """
    natural = NaturalLabels(log, rules)
    said = Check("each example and abstention is the first valid reply to its request")
    kept = Check("each request with a valid reply is closed, each reply that cannot be read has one dead letter")
    readable = Check("every record of training is streamal's own")
    replies = _replies(log, rules, committed, kept, natural)
    trained: set[str] = set()
    for record in scan(log, rules.topics.training, 0):
        training = decode_training(record.value)
        readable.that(not isinstance(training, Refusal), f"offset {record.offset}")
        if isinstance(training, NaturalExample):
            natural.learned(training)
        if not isinstance(training, Closing):
            continue
        trained.add(training.request)
        if isinstance(training, Example):
            natural.bought.add(training.request)
        if isinstance(training, Expiry):
            continue
        label = training.label if isinstance(training, Example) else None
        first = next(iter(replies.get(training.request, ())), None)
        same = first is not None and answer(first.label) == answer(label) and first.annotator == training.annotator
        said.that(same and _tells(training, predictions.get(training.request)), training.request)
    for key in replies.keys() & predictions.keys():
        if predictions[key].asked is not None:
            kept.that(key in trained, key)
    yield from (said, kept, readable)
    if natural.any:
        yield natural.check()


def _replies(
    log: Log, rules: Rules, committed: dict[TopicPartition, int], kept: Check, natural: NaturalLabels
) -> dict[str, list[Reply]]:
    """Return the consumed replies by request, in order; *kept* and *natural* take in what they are to know."""
    letters = _letters(log, rules, rules.topics.labels)
    end = committed.get(TopicPartition(rules.topics.labels, 0), 0)
    replies: dict[str, list[Reply]] = {}
    for record in scan(log, rules.topics.labels, 0):
        reply = decode_reply(record.value, rules.wire, None)
        times = letters.pop(coordinates(0, record.offset), 0)
        if isinstance(reply, Refusal) or times or record.offset >= end:
            kept.that(times == (record.offset < end), f"reply {record.offset}")
        elif isinstance(reply, NaturalLabel):
            natural.came(reply)
        else:
            replies.setdefault(reply.request, []).append(reply)
    for key in letters:
        kept.that(False, f"{key}: a dead letter without a reply")
    return replies


def _tells(training: Example | Abstention, prediction: Prediction | None) -> bool:
    """Whether *training* carries on what its event's prediction said: quality is measured by it."""
    if prediction is None or (training.propensity, training.lane) != (prediction.propensity, prediction.asked):
        return False
    if not isinstance(training, Example) or training.confidence is None:
        return not isinstance(training, Example) or training.predicted == prediction.label
    said = max(prediction.probabilities.values(), default=0.0), prediction.probabilities.get(training.label, 0.0)
    return training.predicted == prediction.label and (training.confidence, training.probability) == said


def _rederived(
    log: Log,
    rules: Rules,
    predictions: dict[str, Prediction],
    new_fold: Callable[[], Fold],
    progress: Callable[[int], object],
) -> Check:
    """Every prediction is what the model of its version says about its event (I5)."""
    check = Check("every prediction can be re-derived from its model version")
    fold = new_fold()
    training = scan(log, rules.topics.training, 0)
    upcoming = next(training, None)
    streams = (_predicted(log, rules, partition, predictions) for partition in range(rules.partitions))
    for prediction, record in heapq.merge(*streams, key=lambda pair: pair[0].version):
        while upcoming is not None and upcoming.offset < prediction.version:
            try:
                fold.apply_training(upcoming.offset, upcoming.value)
            except InconsistentLog as error:
                check.that(False, f"training offset {upcoming.offset} and all predictions after it: {error}")
                return check
            upcoming = next(training, None)
        event = decode_event(record.partition, record.offset, record.value, rules.wire, fold.learned.schema)
        again = fold.learned.predict(event) if isinstance(event, Event) else {}
        check.that(fold.learned.version.offset == prediction.version and _same(again, prediction), prediction.event)
        progress(1)
    return check


def _predicted(
    log: Log, rules: Rules, partition: int, predictions: dict[str, Prediction]
) -> Iterator[tuple[Prediction, Record]]:
    for record in scan(log, rules.topics.events, partition):
        prediction = predictions.get(coordinates(partition, record.offset))
        if prediction is not None:
            yield prediction, record


def _same(again: dict[str, float], prediction: Prediction) -> bool:
    before = prediction.probabilities
    if prediction.label != (max(before, key=before.__getitem__) if before else None):
        return False
    return again.keys() == before.keys() and all(
        math.isclose(again[label], before[label], rel_tol=1e-9, abs_tol=1e-12) for label in before
    )
