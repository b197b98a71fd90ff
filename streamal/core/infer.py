"""Infer: events → predictions and requests, within the budget; the partition's state goes with its offset."""

from __future__ import annotations

from streamal.core.budget import Sampler, divided
from streamal.core.damping import Damper
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
    partition_of,
)
from streamal.core.state import PartitionState, decode_state, encode_state
from streamal.core.transaction import Rules, Step, refuse
from streamal.core.uncertainty import MEASURES
from streamal.core.wire import decode_event, encode
from streamal.errors import Behind

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
    damper = _damper(rules, fold, partition, state)
    uncertainty_of = MEASURES[rules.measure]
    for record in records:
        event = decode_event(partition, record.offset, record.value, rules.wire, fold.schema)
        if isinstance(event, Refusal):
            refuse(rules, record, event, now, result)
            tally["events", "refused"] += 1
            continue
        probabilities = fold.predict(event)
        key = coordinates(partition, record.offset)
        uncertainty = uncertainty_of(probabilities) if probabilities else 1.0
        if damper is not None:
            uncertainty = damper.damped(uncertainty, event.features)
        decision = sampler.decide(key, uncertainty, probabilities)
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
            _ask(rules, event, prediction, decision.lane, damper, now, result)
        elif decision.propensity <= 0.0:
            tally["events_without_propensity", ""] += 1
    after = PartitionState(fold.version.offset, now, sampler.ledger, sampler.state)
    return Committed(records[-1].offset + 1, encode_state(after))


def _sampler(rules: Rules, fold: Fold, partition: int, state: PartitionState, now: float) -> Sampler:
    ledger = state.ledger
    audit = fold.pending.count(partition, Lane.AUDIT, ledger.audit if ledger else 0)
    strategy = fold.pending.count(partition, Lane.STRATEGY, ledger.strategy if ledger else 0)
    allowance = rules.allowances[partition]
    if rules.pace_horizon_s is not None:
        paced = fold.pace.open_max(rules.pace_horizon_s, rules.pace_unknown)
        if paced is not None:
            allowance = allowance.paced(divided(paced, partition, rules.partitions))
    return Sampler(
        allowance,
        rules.strategy,
        rules.seed,
        partition,
        ledger,
        state.strategy,
        now,
        audit,
        strategy,
        fold.settlements.refunds(partition),
    )


def _damper(rules: Rules, fold: Fold, partition: int, state: PartitionState) -> Damper | None:
    """Return what damps the near-duplicates of open requests, if that is on.

    Raises:
        Behind: F13: not all of them can be read yet; what is decided must not depend on whose transaction is slow.
    """
    if rules.damping is None:
        return None
    own = [request for request in fold.pending.open.values() if partition_of(request.request) == partition]
    ledger = state.ledger
    asked = {Lane.AUDIT: ledger.audit, Lane.STRATEGY: ledger.strategy} if ledger else {}
    if len(own) < sum(fold.pending.count(partition, lane, count) for lane, count in asked.items()):
        raise Behind(f"{rules.topics.requests} {partition}: the newest requests cannot be read yet")
    return Damper(rules.damping, (request.features for request in own))


def _ask(
    rules: Rules, event: Event, prediction: Prediction, lane: Lane, damper: Damper | None, now: float, result: Step
) -> None:
    request = Request(
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
        reserved=rules.prices.reserved,
    )
    key = prediction.event.encode()
    result.outputs.append(Output(rules.topics.requests, event.partition, key, encode(request)))
    result.tally["requests", lane] += 1
    if damper is not None:
        damper.opened(event.features)
