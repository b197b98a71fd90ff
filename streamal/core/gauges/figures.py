"""The figures that an operator watches, from what a worker knows; `streamal status` and the metrics show the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamal.core.fold import Fold
from streamal.core.quality.estimates import Estimate
from streamal.core.state import PartitionState, TrainerState
from streamal.core.strategies import STRATEGIES, Strategy
from streamal.core.strategies.auto import Auto

__all__ = ["arm_weights", "figures"]


def figures(fold: Fold, states: Iterable[PartitionState | TrainerState], now: float) -> Mapping[str, float | None]:
    """Return name -> value of every gauge, None where there is no value (yet, or any more).

    *states* are those of the partitions owned. What was spent is in `streamal.core.gauges.spend`.
    """
    states = list(states)
    ledgers = [state.counters for state in states if isinstance(state, PartitionState) and state.counters is not None]
    accepted = sum(counters.accepted for counters in ledgers)
    seen = [state.seen for state in states if isinstance(state, PartitionState)]
    events = sum(each.events for each in seen)
    requests = sum(counters.audit + counters.strategy for counters in ledgers)
    oldest = min((request.asked_at for request in fold.books.pending.open.values()), default=None)
    found: dict[str, float | None] = {
        "open_requests": len(fold.books.pending),
        "oldest_open_request_seconds": 0.0 if oldest is None else max(0.0, now - oldest),
        "model_version": fold.learned.version.offset,
        "model_examples": sum(fold.learned.model.learned.values()),
        "model_failures": fold.learned.model.failures,
        "model_quarantined": fold.learned.guard.quarantined,
        "model_sick": float(fold.learned.guard.sick),
        "features": 0 if fold.learned.schema is None else len(fold.learned.schema.kinds),
        "budget_spent_ratio": requests / accepted if accepted else None,
        "unanswered_ratio": fold.learned.quality.unanswered_share(),
        "never_askable_ratio": sum(each.never_askable for each in seen) / events if events else None,
        "natural_examples": fold.learned.quality.natural_count,
    }
    trainer = any(isinstance(state, TrainerState) for state in states)
    return {**found, **_quality(fold, trainer)}


def arm_weights(strategy: Strategy, fold: Fold) -> Mapping[str, float | None]:
    """Return the weight of each strategy among the arms of `auto`, None for one that is none; "own": the user's."""
    found: dict[str, float | None] = {f"auto_weight_{name}": None for name in (*STRATEGIES, "own") if name != "auto"}
    if isinstance(strategy, Auto):
        even = 1.0 / len(strategy.names)
        weights = fold.learned.bandit.weights() or (even,) * len(strategy.names)
        for name, weight in zip(strategy.names, weights, strict=True):
            key = f"auto_weight_{name if name in STRATEGIES else 'own'}"
            found[key] = (found[key] or 0.0) + weight
    return found


def _quality(fold: Fold, trainer: bool) -> dict[str, float | None]:
    """Return the figures of quality: the trainer's alone, so that no two workers show them."""
    quality = fold.learned.quality
    recalls = quality.recalls().values() if trainer else ()
    return {
        **_with_interval("quality_accuracy", quality.accuracy() if trainer else None),
        "quality_accuracy_naive": quality.recent_sums().naive() if trainer else None,
        "quality_accuracy_natural": quality.natural_accuracy() if trainer else None,
        **_with_interval("quality_balanced_accuracy", quality.balanced_accuracy() if trainer else None),
        "quality_least_recall": min((read_events.value for read_events in recalls), default=None),
        **_with_interval("quality_log_loss", quality.log_loss() if trainer else None),
        **_with_interval("gain_over_random", fold.learned.control.gain() if trainer and fold.learned.control else None),
    }


def _with_interval(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    value, low, high = estimate or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
