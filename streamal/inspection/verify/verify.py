"""Checks every promise against the topics alone: the six topics and the group's committed offsets.

It shares no state with the daemon that it checks. Every check counts its cases: a pass over nothing shows as such. It
judges what is left: retention and compaction are no broken promise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from streamal.core.budget.counters import BudgetCounters, BudgetTerms
from streamal.core.budget.sampler import Budget, PartitionBudget
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.fold import Fold
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import (
    Closing,
    Example,
    OffsetAndMetadata,
    Request,
    SchemaSet,
    TopicPartition,
    coordinates,
    partition_of,
)
from streamal.core.rules import Rules
from streamal.core.schema import Schema
from streamal.core.state import PartitionState, TrainerState, decode_state
from streamal.inspection.verify.caps import check_caps
from streamal.inspection.verify.checks import Check
from streamal.inspection.verify.evidence import Evidence
from streamal.inspection.verify.predictions import check_predictions
from streamal.inspection.verify.training import check_training
from streamal.ports import Log, scan

__all__ = ["verify"]


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
    states = log.committed(group)
    evidence = Evidence(log, rules, {place: state.offset for place, state in states.items()})
    trainer = states.get(TopicPartition(rules.topics.labels, 0))
    unknown = ((trainer and decode_state(trainer.metadata, TrainerState)) or TrainerState()).unknown
    checks = [
        _check_events(evidence),
        _check_budget(evidence, states),
        _check_versions(evidence),
        *_check_requests(evidence),
        *check_caps(log, rules, budget, evidence.predictions),
        *check_training(evidence, unknown, _schema(log, rules, new_fold) if rules.wire.natural else None),
        _check_totals(evidence),
    ]
    return [*checks, check_predictions(evidence, new_fold, progress)] if rederive else checks


def _schema(log: Log, rules: Rules, new_fold: Callable[[], Fold]) -> Schema | None:
    """Return the schema of the features: declared, or fixed by a record of ``training``."""
    schema = new_fold().learned.schema
    for record in scan(log, rules.topics.training, 0) if schema is None else ():
        training = decode_training(record.value)
        if isinstance(training, SchemaSet):
            return Schema(training.features)
    return schema


def _check_events(evidence: Evidence) -> Check:
    """Check that each consumed event has one prediction or dead letter (I1)."""
    check = Check("each consumed event has exactly one prediction or one dead letter, no other has any")
    topic = evidence.rules.topics.events
    found, letters = Counter(evidence.times), evidence.letters_of(topic)
    for where in evidence.foreign:
        check.expect(False, f"{where} of predictions, which is not ours")
    for partition, begin in enumerate(evidence.events_from):
        check.skip("events were deleted by retention", begin)
        end = evidence.committed.get(TopicPartition(topic, partition), 0)
        complete_from = max(evidence.predicted_from[partition], evidence.letters_from(topic, partition))
        for offset in evidence.offsets_of(topic, partition):
            key = coordinates(partition, offset)
            times = found.pop(key, 0) + letters.pop(key, 0)
            if not times and offset < min(end, complete_from):
                check.skip("events have lost their prediction or dead letter by retention")
            else:
                check.expect(times == (offset < end), key)
    for what, keys in (("prediction", found), ("dead letter", letters)):
        for key in keys:
            if evidence.is_left(key):
                check.expect(False, f"{key}: a {what} without an event")
    return check


def _check_budget(evidence: Evidence, states: Mapping[TopicPartition, OffsetAndMetadata]) -> Check:
    """Check the budget in every prefix (I2); after retention from the first prediction on that is left.

    Where the share has changed, the last one is checked, from its first event on: the state says when that was (F63).
    """
    check = Check("requests <= share * events + burst, in every prefix of every partition")
    for partition, predictions in enumerate(evidence.ordered):
        deleted = evidence.log.begin(evidence.rules.topics.predictions, partition)
        counters, terms = _read_terms(states, evidence.rules, partition)
        gone = max(0, counters.accepted - len(predictions)) if deleted else 0
        earlier = max(0, terms.accepted - gone)
        tokens = _tokens_max(evidence.rules.budgets[partition], terms) if gone > terms.accepted else terms.tokens
        asked = 0
        for accepted, prediction in enumerate(predictions[earlier:], 1):
            asked += prediction.asked is not None
            check.expect(terms.price * asked <= terms.gain * accepted + tokens, prediction.event)
        check.skip("the share changed after these predictions", earlier)
        check.skip("predictions were deleted by retention", deleted)
    return check


def _read_terms(
    states: Mapping[TopicPartition, OffsetAndMetadata], rules: Rules, partition: int
) -> tuple[BudgetCounters, BudgetTerms]:
    """Return what *partition* has counted, and the share that it works under; without a state the configured one."""
    metadata = states.get(TopicPartition(rules.topics.events, partition), OffsetAndMetadata(0, "")).metadata
    state = decode_state(metadata, PartitionState) or PartitionState()
    counters = state.counters or BudgetCounters(0, 0, 0, 0)
    return counters, counters.terms or BudgetTerms.at_first(rules.budgets[partition])


def _tokens_max(budget: PartitionBudget, terms: BudgetTerms) -> int:
    """Return how many tokens a partition may have had before the first prediction that is left."""
    full = budget.capacity + sum(quota.capacity for quota in budget.quotas)
    return max(terms.tokens, full * terms.price // budget.price)


def _check_versions(evidence: Evidence) -> Check:
    """Check that the version of the model never goes back (I5)."""
    check = Check("the model version of predictions never goes back within a partition")
    for predictions in evidence.ordered:
        version = 0
        for prediction in predictions:
            check.expect(prediction.version >= version, prediction.event)
            version = prediction.version
    return check


def _check_totals(evidence: Evidence) -> Check:
    """Check the running totals that requests and examples carry: the estimate of quality rests on them.

    After retention the first of them says what was counted before the first prediction that is left.
    """
    check = Check("requests and examples carry the counts of all events up to their own")
    rules = evidence.rules
    before = {p: RunningTotals() for p, first in enumerate(evidence.predicted_from) if not first}
    for carrier in _read_carriers(evidence):
        partition, counted = partition_of(carrier.request), evidence.totals.get(carrier.request)
        if not evidence.is_predicted(carrier.request):
            check.skip("requests have lost their prediction by retention")
        elif counted is None or partition >= rules.partitions:
            check.expect(False, carrier.request)
        else:
            earlier = before.setdefault(
                partition, RunningTotals(*(a - b for a, b in zip(carrier.seen, counted, strict=True)))
            )
            expected = RunningTotals(*(a + b for a, b in zip(earlier, counted, strict=True)))
            check.expect(min(earlier) >= 0 and expected == carrier.seen, carrier.request)
    return check


def _read_carriers(evidence: Evidence) -> Iterator[Request | Example]:
    """Yield all requests, then all examples."""
    log, topics = evidence.log, evidence.rules.topics
    for record in (each for p in range(evidence.rules.partitions) for each in scan(log, topics.requests, p)):
        request = None if record.value is None else decode_request(record.value)
        if isinstance(request, Request):
            yield request
    for record in scan(log, topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Example):
            yield training


def _check_requests(evidence: Evidence) -> Iterator[Check]:
    """Check that requests and predictions agree (I2), and that requests minus training is the open queue (I3).

    Compaction takes a closed request, and later its tombstone: then ``training`` alone speaks of it.
    """
    once = Check("one request for each event whose prediction says so, none for any other")
    queue = Check("a request is off the queue exactly if training has closed it, and it is closed once")
    predictions, topics = evidence.predictions, evidence.rules.topics
    asked: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    for partition in range(evidence.rules.partitions):
        for record in scan(evidence.log, topics.requests, partition):
            key = (record.key or b"").decode(errors="replace")
            (closed if record.value is None else asked)[key] += 1
            if record.value is not None and not evidence.is_predicted(key):
                once.skip("requests have lost their prediction by retention")
            elif record.value is not None:
                request, prediction = decode_request(record.value), predictions.get(key)
                agrees = isinstance(request, Request) and prediction is not None and prediction.asked == request.lane
                once.expect(agrees and asked[key] == 1, key)
    decoded = (decode_training(record.value) for record in scan(evidence.log, topics.training, 0))
    trained = Counter(training.request for training in decoded if isinstance(training, Closing))
    expected = {key for key, prediction in predictions.items() if prediction.asked is not None}
    for key in sorted(expected - asked.keys() - trained.keys()):
        once.expect(False, f"{key}: asked, but there is no request")
    for key in sorted(asked.keys() | closed.keys() | trained.keys()):
        is_asked = key in expected or not evidence.is_predicted(key)
        is_compacted = not asked[key] and not closed[key]
        queue.expect(is_asked and trained[key] <= 1 and (is_compacted or closed[key] == trained[key]), key)
    yield from (once, queue)
