"""Gauges of the model: what it has learned, what it could not learn, and the weights of `auto`'s strategies."""

from __future__ import annotations

from collections.abc import Mapping

from streamal.core.gauges.declaration import Gauge, Value, Worker
from streamal.core.strategies import STRATEGIES
from streamal.core.strategies.auto import Auto

__all__ = ["ARM_WEIGHTS", "MODEL"]

_ARMS = tuple(name for name in STRATEGIES if name != "auto")


def _features(worker: Worker) -> int:
    schema = worker.fold.learned.schema
    return 0 if schema is None else len(schema.kinds)


def _arm_weights(worker: Worker) -> Mapping[str, float]:
    """Return strategy -> its weight among the arms of `auto`; those of the user's own classes are added up as "own"."""
    strategy, weights = worker.rules.strategy, dict[str, float]()
    if isinstance(strategy, Auto):
        even = (1.0 / len(strategy.names),) * len(strategy.names)
        for name, weight in zip(strategy.names, worker.fold.learned.bandit.weights() or even, strict=True):
            key = name if name in STRATEGIES else "own"
            weights[key] = weights.get(key, 0.0) + weight
    return weights


def _arm_weight(name: str, help_text: str) -> Gauge:
    def value(worker: Worker) -> Value:
        return worker.once(_arm_weights).get(name)

    return Gauge(f"auto_weight_{name}", help_text, value, "ratio")


MODEL: tuple[Gauge, ...] = (
    Gauge(
        "model_version",
        "Offset after the last folded training record.",
        lambda worker: worker.fold.learned.version.offset,
    ),
    Gauge(
        "model_examples",
        "Examples that the model has learned.",
        lambda worker: sum(worker.fold.learned.model.learned.values()),
    ),
    Gauge(
        "natural_examples",
        "Of these, learned from labels that nobody asked for.",
        lambda worker: worker.fold.learned.quality.natural_count,
    ),
    Gauge(
        "model_failures",
        "Examples at which the estimator raised an error.",
        lambda worker: worker.fold.learned.model.failures,
    ),
    Gauge(
        "model_quarantined",
        "Examples left out because they broke the model.",
        lambda worker: worker.fold.learned.guard.quarantined,
    ),
    Gauge(
        "model_sick",
        "1 if the model's answers are no probabilities and no single example explains it.",
        lambda worker: float(worker.fold.learned.guard.sick),
    ),
    Gauge("features", "Features in the schema, 0 before there is one.", _features),
)

ARM_WEIGHTS: tuple[Gauge, ...] = (
    *(_arm_weight(name, f"Weight of {name} among auto's arms.") for name in _ARMS),
    _arm_weight("own", "Likewise, of strategies of the user's."),
)
