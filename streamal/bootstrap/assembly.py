"""From a `Config` to the parts that decide: rules, an empty fold, settings. Edges are chosen by the command line."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import version
from typing import Any

from river import base

from streamal.bootstrap.warm_start import lessons, start_digest, unpickled
from streamal.config import Config
from streamal.core.budget.money import micros
from streamal.core.budget.sampler import Budget
from streamal.core.codec.events import WireRules
from streamal.core.fold import Fold, FoldRules
from streamal.core.model.checks import synthetic_examples
from streamal.core.model.guard import ModelGuard
from streamal.core.model.model import LabelRules, Model
from streamal.core.model.pipeline import build_estimator, default_pipeline, require_classifier, require_own_state
from streamal.core.model.rehearsal import Rehearsal
from streamal.core.model.slim_pickle import dumps, loads
from streamal.core.pending import Pending
from streamal.core.quality.gain import RandomControl
from streamal.core.quality.quality import Quality
from streamal.core.rules import Rules, TopicNames
from streamal.core.schema import Schema
from streamal.core.strategies import SamplingRules, Strategy, build_strategy, requirements_of
from streamal.core.strategies.auto import Auto, Bandit
from streamal.daemon.daemon import Settings
from streamal.errors import ConfigError

__all__ = [
    "budget_rules",
    "new_fold",
    "new_model",
    "new_strategy",
    "rehearsal",
    "rules",
    "settings",
    "topic_names",
    "topic_partitions",
    "wire_rules",
]


def rules(config: Config, partitions: int) -> Rules:
    """Return what decides, for *partitions* partitions of ``events``."""
    budget = budget_rules(config)
    return Rules(
        topics=topic_names(config),
        partitions=partitions,
        wire=wire_rules(config),
        budgets=tuple(budget.partition_budget(partition, partitions) for partition in range(partitions)),
        strategy_name=config.sampling.strategy,
        strategy=new_strategy(config),
        measure=_measure(config),
        seed=config.sampling.seed,
        ttl_s=config.labels.ttl_s,
        expiries_per_step=config.limits.expiries_per_step,
        prices=budget.prices,
        damping=config.sampling.damping,
        pace_horizon_s=config.budget.pace_horizon_s,
        pace_unknown=config.budget.burst,
    )


def new_strategy(config: Config) -> Strategy:
    """Return the strategy.

    Raises:
        ConfigError: its parameters are wrong, or a class of the user's own is none.
    """
    budget, sampling, measure = budget_rules(config), config.sampling, _measure(config)
    classes = len(config.labels.classes)
    return build_strategy(
        SamplingRules(
            strategy=sampling.strategy,
            # an event that both lanes choose is the audit lane's
            rate=float(budget.own_rate / (1 - Fraction(1, budget.audit_every) if budget.audit_every > 1 else 1)),
            floor=1.0 / max(2, classes) if measure == "least_confidence" else 0.0,
            theta=sampling.theta,
            step=sampling.step,
            matched=sampling.rate_matched,
            share=float(budget.share),
            delta=sampling.delta,
            v=sampling.v,
            discount=sampling.discount,
            parameters=sampling.parameters,
        )
    )


def _measure(config: Config) -> str:
    """Return the uncertainty: some strategies are made for one of them."""
    fixed = {"entropy": "entropy", "importance": "margin"}
    return fixed.get(config.sampling.strategy, config.sampling.uncertainty)


def budget_rules(config: Config) -> Budget:
    """Return the budget of all partitions together, exactly as written."""
    budget = config.budget
    share, audit_share = budget.fractions
    return Budget(
        share=share,
        audit_share=audit_share,
        burst=budget.burst,
        per_hour=budget.per_hour,
        open_max=config.limits.open_requests,
        per_day=budget.per_day,
        money=tuple(None if cap is None else micros(cap) for cap in budget.cost_caps),
        prices=budget.prices,
        quotas=tuple((label, Fraction(part)) for label, part in sorted(budget.quotas.items())),
    )


def wire_rules(config: Config) -> WireRules:
    """Return what an input may look like."""
    return WireRules(
        flat=config.events.format == "flat",
        id_field=config.events.id,
        time_field=config.events.time,
        null=config.features.null == "missing",
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
    trained = config.model.warm_pickle
    if trained:
        estimator = unpickled(config)
        require_classifier(estimator)
    else:
        pipeline = config.model.pipeline or default_pipeline(config.features.declared, binary)
        estimator = build_estimator(pipeline, config.model.factory, config.model.seed)
    require_own_state(estimator)
    model = Model(estimator, LabelRules(labels.classes, labels.learn_new, config.limits.classes), trained=trained)
    if trained:
        _require_its_classes(model, estimator, config)
    if model.binary and len(labels.classes) > 2:
        raise ConfigError(
            f"labels.classes has {len(labels.classes)} classes, but {estimator} is binary: "
            "wrap it in multiclass.OneVsRestClassifier, or use linear_model.SoftmaxRegression"
        )
    return model


def _require_its_classes(model: Model, estimator: base.Classifier, config: Config) -> None:
    """Raise a ConfigError unless the classes that a pickled *estimator* was trained on are the declared ones."""
    classes = config.labels.classes
    if (len(classes) != 2 or config.labels.learn_new) if model.binary else not classes:
        raise ConfigError(
            "labels.classes: declare the classes that the pickled model was trained on"
            + (", two, the second of them its True, and no new ones" if model.binary else "")
        )
    features: dict[Any, Any] = dict(synthetic_examples(config.features.declared, classes, 1, config.model.seed)[0][0])
    try:
        strange = set(estimator.predict_proba_one(features)) - ({False, True} if model.binary else set(classes))
    except Exception as error:
        raise ConfigError(
            f"model.warm_start: the pickled model raised {type(error).__name__}: {error} on {features}; "
            "features.declared must name the features that it was trained on"
        ) from error
    if strange:
        raise ConfigError(
            f"model.warm_start: the pickled model was trained on the classes {sorted(map(repr, strange))}, "
            "which are not among labels.classes: train it on those names, as text"
        )


def new_fold(config: Config) -> Fold:
    """Return what a worker knows before anything was folded: nothing, or what the warm start teaches.

    Raises:
        ConfigError: the model cannot be built, or the warm start not be learned, or the strategy wants another model.
    """
    features, model = config.features, new_model(config)
    strategy = new_strategy(config)
    wants = requirements_of(strategy)
    if wants.votes and not model.is_committee:
        raise ConfigError(
            f"sampling.strategy {config.sampling.strategy!r} asks where the members of an ensemble disagree, and "
            f"{model.describe()} is none: end model.pipeline with ensemble.BaggingClassifier or forest.ARFClassifier"
        )
    schema = Schema(features.declared, features.unknown == "refuse", features.open) if features.declared else None
    fold = Fold(
        rules=FoldRules(
            features.infer_from,
            features.unknown == "refuse",
            features.open,
            weighted=float(config.budget.share) if wants.weighted and model.takes_weight else 0.0,
        ),
        model=model,
        schema=schema,
        pending=Pending(config.limits.closed_requests),
        quality=Quality(config.quality.window, _floor(config)),
        guard=ModelGuard(rehearsal(config)),
        start=start_digest(config),
        bandit=Bandit(strategy.leads if isinstance(strategy, Auto) else ()),
    )
    if config.model.warm_start is not None and not config.model.warm_pickle:
        for number, lesson in enumerate(lessons(config, wire_rules(config), schema), 1):
            if not fold.model.accepts(lesson.label):
                raise ConfigError(
                    f"model.warm_start: {config.model.warm_start}, example {number}: label {lesson.label!r} is not "
                    f"among the classes ({', '.join(list(fold.model.classes)[:10])})"
                )
            fold.teach(lesson, f"warm start example {number}")
    if config.quality.control:
        model_bytes = dumps(fold.model)
        fold.control = RandomControl(loads(model_bytes), loads(model_bytes), config.quality.window)
    return fold


def rehearsal(config: Config) -> Rehearsal:
    """Return what repeats recent lessons."""
    chosen = config.model.rehearsal
    return Rehearsal(chosen.window, chosen.repeats, config.model.seed)


def _floor(config: Config) -> float | None:
    """Return the least propensity, if a confidence sequence is to rest on it."""
    return 1.0 / budget_rules(config).audit_every if config.quality.interval == "confidence_sequence" else None


def settings(config: Config, partitions: int) -> Settings:
    """Return how the loop runs."""
    return Settings(
        rules=rules(config, partitions),
        fingerprint=fingerprint(config),
        events_per_step=config.limits.events_per_step,
        labels_per_step=config.limits.labels_per_step,
        step_target_s=config.limits.step_target_s,
        poll_timeout_s=config.transport.poll_timeout_s,
        snapshot_every_s=config.snapshots.every_s,
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
            mode="json",
            include={"model", "features", "labels", "topics", "quality", "limits"},
            exclude={"limits": {"step_target_s"}},  # how fast it is folded is no matter
        ),
        # what a factory of the user's builds may change without the configuration
        "model": _pickled(new_model(config)) if config.model.factory else "",
        "start": start_digest(config),
        "floor": _floor(config),
        # what else decides how the log is folded: importance weights, and whose propensities are rewarded
        "sampling": [
            config.sampling.strategy,
            sorted(map(str, config.sampling.parameters.items())),
            str(config.budget.share) if requirements_of(new_strategy(config)).weighted else "",
        ],
        "transport": config.transport.model_dump(mode="json", include={"kind", "path", "group"}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _pickled(model: Model) -> str:
    try:
        return dumps(model).hex()
    except Exception:
        return "cannot be pickled: there will be no snapshot either"
