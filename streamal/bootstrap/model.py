"""The model from a `Config`, untrained or unpickled, and the empty fold around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from river import base

from streamal.bootstrap.warm_start import read_examples, unpickle
from streamal.config import Config
from streamal.core.books import Books
from streamal.core.budget.sampler import Budget
from streamal.core.fold import Fold
from streamal.core.labels import explain_unknown
from streamal.core.learned import Learned, LearnedRules
from streamal.core.model.checks import synthetic_examples
from streamal.core.model.embedding import Embedding, EmbeddingRules, load_embedding
from streamal.core.model.guard import ModelGuard
from streamal.core.model.model import LabelRules, Model
from streamal.core.model.pipeline import build_estimator, default_pipeline, require_classifier, require_own_state
from streamal.core.model.rehearsal import Rehearsal
from streamal.core.model.slim_pickle import dumps, loads
from streamal.core.pending import Pending, RecentLabels
from streamal.core.quality.gain import RandomControl
from streamal.core.quality.quality import Quality
from streamal.core.schema import Schema
from streamal.core.strategies import Strategy, requirements_of
from streamal.core.strategies.auto import Auto, Bandit
from streamal.errors import ConfigError

__all__ = ["build_embedding", "build_fold", "build_model", "least_propensity", "model_kinds", "require_committee"]


def build_embedding(config: Config) -> Embedding | None:
    """Return what embeds the texts of ``features.embed``, None if there are none.

    Raises:
        ConfigError: a function cannot be loaded, or returns no vectors.
    """
    features, limits = config.features, config.limits
    if not features.embed:
        return None
    functions = tuple(features.embed.items())
    return load_embedding(EmbeddingRules(functions, features.embed_batch, limits.embedding_bytes, limits.vector_length))


def model_kinds(config: Config) -> Mapping[str, str]:
    """Return the declared features as the model meets them: name -> kind."""
    embedding = build_embedding(config)
    return config.features.declared if embedding is None else embedding.kinds(config.features.declared)


def build_model(config: Config, given: base.Estimator | None = None) -> Model:
    """Return an untrained model, or the one that ``model.warm_start`` holds.

    A classifier of River that is *given* takes the place of ``model.pipeline`` and ``model.factory``: an untrained
    copy of it.

    Raises:
        ConfigError: the pipeline cannot be built, or does not fit the declared classes.
    """
    labels = config.labels
    binary = len(labels.classes) == 2 and not labels.learn_new
    trained = config.model.warm_pickle
    if trained:
        estimator = unpickle(config)
        require_classifier(estimator)
    else:
        estimator = _untrained(config, given, binary)
    require_own_state(estimator)
    model = Model(estimator, LabelRules(labels.classes, labels.learn_new, config.limits.classes), trained=trained)
    if trained:
        _require_declared_classes(model, estimator, config)
    if model.binary and len(labels.classes) > 2:
        raise ConfigError(
            f"labels.classes has {len(labels.classes)} classes, but {estimator} is binary: "
            "wrap it in multiclass.OneVsRestClassifier, or use linear_model.SoftmaxRegression"
        )
    return model


def _untrained(config: Config, given: base.Estimator | None, binary: bool) -> base.Classifier:
    if given is None:
        pipeline = config.model.pipeline or default_pipeline(model_kinds(config), binary)
        return build_estimator(pipeline, config.model.factory, config.model.seed)
    if not isinstance(given, base.Estimator):
        raise ConfigError(f"the model is a {type(given).__name__}, not a classifier of River")
    require_classifier(given)
    return given.clone()  # type: ignore[return-value]  # a pipeline is one by its last step


def _require_declared_classes(model: Model, estimator: base.Classifier, config: Config) -> None:
    """Raise a ConfigError unless the classes that a pickled *estimator* was trained on are the declared ones."""
    classes = config.labels.classes
    if (len(classes) != 2 or config.labels.learn_new) if model.binary else not classes:
        raise ConfigError(
            "labels.classes: declare the classes that the pickled model was trained on"
            + (", two, the second of them its True, and no new ones" if model.binary else "")
        )
    features: dict[Any, Any] = dict(synthetic_examples(model_kinds(config), classes, 1, config.model.seed)[0][0])
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


def require_committee(config: Config, strategy: Strategy, model: Model) -> None:
    """Raise a ConfigError if *strategy* asks for the votes of an ensemble and *model* is none."""
    if requirements_of(strategy).votes and not model.is_committee:
        raise ConfigError(
            f"sampling.strategy {config.sampling.strategy!r} asks where the members of an ensemble disagree, and "
            f"{model.describe()} is none: end model.pipeline with ensemble.BaggingClassifier or forest.ARFClassifier"
        )


def build_fold(config: Config, budget: Budget, strategy: Strategy, model: Model, warm_start: str | None) -> Fold:
    """Return what a worker knows before any record is folded: nothing, or what the warm start teaches.

    All parts are of *config*. The fold owns *model* from now on. *warm_start* is the SHA-256 of the warm start, "" if
    there is none; with None the fold does not compare it with the one that the log names.

    Raises:
        ConfigError: the model cannot learn the warm start.
    """
    features = config.features
    is_complete = features.null == "refuse" and not features.missing
    required = frozenset(features.declared if is_complete else ())
    schema = Schema(features.declared, features.unknown, features.open, required) if features.declared else None
    weighted = requirements_of(strategy).weighted and model.takes_weight
    rehearsal, closed_max = config.model.rehearsal, config.limits.closed_requests
    fold = Fold(
        Books(Pending(closed_max), features.infer_from, samples=[] if schema is None else None),
        Learned(
            LearnedRules(
                features.unknown,
                features.open,
                weighted=float(config.budget.share) if weighted else 0.0,
                default_seed=config.model.seed if _is_default(config) else None,
            ),
            model,
            schema,
            Quality(config.quality.window, least_propensity(config, budget)),
            RecentLabels(closed_max),
            guard=ModelGuard(Rehearsal(rehearsal.window, rehearsal.repeats, config.model.seed)),
            start=warm_start,
            bandit=Bandit(strategy.leads if isinstance(strategy, Auto) else ()),
            embedding=build_embedding(config),
        ),
    )
    if config.model.warm_start is not None and not config.model.warm_pickle:
        _learn_warm_start(config, fold)
    if config.quality.control:
        model_bytes = dumps(fold.learned.model)
        fold.learned.control = RandomControl(loads(model_bytes), loads(model_bytes), config.quality.window)
    return fold


def _is_default(config: Config) -> bool:
    """Return whether the model is the default one, and which features it will meet is not known yet."""
    model = config.model
    return not (model.pipeline or model.factory or model.warm_start or config.features.declared)


def _learn_warm_start(config: Config, fold: Fold) -> None:
    """Let the model of *fold* learn the labelled rows of ``model.warm_start``."""
    embedding = fold.learned.embedding
    for number, example in enumerate(read_examples(config, fold.learned.schema), 1):
        if not fold.learned.model.accepts(example.label):
            reason = explain_unknown(example.label, fold.learned.model.classes)
            raise ConfigError(f"model.warm_start: {config.model.warm_start}, example {number}: {reason}")
        features = example.features if embedding is None else embedding.apply(example.features)
        fold.learned.learn(example._replace(features=features), f"warm start example {number}")


def least_propensity(config: Config, budget: Budget) -> float | None:
    """Return the least propensity of an audited event, if a confidence sequence is to rest on it."""
    return 1.0 / budget.audit_every if config.quality.interval == "confidence_sequence" else None
