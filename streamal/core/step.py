"""The whole program on one page: **infer** (events → predictions, requests) and **join** (replies → training).

A step is a pure function of the fold, the partitions' committed states, the polled records and the time. What it
returns is one transaction: outputs, the consumed offsets and, beside each offset, the partition's new state. The
third part, **learn**, is `streamal.core.fold`, which takes only what was committed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamal.core.budget import Allowance, Sampler
from streamal.core.fold import Fold
from streamal.core.pending import answer
from streamal.core.records import (
    Abstention,
    Committed,
    Event,
    Example,
    Expiry,
    Lane,
    Outcome,
    Output,
    Place,
    Prediction,
    Reason,
    Record,
    Refusal,
    Reply,
    Request,
    SchemaSet,
    Training,
    coordinates,
    partition_of,
)
from streamal.core.schema import infer_schema
from streamal.core.state import PartitionState, TrainerState, decode_state, encode_state
from streamal.core.strategies import Strategy
from streamal.core.uncertainty import MEASURES
from streamal.core.wire import WireRules, dead_letter, decode_event, decode_reply, encode

__all__ = ["Rules", "Step", "Tally", "TopicNames", "step"]

Tally = Counter[tuple[str, str]]
"""How often what happened in a step: (counter, kind) -> times."""


class TopicNames(NamedTuple):
    """The six topics by their roles."""

    events: str
    labels: str
    predictions: str
    requests: str
    training: str
    dead_letters: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that decides, besides the records, the fold and the time.

    Attributes:
        partitions: how many partitions ``events`` (and predictions, requests) have.
        allowances: each partition's part of the budget.
        measure: the uncertainty, a key of `MEASURES`.
        seed: of the coins.
        ttl_s: how long a request stays open.
        expiries_max: expired requests closed in one step.
    """

    topics: TopicNames
    partitions: int
    wire: WireRules
    allowances: Sequence[Allowance]
    strategy_name: str
    strategy: Strategy
    measure: str
    seed: int
    ttl_s: float
    expiries_max: int


class Step(NamedTuple):
    """One transaction, and what happened in it."""

    outputs: list[Output]
    offsets: dict[Place, Committed]
    tally: Tally
    label_delays_s: list[float]
    """How long the accepted replies of this step took, from request to join."""


def step(
    rules: Rules,
    fold: Fold,
    committed: Mapping[Place, Committed],
    polled: Sequence[Record],
    now: float,
    answered: float = math.inf,
) -> Step:
    """Return the transaction that consumes *polled*, given what this worker has *committed* and knows (*fold*).

    *now* is in seconds and must not go back; the states' and the fold's own times guard it too. If ``labels`` is
    among *committed*, this worker is the trainer: it also joins, and closes what has expired; but nothing with a
    deadline after *answered*, the time up to which all replies were polled. Changes nothing.
    """
    by_place: dict[Place, list[Record]] = {}
    for record in polled:
        by_place.setdefault(Place(record.topic, record.partition), []).append(record)
    result = Step([], {}, Counter(), [])
    for place, records in by_place.items():
        if place.topic == rules.topics.events:
            result.offsets[place] = _infer(rules, fold, place, committed[place], records, now, result)
    labels = Place(rules.topics.labels, 0)
    if labels in committed:
        replies = by_place.get(labels, [])
        trained = _join(rules, fold, replies, max(now, fold.now), answered, result)
        if replies or trained:
            offset = replies[-1].offset + 1 if replies else committed[labels].offset
            state = TrainerState(fold.version.offset, fold.version.records + trained)
            result.offsets[labels] = Committed(offset, encode_state(state))
    return result


def _infer(
    rules: Rules, fold: Fold, place: Place, before: Committed, records: list[Record], now: float, result: Step
) -> Committed:
    """Predict each event of one partition, decide whether to ask, and return the partition's new commit."""
    partition, tally = place.partition, result.tally
    state = decode_state(before.metadata, PartitionState) or PartitionState()
    assert state.version <= fold.version.offset, "the daemon folds up to the noted version before it steps"
    now = max(now, state.now)
    sampler = _sampler(rules, fold, partition, state, now)
    uncertainty_of = MEASURES[rules.measure]
    for record in records:
        event = decode_event(partition, record.offset, record.value, rules.wire, fold.schema)
        if isinstance(event, Refusal):
            _refuse(rules, record, event, now, result)
            tally["events", "refused"] += 1
            continue
        probabilities = fold.predict(event)
        key = coordinates(partition, record.offset)
        uncertainty = uncertainty_of(probabilities) if probabilities else 1.0
        decision = sampler.decide(key, uncertainty)
        prediction = Prediction(
            event=key,
            label=max(probabilities, key=probabilities.__getitem__) if probabilities else None,
            probabilities=probabilities,
            version=fold.version.offset,
            propensity=decision.propensity,
            uncertainty=uncertainty,
            asked=decision.lane,
            id=event.id,
            time=event.time,
        )
        result.outputs.append(Output(rules.topics.predictions, partition, key.encode(), encode(prediction)))
        tally["events", "accepted"] += 1
        if not probabilities or len(set(probabilities.values())) == 1:
            tally["uniform_predictions", ""] += 1
        if decision.lane is not None:
            request = _request(rules, event, prediction, decision.lane, now)
            result.outputs.append(Output(rules.topics.requests, partition, key.encode(), encode(request)))
            tally["requests", decision.lane] += 1
        elif decision.propensity <= 0.0:
            tally["events_without_propensity", ""] += 1
    after = PartitionState(fold.version.offset, now, sampler.ledger, sampler.state)
    return Committed(records[-1].offset + 1, encode_state(after))


def _sampler(rules: Rules, fold: Fold, partition: int, state: PartitionState, now: float) -> Sampler:
    ledger = state.ledger
    return Sampler(
        rules.allowances[partition],
        rules.strategy,
        rules.seed,
        partition,
        ledger,
        state.strategy,
        now,
        open_audit=fold.pending.count(partition, Lane.AUDIT, ledger.audit if ledger else 0),
        open_strategy=fold.pending.count(partition, Lane.STRATEGY, ledger.strategy if ledger else 0),
    )


def _request(rules: Rules, event: Event, prediction: Prediction, lane: Lane, now: float) -> Request:
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
    )


def _join(rules: Rules, fold: Fold, replies: Sequence[Record], now: float, answered: float, result: Step) -> int:
    """Join replies with open requests, expire the rest that is due; return how many training records that makes.

    Replies go first: an answer that is there is not thrown away because the trainer was down at its deadline.
    """
    closing: dict[str, str] = {}
    new_classes: set[str] = set()
    records: list[Training] = []
    for record in replies:
        reply = _readable(fold, decode_reply(record.value, rules.wire), new_classes)
        if isinstance(reply, Refusal):
            outcome = Outcome.REFUSED
            _refuse(rules, record, reply, now, result)
        else:
            outcome = fold.pending.outcome(reply, closing)
            if outcome in (Outcome.ACCEPTED, Outcome.ABSTAINED):
                request = fold.pending.open[reply.request]
                closing[reply.request] = answer(reply.label)
                records.append(_closed(request, reply, now))
                result.label_delays_s.append(now - request.asked_at)
                new_classes |= {reply.label} - set(fold.model.classes) if reply.label is not None else set()
        result.tally["replies", outcome] += 1
    for request in fold.pending.expired(min(now, answered), rules.expiries_max):
        if request.request not in closing:
            records.append(Expiry(request.request, request.propensity, request.lane, request.asked_at, now))
            result.tally["expiries", ""] += 1
    if fold.schema is None and len(fold.samples) >= fold.rules.infer_from:
        records.append(SchemaSet(infer_schema(fold.samples, rules.wire.features_max), now))
    for training in records:
        _write(rules, training, result)
    return len(records)


def _readable(fold: Fold, reply: Reply | Refusal, new_classes: set[str]) -> Reply | Refusal:
    """Return *reply*, or a Refusal if its label is none that the model may learn (F25)."""
    if isinstance(reply, Refusal) or reply.label is None or fold.model.accepts(reply.label, new_classes):
        return reply
    known = ", ".join(list(fold.model.classes)[:10])
    return Refusal(Reason.LABEL_UNKNOWN, f"label {reply.label!r} is not among the classes ({known})")


def _closed(request: Request, reply: Reply, now: float) -> Example | Abstention:
    common = {
        "request": request.request,
        "propensity": request.propensity,
        "lane": request.lane,
        "asked_at": request.asked_at,
        "at": now,
        "annotator": reply.annotator,
        "reply": reply.reply,
        "seconds": reply.seconds,
    }
    if reply.label is None:
        return Abstention(**common)  # type: ignore[arg-type]
    return Example(
        label=reply.label,
        features=request.features,
        predicted=request.label,
        id=request.id,
        time=request.time,
        **common,  # type: ignore[arg-type]
    )


def _write(rules: Rules, training: Training, result: Step) -> None:
    """Append to ``training``; a record that closes a request takes it out of the open queue in the same transaction."""
    key = None if isinstance(training, SchemaSet) else training.request.encode()
    result.outputs.append(Output(rules.topics.training, 0, key, encode(training)))
    if not isinstance(training, SchemaSet):
        result.outputs.append(Output(rules.topics.requests, partition_of(training.request), key, None))


def _refuse(rules: Rules, record: Record, refusal: Refusal, now: float, result: Step) -> None:
    letter = dead_letter(record.topic, record.partition, record.offset, record.value, refusal, now)
    key = coordinates(record.partition, record.offset).encode()
    result.outputs.append(Output(rules.topics.dead_letters, 0, key, letter))
    result.tally["dead_letters", refusal.reason] += 1
