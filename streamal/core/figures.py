"""The figures that an operator watches, from what a worker knows; `streamal status` and the metrics show the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamal.core.fold import Fold
from streamal.core.quality import Sums
from streamal.core.state import PartitionState, TrainerState

__all__ = ["figures"]


def figures(fold: Fold, states: Iterable[PartitionState | TrainerState], now: float) -> Mapping[str, float | None]:
    """Return name -> value of every gauge, None where there is no value (yet, or any more).

    *states* are those of the partitions owned. What was spent is in `streamal.core.bill`.
    """
    states = list(states)
    ledgers = [state.ledger for state in states if isinstance(state, PartitionState) and state.ledger is not None]
    accepted = sum(ledger.accepted for ledger in ledgers)
    requests = sum(ledger.audit + ledger.strategy for ledger in ledgers)
    oldest = min((request.asked_at for request in fold.pending.open.values()), default=None)
    found: dict[str, float | None] = {
        "open_requests": len(fold.pending),
        "oldest_open_request_seconds": 0.0 if oldest is None else max(0.0, now - oldest),
        "model_version": fold.version.offset,
        "model_examples": sum(fold.model.learned.values()),
        "model_failures": fold.model.failures,
        "model_quarantined": fold.canary.quarantined,
        "model_sick": float(fold.canary.sick),
        "features": 0 if fold.schema is None else len(fold.schema.kinds),
        "budget_spent_ratio": requests / accepted if accepted else None,
        "unanswered_ratio": fold.quality.unanswered(),
        "natural_examples": fold.quality.natural_count,
    }
    trainer = any(isinstance(state, TrainerState) for state in states)
    recent = fold.quality.recent() if trainer else Sums()
    value, low, high = recent.estimate() or (None, None, None)
    return {
        **found,
        "quality_accuracy": value,
        "quality_accuracy_low": low,
        "quality_accuracy_high": high,
        "quality_accuracy_naive": recent.naive(),
        "quality_accuracy_natural": fold.quality.natural_accuracy() if trainer else None,
    }
