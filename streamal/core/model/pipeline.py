"""River estimators from the configuration: declared, never evaluated.

``{ use = "linear_model.LogisticRegression", optimizer = { use = "optim.AdaGrad", lr = 0.3 } }`` names a class inside
``river`` and its keyword arguments. A list of such tables is a pipeline; under the keys ``args`` (positional
arguments), ``models`` and ``transformers`` it is a list. ``{ type = "number" | "string" | "boolean" }`` is a type, for
``compose.SelectType``. Nothing outside of the package ``river`` can be named; ``factory = "pkg.mod:fn"`` calls the
user's own function instead. Only `streamal.UnitVectors` is not of River.
"""

from __future__ import annotations

import importlib
import inspect
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from river import base, compose, neighbors

from streamal.core.model.own_code import describe_error, load_own
from streamal.core.model.river_fast import FASTER
from streamal.core.model.unit_vectors import UnitVectors
from streamal.core.vectors import vector_length
from streamal.errors import ConfigError

__all__ = ["build_estimator", "default_pipeline", "require_classifier", "require_own_state"]

_TYPES: Mapping[str, type] = {"number": numbers.Number, "string": str, "boolean": bool}
_OWN: Mapping[str, type[base.Base]] = {"streamal.UnitVectors": UnitVectors}
"""Steps that River does not have."""
_NORM = 0.5
"""Length of a vector beside other features: what AdaGrad, at the rate that suits those, learns best from."""
_EMBEDDING_MIN = 16
"""Shorter vectors are measurements, each number with a scale of its own; no embedding is as short."""
_LISTS = frozenset({"args", "models", "transformers"})


def default_pipeline(kinds: Mapping[str, str], binary: bool) -> Sequence[Mapping[str, Any]]:
    """Return the pipeline for a stream of these features where none is configured; logistic regression by AdaGrad.

    Numbers and truth values are standardised; strings hashed into 65,536 columns, so that no stream of new values
    can grow the model without bound; texts become normalised sets of words and pairs of words, hashed likewise
    (`Schema.select` gives the empty text for a missing one, which `BagOfWords` could not do without). Vectors are
    scaled to one length; where there is nothing else, plain gradient descent learns more from them than AdaGrad. Where
    all vectors have fewer than 16 numbers, these are standardised like other numbers.

    Args:
        kinds: name -> "number" | "string" | "boolean" | "text" | "vector(384)"; empty if they are not known yet.
        binary: whether there are exactly two classes for ever; else one such model for each class.
    """
    texts = [name for name, kind in kinds.items() if kind == "text"]
    strings = [name for name, kind in kinds.items() if kind == "string"]
    lengths = [length for kind in kinds.values() if (length := vector_length(kind)) is not None]
    has_embeddings = any(length >= _EMBEDDING_MIN for length in lengths)
    parts: list[Any] = []
    has_numbers = any(kind in {"number", "boolean"} for kind in kinds.values())
    if not kinds or has_numbers or (lengths and not has_embeddings):
        parts.append([_use("compose.SelectType", {"type": "number"}), _use("preprocessing.StandardScaler")])
    if not kinds or strings:
        others = [_use("compose.Discard", *texts)] if texts else []
        chosen = [*others, _use("compose.SelectType", {"type": "string"})]
        parts.append([*chosen, _use("preprocessing.FeatureHasher", n_features=65_536)])
    for name in texts:
        words = _use(
            "feature_extraction.BagOfWords",
            on=name,
            strip_accents=True,
            ngram_range=[1, 2],
            tokenizer_pattern=r"(?u)\w+|[^\w\s]",
        )
        hashed = _use("preprocessing.FeatureHasher", n_features=262_144)
        parts.append([words, _use("preprocessing.Binarizer"), _use("preprocessing.Normalizer"), hashed])
    optimizer = _use("optim.AdaGrad", lr=1.0)
    if has_embeddings and not parts:
        parts, optimizer = [[_use("streamal.UnitVectors")]], _use("optim.SGD", lr=3.0)
    elif has_embeddings:
        parts.append([_use("streamal.UnitVectors", norm=_NORM)])
    classifier = _use("linear_model.LogisticRegression", optimizer=optimizer, intercept_lr=0.2)
    steps = parts[0] if len(parts) == 1 else [_use("compose.TransformerUnion", *parts)]
    return [*steps, classifier if binary else _use("multiclass.OneVsRestClassifier", classifier=classifier)]


_COUNTS = frozenset({"n_models", "n_estimators", "n_trees", "max_models", "n_factors", "n_components", "height"})
"""Parameters of River's classes that say how many parts a model has; it makes them at once, or with the first label."""
_COUNT_MAX = 1_000


def build_estimator(pipeline: Sequence[Mapping[str, Any]], factory: str | None, seed: int) -> base.Classifier:
    """Return a fresh classifier; every ``seed`` parameter left at None, nested ones included, becomes *seed*.

    Raises:
        ConfigError: a name does not exist inside river, an argument is wrong, or the result is no classifier.
    """
    estimator = _call_factory(factory) if factory else _pipeline(pipeline, "model.pipeline", seed)
    require_classifier(estimator)
    seeded: base.Classifier = _seeded(estimator, seed)
    return seeded


def require_classifier(estimator: Any) -> None:
    """Raise a ConfigError unless *estimator*, or its last step, is a classifier."""
    last = estimator
    while isinstance(last, compose.Pipeline):
        last = next(reversed(last.steps.values()), None)
    if not isinstance(last, base.Classifier):
        raise ConfigError(f"model: the last step must be a classifier, not {type(last).__name__}")


def require_own_state(estimator: base.Classifier) -> None:
    """Raise a ConfigError if *estimator* shares state with other models of the process.

    River 0.26.1: the set ``Vertex._isolated`` of the SWINN graph belongs to its class, so that what a KNN predicts
    depends on every other graph that was ever built, and a pickle does not hold it.
    """
    if neighbors.SWINN in _classes(estimator._get_params()):
        raise ConfigError(
            "model: neighbors.SWINN (KNN's default engine) shares state among models, and none can be folded again "
            'alike; give the classifier engine = { use = "neighbors.LazySearch" }'
        )


def _use(name: str, *args: Any, **values: Any) -> dict[str, Any]:
    """Return the table that names the class *name* with these arguments."""
    return {"use": name, **({"args": list(args)} if args else {}), **values}


def _call_factory(factory: str) -> Any:
    try:
        return load_own(factory)()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"model.factory {factory!r} failed: {describe_error(error, factory)}") from error


def _pipeline(steps: Sequence[Mapping[str, Any]], where: str, seed: int) -> Any:
    built = [_object(step, f"{where}[{i}]", seed) for i, step in enumerate(steps)]
    if len(built) == 1:
        return built[0]
    for i, part in enumerate(built):
        if not isinstance(part, base.Estimator):
            raise ConfigError(f"{where}[{i}] must be an estimator, not {part!r}")
    return compose.Pipeline(*built)


def _object(spec: Mapping[str, Any], where: str, seed: int) -> Any:
    if not isinstance(spec, Mapping):
        raise ConfigError(f"{where} must be a table with 'use', not {spec!r}")
    if set(spec) == {"type"}:
        if str(spec["type"]) not in _TYPES:
            raise ConfigError(f"{where}.type must be one of {', '.join(_TYPES)}, not {spec['type']!r}")
        return _TYPES[spec["type"]]
    if "use" not in spec:
        raise ConfigError(f"{where} must have the key 'use', the name of a class inside river")
    cls = _resolve(spec["use"], where)
    values = {key: _value(key, value, f"{where}.{key}", seed) for key, value in spec.items() if key != "use"}
    if "seed" in inspect.signature(cls).parameters:
        values.setdefault("seed", seed)
    for name, value in values.items():
        if name in _COUNTS and isinstance(value, int) and value > _COUNT_MAX:
            raise ConfigError(f"{where}.{name}: at most {_COUNT_MAX} are allowed, not {value}: each one takes memory")
    try:
        return cls(*values.pop("args", ()), **values)
    except Exception as error:
        raise ConfigError(f"{where}: {spec['use']}: {error}") from error


def _value(key: str, value: Any, where: str, seed: int) -> Any:
    if isinstance(value, Mapping):
        return _object(value, where, seed) if "use" in value or "type" in value else dict(value)
    if isinstance(value, list):
        if key in _LISTS:
            return [_value("", item, f"{where}[{i}]", seed) for i, item in enumerate(value)]
        if value and all(isinstance(item, Mapping) for item in value):
            return _pipeline(value, where, seed)
        return list(value)
    return value


def _resolve(name: str, where: str) -> type[base.Base]:
    """Return the class *name* inside river, or ours that does the same faster.

    Anything else that a module happens to hold is refused.
    """
    if str(name) in _OWN:
        return _OWN[str(name)]
    module_name, _, class_name = str(name).removeprefix("river.").rpartition(".")
    try:
        if not all(part.isidentifier() and not part.startswith("_") for part in [*module_name.split("."), class_name]):
            raise AttributeError(name)
        cls = getattr(importlib.import_module(f"river.{module_name}"), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}.use: river has no {name!r}; see the API reference of River") from error
    if not (inspect.isclass(cls) and cls.__module__.startswith("river.") and issubclass(cls, base.Base)):
        raise ConfigError(f"{where}.use: {name!r} is no estimator, optimiser or other part of River")
    return FASTER.get(cls, cls)


def _seeded(estimator: Any, seed: int) -> Any:
    """Return *estimator* with nested defaults seeded too (KNN's search engine, for instance)."""
    params = estimator._get_params()
    return estimator.clone(params) if _seed_params(params, seed) else estimator


def _classes(params: Mapping[str, Any]) -> Iterator[type]:
    """Yield the classes of all parts of an estimator with these parameters."""
    for value in params.values():
        if isinstance(value, tuple) and len(value) == 2 and inspect.isclass(value[0]) and isinstance(value[1], dict):
            yield value[0]
            yield from _classes(value[1])
        elif isinstance(value, dict):
            yield from _classes(value)


def _seed_params(params: dict[str, Any], seed: int) -> bool:
    changed = False
    for name, value in params.items():
        if name == "seed" and value is None:
            params[name] = seed
            changed = True
        elif isinstance(value, tuple) and len(value) == 2 and inspect.isclass(value[0]) and isinstance(value[1], dict):
            changed |= _seed_params(value[1], seed)
        elif isinstance(value, dict):
            changed |= _seed_params(value, seed)
    return changed
