"""What decides, from a `Config`: topics, the form of inputs, budget, strategy. No model is needed for any of it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from streamal.config import Config
from streamal.core.budget.money import micros
from streamal.core.budget.sampler import Budget
from streamal.core.codec.wire_rules import WireRules
from streamal.core.rules import Rules, TopicNames
from streamal.core.strategies import SamplingRules, Strategy
from streamal.core.strategies import build_strategy as strategy_of
from streamal.recordings.rules import ReadingRules

__all__ = [
    "build_budget",
    "build_rules",
    "build_strategy",
    "reading_rules",
    "topic_names",
    "topic_partitions",
    "wire_rules",
]

_UNCERTAINTY_OF = {"entropy": "entropy", "importance": "margin"}
"""Some strategies are made for one measure of uncertainty, whatever ``sampling.uncertainty`` says."""


def topic_names(config: Config) -> TopicNames:
    """Return the six topics by their roles."""
    return TopicNames(**config.topics.model_dump())


def topic_partitions(config: Config) -> Mapping[str, int]:
    """Return how many partitions each topic has to have."""
    topics = topic_names(config)
    one = {topics.labels, topics.training, topics.dead_letters}
    return {topic: 1 if topic in one else config.transport.partitions for topic in topics}


def wire_rules(config: Config) -> WireRules:
    """Return what an input may look like."""
    template = config.label_page.template
    return WireRules(
        format=config.events.format,
        id=config.events.id,
        time=config.events.time,
        null=config.features.null,
        missing=frozenset(text.strip() for text in config.features.missing),
        record_bytes_max=config.limits.record_bytes,
        features_max=config.limits.features,
        feature_name_bytes_max=config.limits.feature_name_bytes,
        vector_length_max=config.limits.vector_length,
        magnitude_max=config.limits.magnitude,
        natural=config.labels.natural,
        shown=frozenset((*template.text, *template.image, *template.link)),
        dead_letter_bytes_max=config.limits.dead_letter_bytes,
    )


def reading_rules(config: Config) -> ReadingRules:
    """Return how a recording or a warm start is read: as a live daemon would read its rows."""
    features = config.features
    return ReadingRules(
        declared=features.declared,
        drops_undeclared=bool(features.declared) and features.unknown == "drop" and not features.open,
        open=features.open,
        classes=config.labels.classes,
        wire=wire_rules(config),
    )


def build_budget(config: Config) -> Budget:
    """Return the budget of all partitions together, exactly as written."""
    budget = config.budget
    share, audit_share = budget.fractions
    return Budget(
        share=share,
        audit_share=audit_share,
        burst=budget.burst,
        per_hour=budget.per_hour,
        open_max=config.limits.open_requests,
        open_bytes=config.limits.open_bytes,
        per_day=budget.per_day,
        money=tuple(None if cap is None else micros(cap) for cap in budget.cost_caps),
        prices=budget.prices,
        quotas=tuple((label, Fraction(part)) for label, part in sorted(budget.quotas.items())),
    )


def build_strategy(config: Config, budget: Budget) -> Strategy:
    """Return the configured strategy, for what the audit lane leaves of *budget*.

    Raises:
        ConfigError: its parameters are wrong, or a class of the user's own is no strategy.
    """
    sampling, classes = config.sampling, len(config.labels.classes)
    return strategy_of(
        SamplingRules(
            strategy=sampling.strategy,
            # an event that both lanes choose is the audit lane's
            rate=float(budget.own_rate / (1 - Fraction(1, budget.audit_every) if budget.audit_every > 1 else 1)),
            floor=1.0 / max(2, classes) if _uncertainty(config) == "least_confidence" else 0.0,
            share=float(budget.share),
            parameters=sampling.parameters,
        )
    )


def build_rules(config: Config, wire: WireRules, budget: Budget, strategy: Strategy) -> Rules:
    """Return everything that decides about the partitions of ``events``."""
    partitions = config.transport.partitions
    return Rules(
        topics=topic_names(config),
        partitions=partitions,
        wire=wire,
        budgets=tuple(budget.partition_budget(partition, partitions) for partition in range(partitions)),
        strategy_name=config.sampling.strategy,
        strategy=strategy,
        uncertainty=_uncertainty(config),
        seed=config.sampling.seed,
        ttl_s=config.labels.ttl_s,
        expiries_per_step=config.limits.expiries_per_step,
        prices=budget.prices,
        damping=config.sampling.damping,
        pace_horizon_s=config.budget.pace_horizon_s,
        burst=config.budget.burst,
        classes_per_annotator=config.limits.classes_per_annotator,
    )


def _uncertainty(config: Config) -> str:
    """Return the measure of uncertainty, a key of `MEASURES`."""
    return _UNCERTAINTY_OF.get(config.sampling.strategy, config.sampling.uncertainty)
