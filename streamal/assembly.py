"""From a `Config` to the parts that decide: rules, an empty fold, settings. Edges are chosen by the command line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import version

from streamal.config import Config
from streamal.core.budget import BudgetRules
from streamal.core.control import Control
from streamal.core.fold import Fold, FoldRules
from streamal.core.model import LabelRules, Model
from streamal.core.pending import Pending
from streamal.core.pipeline import build_estimator, default_pipeline, require_own_state
from streamal.core.quality import Quality
from streamal.core.schema import Schema
from streamal.core.strategies import SamplingRules, build_strategy
from streamal.core.transaction import Rules, TopicNames
from streamal.core.wire import WireRules
from streamal.daemon import Settings
from streamal.errors import ConfigError

__all__ = [
    "budget_rules",
    "new_fold",
    "new_model",
    "rules",
    "settings",
    "topic_names",
    "topic_partitions",
    "wire_rules",
]


def rules(config: Config, partitions: int) -> Rules:
    """Return what decides, for *partitions* partitions of ``events``."""
    budget = budget_rules(config)
    sampling = config.sampling
    measure = "entropy" if sampling.strategy == "entropy" else sampling.uncertainty
    classes = len(config.labels.classes)
    strategy = SamplingRules(
        strategy=sampling.strategy,
        rate=float(budget.rate / (1 - Fraction(1, budget.block))) if budget.block > 1 else float(budget.rate),
        floor=1.0 / max(2, classes) if measure == "least_confidence" else 0.0,
        theta=sampling.theta,
        step=sampling.step,
        matched=sampling.rate_matched,
        share=float(budget.share),
        delta=sampling.delta,
        v=sampling.v,
        discount=sampling.discount,
    )
    return Rules(
        topics=topic_names(config),
        partitions=partitions,
        wire=wire_rules(config),
        allowances=tuple(budget.allowance(partition, partitions) for partition in range(partitions)),
        strategy_name=sampling.strategy,
        strategy=build_strategy(strategy),
        measure=measure,
        seed=sampling.seed,
        ttl_s=config.labels.ttl_s,
        expiries_max=config.limits.expiries_per_step,
    )


def budget_rules(config: Config) -> BudgetRules:
    """Return the budget of all partitions together, exactly as written."""
    share, audit_share = config.budget.fractions
    return BudgetRules(share, audit_share, config.budget.burst, config.budget.per_hour, config.limits.open_requests)


def wire_rules(config: Config) -> WireRules:
    """Return what an input may look like."""
    return WireRules(
        flat=config.events.format == "flat",
        id_field=config.events.id,
        time_field=config.events.time,
        null_is_missing=config.features.null == "missing",
        record_bytes_max=config.limits.record_bytes,
        features_max=config.limits.features,
        feature_name_bytes_max=config.limits.feature_name_bytes,
        magnitude_max=config.limits.magnitude,
        natural=config.labels.natural,
    )


def topic_names(config: Config) -> TopicNames:
    """Return the six topics by their roles."""
    return TopicNames(**config.topics.model_dump())


def topic_partitions(config: Config) -> Mapping[str, int]:
    """Return how many partitions each topic has to have."""
    topics = topic_names(config)
    one = {topics.labels, topics.training, topics.dead_letters}
    return {topic: 1 if topic in one else config.transport.partitions for topic in topics}


def new_model(config: Config) -> Model:
    """Return an untrained model.

    Raises:
        ConfigError: the pipeline cannot be built, or does not fit the declared classes.
    """
    labels = config.labels
    binary = len(labels.classes) == 2 and not labels.learn_new
    pipeline = config.model.pipeline or default_pipeline(config.features.declared, binary)
    estimator = build_estimator(pipeline, config.model.factory, config.model.seed)
    require_own_state(estimator)
    model = Model(estimator, LabelRules(labels.classes, labels.learn_new, config.limits.classes))
    if model.binary and len(labels.classes) > 2:
        raise ConfigError(
            f"labels.classes has {len(labels.classes)} classes, but {estimator} is binary: "
            "wrap it in multiclass.OneVsRestClassifier, or use linear_model.SoftmaxRegression"
        )
    return model


def new_fold(config: Config) -> Fold:
    """Return what a worker knows before anything was folded."""
    features = config.features
    schema = Schema(features.declared, features.unknown == "refuse", features.open) if features.declared else None
    control = None
    if config.quality.control:
        control = Control(new_model(config), new_model(config), config.quality.window)
    return Fold(
        rules=FoldRules(features.infer_from, features.unknown == "refuse", features.open),
        model=new_model(config),
        schema=schema,
        pending=Pending(config.limits.closed_requests),
        quality=_quality(config),
        control=control,
    )


def _quality(config: Config) -> Quality:
    block = budget_rules(config).block
    sequence = config.quality.interval == "confidence_sequence"
    return Quality(config.quality.window, 1.0 / block if sequence else None)


def settings(config: Config, partitions: int) -> Settings:
    """Return how the loop runs."""
    return Settings(
        rules=rules(config, partitions),
        fingerprint=fingerprint(config),
        events_per_step=config.limits.events_per_step,
        labels_per_step=config.limits.labels_per_step,
        poll_timeout_s=config.transport.poll_timeout_s,
        snapshot_every_s=config.snapshots.every_s,
        cost_per_label=config.budget.cost_per_label,
    )


def fingerprint(config: Config) -> str:
    """Return the make of a fold: whatever changes what the same log folds to, or how it is pickled (F41)."""
    parts = {
        "streamal": version("streamal"),
        "river": version("river"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "config": config.model_dump(
            mode="json", include={"model", "features", "labels", "topics", "quality", "limits"}
        ),
        # what a factory of the user's builds may change without the configuration
        "model": _pickled(new_model(config)) if config.model.factory else "",
        "transport": config.transport.model_dump(mode="json", include={"kind", "path", "group"}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _pickled(model: Model) -> str:
    try:
        return pickle.dumps(model, protocol=5).hex()
    except Exception:
        return "cannot be pickled: there will be no snapshot either"
