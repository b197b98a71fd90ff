"""Infer: events → predictions and requests, within the budget; the partition's state goes with its offset."""

from __future__ import annotations

from streamal.core.budget import Decision, Sampler, divided
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
from streamal.core.scoring import Scorer
from streamal.core.seen import Seen
from streamal.core.state import PartitionState, decode_state, encode_state
from streamal.core.strategies.base import Memory
from streamal.core.transaction import Rules, Step, refuse
from streamal.core.uncertainty import MEASURES
from streamal.core.wire import encode
from streamal.errors import Behind

__all__ = ["infer"]


def infer(
    rules: Rules,
    fold: Fold,
    place: Place,
    before: Committed,
    records: list[Record],
    now: float,
    result: Step,
    memory: Memory | None = None,
) -> Committed:
    """Predict each event of one partition, decide whether to ask, and return the partition's new commit.

    *memory* is what a strategy that looks back knows of the events before; it stays as it is.
    """
    partition, tally = place.partition, result.tally
    state = decode_state(before.metadata, PartitionState) or PartitionState()
    assert state.version <= fold.version.offset, "the daemon folds up to the noted version before it steps"
    now = max(now, state.now)
    sampler = _sampler(rules, fold, partition, state, now)
    scorer, damper = Scorer(rules, fold, memory), _damper(rules, fold, partition, state)
    unasked, seen = state.unasked, state.seen
    for record in records:
        event = scorer.read(record)
        if isinstance(event, Refusal):
            refuse(rules, record, event, now, result)
            tally["events", "refused"] += 1
            continue
        probabilities = fold.predict(event)
        key = coordinates(partition, record.offset)
        score, strategy = scorer.score(event, probabilities), sampler.state
        if damper is not None:
            score = damper.damped(score, event.features)
        decision = sampler.decide(key, score, probabilities)
        seen = seen.after(probabilities, decision.propensity)
        prediction = _prediction(rules, event, key, probabilities, fold.version.offset, decision)
        result.outputs.append(Output(rules.topics.predictions, partition, key.encode(), encode(prediction)))
        tally["events", "accepted"] += 1
        if not probabilities or len(set(probabilities.values())) == 1:
            tally["uniform_predictions", ""] += 1
        unasked = unasked + 1 if decision.lane is None else 0
        if decision.lane is not None:
            arms = scorer.arms(score, strategy) if decision.lane is Lane.AUDIT else ()
            request = _request(rules, event, prediction, decision.lane, now, arms, seen)
            result.outputs.append(Output(rules.topics.requests, partition, key.encode(), encode(request)))
            tally["requests", decision.lane] += 1
            if damper is not None:
                damper.opened(event.features)
        elif decision.propensity <= 0.0:
            tally["events_without_propensity", ""] += 1
    past = scorer.finish()
    if past is not None:
        result.memories[place] = past
    after = _after(state, fold.version.offset, now, sampler, unasked, seen)
    return Committed(records[-1].offset + 1, encode_state(after))


def _after(
    before: PartitionState, version: int, now: float, sampler: Sampler, unasked: int, seen: Seen
) -> PartitionState:
    """Return the partition's new state."""
    asked = sampler.ledger[2:4] != (before.ledger[2:4] if before.ledger else (0, 0))
    asked_at = int(now) if asked else before.asked_at
    return PartitionState(version, now, sampler.ledger, sampler.state, unasked, asked_at, seen)


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


def _prediction(
    rules: Rules, event: Event, key: str, probabilities: dict[str, float], version: int, decision: Decision
) -> Prediction:
    """Return the model's own word; a strategy may have seen it smoothed, or not at all."""
    return Prediction(
        event=key,
        label=max(probabilities, key=probabilities.__getitem__) if probabilities else None,
        probabilities=probabilities,
        version=version,
        propensity=decision.propensity,
        uncertainty=MEASURES[rules.measure](probabilities) if probabilities else 1.0,
        asked=decision.lane,
        id=event.id,
        time=event.time,
    )


def _request(
    rules: Rules, event: Event, prediction: Prediction, lane: Lane, now: float, arms: tuple[float, ...], seen: Seen
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
