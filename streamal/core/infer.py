"""Infer: events → predictions and requests, within the budget; the partition's state goes with its offset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from streamal.core.budget.sampler import OpenRequests, Sampler, divide
from streamal.core.codec.events import encode
from streamal.core.coins import EventCoins
from streamal.core.fold import Fold
from streamal.core.pending import resident_bytes, resident_bytes_max
from streamal.core.quality.totals import MILLION, RunningTotals
from streamal.core.records import (
    Event,
    Lane,
    OffsetAndMetadata,
    OutputRecord,
    Prediction,
    Reason,
    Record,
    Refusal,
    Request,
    TopicPartition,
    coordinates,
    partition_of,
)
from streamal.core.rules import Refused, Rules, Tally, dead_letter_of, refused_of
from streamal.core.scoring import Scorer
from streamal.core.state import PartitionState, decode_state, encode_state
from streamal.core.strategies.base import Memory
from streamal.core.strategies.near_duplicates import Damper
from streamal.core.strategies.uncertainty import MEASURES, least_confidence, likeliest
from streamal.errors import Behind

__all__ = ["Inferred", "infer"]


_KILLED = Refusal(Reason.KILLED_THE_WORKER, "the process died each time that this event was predicted")


class Inferred(NamedTuple):
    """What `infer` made of one partition's events.

    Attributes:
        outputs: predictions, requests and dead letters, to be written.
        commit: the partition's next offset, with its new state.
        memory: what a strategy that looks back knows after these events; None for any other strategy.
        refused: the events that were refused.
    """

    outputs: list[OutputRecord]
    tally: Tally
    commit: OffsetAndMetadata
    memory: Memory | None
    refused: list[Refused]


def infer(
    rules: Rules,
    fold: Fold,
    place: TopicPartition,
    before: OffsetAndMetadata,
    records: Sequence[Record],
    now: float,
    memory: Memory | None = None,
    killers: Collection[int] = (),
) -> Inferred:
    """Predict each event of one partition, decide whether to ask, and return the records and the next commit.

    *memory* is what a strategy that looks back knows of the events before; it stays as it is. *killers* are offsets of
    events that have killed a worker: each gets a dead letter, unread (F35).
    """
    state = decode_state(before.metadata, PartitionState) or PartitionState()
    assert state.version <= fold.learned.version.offset, "the daemon folds up to the noted version before it steps"
    now = max(now, state.now)
    scorer = Scorer(rules, fold, memory)
    dead = [record for record in records if record.offset in killers] if killers else []
    decoded = scorer.read([record for record in records if record.offset not in killers] if dead else records)
    events = decoded.accepted
    refused = [*decoded.refused, *((record, _KILLED) for record in dead)]
    partition_pass = _PartitionPass(rules, fold, place.partition, state, now, scorer)
    for event, probabilities in zip(events, fold.learned.predict_many(events), strict=True):
        partition_pass.decide(event, probabilities)
    outputs, tally = partition_pass.outputs, partition_pass.tally()
    tally += Counter({("features_dropped", ""): decoded.dropped, ("misfit_events", ""): decoded.misfits})
    for record, refusal in refused:
        outputs.append(dead_letter_of(rules, record, refusal, now))
        tally["events", "refused"] += 1
        tally["dead_letters", refusal.reason] += 1
    end = records[-1].offset + 1
    commit = OffsetAndMetadata(end, encode_state(partition_pass.state(end)))
    return Inferred(outputs, tally, commit, scorer.finish(), [refused_of(*each) for each in refused])


class _PartitionPass:
    """One partition's events of one step: what they have in common is looked up, and counted, once."""

    def __init__(
        self, rules: Rules, fold: Fold, partition: int, state: PartitionState, now: float, scorer: Scorer
    ) -> None:
        self.outputs: list[OutputRecord] = []
        self._rules, self._partition, self._now, self._scorer = rules, partition, now, scorer
        self._before, self._unasked = state, state.unasked
        self._sampler = _sampler(rules, fold, partition, state, now)
        self._size_max = _request_bytes_max(rules, fold)
        self._damper = _damper(rules, fold, partition, state)
        self._measure, self._topic = MEASURES[rules.uncertainty], rules.topics.predictions
        self._by_top = self._measure is least_confidence  # then the uncertainty follows from the largest
        self._version = fold.learned.version.offset
        self._events, self._confidence, self._never_askable = state.seen
        self._uniform = 0
        self._requests: Counter[Lane] = Counter()

    def decide(self, event: Event, probabilities: dict[str, float]) -> None:
        """Score *event* and decide; add its prediction to the outputs, and its request if there is one."""
        label, top, uncertainty = None, 0.0, 1.0
        if probabilities:
            label, top = likeliest(probabilities)
            uncertainty = self._measure(probabilities) if top > 1.0 or not self._by_top else 1.0 - top
        if top * len(probabilities) <= 1.0:
            self._uniform += 1
        score = self._scorer.score(event, probabilities, uncertainty)
        if self._damper is not None:
            score = self._damper.damp(score, event.features)
        key, strategy = coordinates(self._partition, event.offset), self._sampler.state
        size = 0  # it is looked at only where it may matter
        if self._sampler.strategy_bytes < self._size_max:
            size = resident_bytes(event.features, len(probabilities))
        decision = self._sampler.decide(event.offset, score, probabilities, size)
        propensity, lane = decision.propensity, decision.lane
        self._events += 1
        self._confidence += round(MILLION * top)
        prediction = Prediction(
            event=key,
            label=label,
            probabilities=probabilities,
            version=self._version,
            propensity=propensity,
            uncertainty=uncertainty,
            asked=lane,
            id=event.id,
            time=event.time,
        )
        self.outputs.append(OutputRecord(self._topic, self._partition, key.encode(), encode(prediction)))
        if lane is not None:
            self._sampler.hold(lane, size or resident_bytes(event.features, len(probabilities)))
            self._unasked = 0
            arms = self._scorer.arms(score, strategy) if lane is Lane.AUDIT else ()
            self._ask(event, prediction, lane, arms)
        else:
            self._unasked += 1
            self._never_askable += propensity <= 0.0

    def tally(self) -> Tally:
        """Return what was counted."""
        before = self._before.seen
        counts: Tally = Counter({("requests", lane): count for lane, count in self._requests.items()})
        counts["events", "accepted"] = self._events - before.events
        counts["uniform_predictions", ""] = self._uniform
        counts["events_without_propensity", ""] = self._never_askable - before.never_askable
        return +counts

    def state(self, end: int) -> PartitionState:
        """Return the partition's new state; *end* is its next offset, and deaths count up to `deaths_until`."""
        before, counters = self._before, self._sampler.counters
        return PartitionState(
            self._version,
            self._now,
            counters,
            self._sampler.state,
            self._unasked,
            int(self._now) if self._requests else before.asked_at,
            self._totals(),
            *((before.deaths, before.deaths_until) if end <= before.deaths_until else (0, 0)),
        )

    def _totals(self) -> RunningTotals:
        return RunningTotals(self._events, self._confidence, self._never_askable)

    def _ask(self, event: Event, prediction: Prediction, lane: Lane, arms: tuple[float, ...]) -> None:
        request = _request(self._rules, event, prediction, lane, self._now, arms, self._totals())
        topic, key = self._rules.topics.requests, prediction.event.encode()
        self.outputs.append(OutputRecord(topic, self._partition, key, encode(request)))
        self._requests[lane] += 1
        if self._damper is not None:
            self._damper.add_request(event.features)


def _request_bytes_max(rules: Rules, fold: Fold) -> int:
    """Return how much memory a request takes at most; vectors, where there can be any, take several times as much."""
    schema = fold.learned.schema
    has_vectors = schema is None or schema.open or bool(schema.vectors) or bool(rules.wire.shown)
    return resident_bytes_max(rules.wire.record_bytes_max, rules.wire.features_max, has_vectors=has_vectors)


def _sampler(rules: Rules, fold: Fold, partition: int, state: PartitionState, now: float) -> Sampler:
    counters = state.counters
    asked = (counters.audit, counters.strategy) if counters else (0, 0)
    pending, lanes = fold.books.pending, (Lane.AUDIT, Lane.STRATEGY)
    largest = _request_bytes_max(rules, fold)
    open_requests = OpenRequests(
        *(pending.count(partition, lane, times) for lane, times in zip(lanes, asked, strict=True)),
        *(pending.open_bytes(partition, lane, times, largest) for lane, times in zip(lanes, asked, strict=True)),
    )
    partition_budget = rules.budgets[partition]
    if rules.pace_horizon_s is not None:
        paced = fold.books.answer_rate.open_max(rules.pace_horizon_s, rules.burst)
        if paced is not None:
            partition_budget = partition_budget.with_open_max(divide(paced, partition, rules.partitions))
    return Sampler(
        partition_budget,
        rules.strategy,
        EventCoins(rules.seed, partition),
        counters,
        state.strategy,
        now,
        open_requests,
        fold.books.settlements.refunds(partition),
    )


def _damper(rules: Rules, fold: Fold, partition: int, state: PartitionState) -> Damper | None:
    """Return what damps the near-duplicates of open requests, if that is on.

    Raises:
        Behind: F13: not all of them can be read yet; what is decided must not depend on whose transaction is slow.
    """
    if rules.damping is None:
        return None
    own = [request for request in fold.books.pending.open.values() if partition_of(request.request) == partition]
    counters = state.counters
    asked = {Lane.AUDIT: counters.audit, Lane.STRATEGY: counters.strategy} if counters else {}
    if len(own) < sum(fold.books.pending.count(partition, lane, count) for lane, count in asked.items()):
        raise Behind(f"{rules.topics.requests} {partition}: the newest requests cannot be read yet")
    return Damper(rules.damping, (request.features for request in own))


def _request(
    rules: Rules,
    event: Event,
    prediction: Prediction,
    lane: Lane,
    now: float,
    arms: tuple[float, ...],
    seen: RunningTotals,
) -> Request:
    return Request(
        request=prediction.event,
        features=event.features,
        label=prediction.label,
        probabilities=prediction.probabilities,
        version=prediction.version,
        lane=lane,
        strategy=rules.strategy_name,
        uncertainty=prediction.uncertainty,
        propensity=prediction.propensity,
        asked_at=now,
        expires_at=now + rules.ttl_s,
        id=event.id,
        time=event.time,
        arms=arms,
        reserved=rules.prices.reserved,
        seen=seen,
    )
