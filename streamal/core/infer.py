"""Infer: events → predictions and requests, within the budget; the partition's state goes with its offset."""

from __future__ import annotations

from streamal.core.budget import Sampler
from streamal.core.fold import Fold
from streamal.core.records import (
    Committed,
    Event,
    Lane,
    Output,
    Place,
    Prediction,
    Record,
    Refusal,
    Request,
    coordinates,
)
from streamal.core.seen import Seen
from streamal.core.state import PartitionState, decode_state, encode_state
from streamal.core.transaction import Rules, Step, refuse
from streamal.core.uncertainty import MEASURES
from streamal.core.wire import decode_event, encode

__all__ = ["infer"]


def infer(
    rules: Rules, fold: Fold, place: Place, before: Committed, records: list[Record], now: float, result: Step
) -> Committed:
    """Predict each event of one partition, decide whether to ask, and return the partition's new commit."""
    partition, tally = place.partition, result.tally
    state = decode_state(before.metadata, PartitionState) or PartitionState()
    assert state.version <= fold.version.offset, "the daemon folds up to the noted version before it steps"
    now = max(now, state.now)
    sampler = _sampler(rules, fold, partition, state, now)
    uncertainty_of, seen = MEASURES[rules.measure], state.seen
    for record in records:
        event = decode_event(partition, record.offset, record.value, rules.wire, fold.schema)
        if isinstance(event, Refusal):
            refuse(rules, record, event, now, result)
            tally["events", "refused"] += 1
            continue
        probabilities = fold.predict(event)
        key = coordinates(partition, record.offset)
        uncertainty = uncertainty_of(probabilities) if probabilities else 1.0
        decision = sampler.decide(key, uncertainty)
        seen = seen.after(probabilities, decision.propensity)
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
            request = _request(rules, event, prediction, decision.lane, now, seen)
            result.outputs.append(Output(rules.topics.requests, partition, key.encode(), encode(request)))
            tally["requests", decision.lane] += 1
        elif decision.propensity <= 0.0:
            tally["events_without_propensity", ""] += 1
    after = PartitionState(fold.version.offset, now, sampler.ledger, sampler.state, seen)
    return Committed(records[-1].offset + 1, encode_state(after))


def _sampler(rules: Rules, fold: Fold, partition: int, state: PartitionState, now: float) -> Sampler:
    ledger = state.ledger
    return Sampler(
        rules.allowances[partition],
        rules.strategy,
        rules.seed,
        ledger,
        state.strategy,
        now,
        open_audit=fold.pending.count(partition, Lane.AUDIT, ledger.audit if ledger else 0),
        open_strategy=fold.pending.count(partition, Lane.STRATEGY, ledger.strategy if ledger else 0),
    )


def _request(rules: Rules, event: Event, prediction: Prediction, lane: Lane, now: float, seen: Seen) -> Request:
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
        seen=seen,
    )
