"""Checks of a configured model, run on the model itself before it may see a stream.

The promises of streamal rest on four habits of the estimator that River's interface does not force on it:
probabilities, a predict that changes nothing, a pickle that goes on as the original would have, and the same model
from the same examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from streamal.core.coins import HashedUniform
from streamal.core.model.model import Model
from streamal.core.model.slim_pickle import dumps, loads
from streamal.core.records import FeatureValue, Scalar
from streamal.core.schema import quote
from streamal.core.vectors import vector_length

__all__ = ["check_absence", "check_growth", "check_model", "synthetic_examples"]

_EXAMPLES = 700
_EXAMPLES_BEFORE_ABSENCE = 100
_ABSENCES_SHOWN = 3
_WORDS = ("lottery", "meeting", "invoice", "winner", "minutes", "agenda", "prize", "patch", "offer", "merge")

Features = Mapping[str, FeatureValue]
Probes = Sequence[dict[str, FeatureValue]]
Examples = Sequence[tuple[dict[str, FeatureValue], str]]


def check_model(new_model: Callable[[], Model], kinds: Mapping[str, str], seed: int = 0) -> list[str]:
    """Check a model; return what it breaks, as sentences ([]: nothing). Takes some thousand predictions.

    Args:
        new_model: makes untrained models, always the same.
        kinds: the features, name -> "number" | "string" | "boolean" | "vector(384)".
        seed: of the made-up examples.
    """
    classes = list(new_model().classes) or ["a", "b"]
    examples = synthetic_examples(kinds, classes, _EXAMPLES, seed)
    probes = [features for features, _ in synthetic_examples(kinds, classes, 40, seed + 1)]
    model = _train(new_model, examples)
    if _scalars(examples) != _scalars(synthetic_examples(kinds, classes, _EXAMPLES, seed)):
        return ["learning changes the features that it is given: let it work on a copy, dict(x)"]
    problems = _raising_problems(model, probes)
    if problems:
        return problems
    if model.failures:
        what = _first_failure(new_model(), examples)
        problems.append(f"learning raised on {model.failures} of {len(examples)} well-formed examples{what}")
    problems += _probability_problems(model, probes)
    reference = _predictions(model, probes)
    if _predictions(_train(new_model, examples), probes) != reference:
        problems.append("folding the same examples twice gave two models: seed whatever draws random numbers")
    if _predictions(_train(new_model, examples, predict=probes), probes) != reference:
        problems.append("predicting changes the model: workers that saw other events would hold other models")
    half = len(examples) // 2
    try:
        restored = loads(dumps(_train(new_model, examples[:half])))
    except Exception as error:
        return [*problems, f"it cannot be pickled for a snapshot ({error})"]
    if _predictions(_learn(restored, examples[half:]), probes) != reference:
        problems.append("a snapshot does not go on as the original does: pickle loses some of its state")
    return problems


def check_absence(new_model: Callable[[], Model], kinds: Mapping[str, str]) -> list[str]:
    """Check that a model does without each of the features once; return what is wrong, as sentences.

    An event may lack any declared feature. A text that is missing is the empty text, see `Schema.select`.
    """
    if len(kinds) < 2:
        return []  # an event without any feature never reaches the model
    classes = list(new_model().classes) or ["a", "b"]
    model = _learn(new_model(), synthetic_examples(kinds, classes, _EXAMPLES_BEFORE_ABSENCE, seed=0))
    problems = []
    examples = synthetic_examples(kinds, classes, len(kinds), seed=3)
    for (name, kind), (features, label) in zip(kinds.items(), examples, strict=True):
        rest = {other: value for other, value in features.items() if other != name}
        problem = _absence_problem(model, rest | {name: ""} if kind == "text" else rest, features, label)
        if problem:
            problems.append(f"an event may lack a feature, and without {quote(name)} {problem}")
    more = len(problems) - _ABSENCES_SHOWN
    return [*problems[:_ABSENCES_SHOWN], f"and so without {more} more"] if more > 0 else problems


def _absence_problem(model: Model, rest: Features, features: Features, label: str) -> str:
    """Return what is wrong with *model* on the *rest* of *features*, "" if nothing is."""
    doing = "predict_proba_one"
    try:
        if _has_flaws(found := model.raw(rest)):
            return f"the probabilities are {found}"
        doing = "learn_one"
        model.learn_raw(rest, label)
        doing = "after learning, predict_proba_one"
        for each in (rest, features):
            if _has_flaws(found := model.raw(each)):
                return f"it learns something after which the probabilities are {found}"
    except (Exception, SystemExit) as error:
        return f"{doing} raised {type(error).__name__}: {error}"
    return ""


def check_growth(new_model: Callable[[], Model], kinds: Mapping[str, str]) -> list[str]:
    """Check that ever new names do not make a model grow at predict; return what is wrong, as sentences."""
    classes = list(new_model().classes) or ["a", "b"]
    model = _learn(new_model(), synthetic_examples(kinds, classes, 50, seed=0))
    before = len(dumps(model))
    for i in range(1_000):
        model.predict({f"new {i}": 1.0})
    if len(dumps(model)) <= before + 1_000:
        return []
    return ["features.open lets new names through, and they make it grow: begin with preprocessing.FeatureHasher"]


def synthetic_examples(kinds: Mapping[str, str], classes: Sequence[str], count: int, seed: int) -> Examples:
    """Return made-up, learnable examples: each class shifts the numbers and prefers some words."""
    coin = HashedUniform(seed, "contract")
    examples = []
    for i in range(count):
        which = int(coin.uniform(f"{i}") * len(classes))
        features = {name: _value(coin, kind, f"{i}.{name}", which) for name, kind in kinds.items()}
        examples.append((features, classes[which]))
    return examples


def _value(coin: HashedUniform, kind: str, key: str, which: int) -> FeatureValue:
    u = coin.uniform(key)
    if kind == "number":
        return which + math.log(u / (1.0 - u)) if 0.0 < u < 1.0 else float(which)
    if kind == "boolean":
        return u < 0.5
    length = vector_length(kind)
    if length is not None:  # a wave of its own for each class, drawn once: a hash for each number would take seconds
        return [math.cos((which + 1.0) * i + u) for i in range(length)]
    return f"{_WORDS[(which + int(u * 4)) % len(_WORDS)]} {_WORDS[int(u * 1e6) % len(_WORDS)]}"


def _learn(model: Model, examples: Examples) -> Model:
    for features, label in examples:
        model.learn(features, label)
    return model


def _train(new_model: Callable[[], Model], examples: Examples, predict: Probes = ()) -> Model:
    """Return a model that learned *examples*, predicting *predict* over and over in between."""
    model = new_model()
    for i, (features, label) in enumerate(examples):
        for probe in predict[i % 7 :: 7]:
            model.predict(probe)
        model.learn(features, label)
    return model


def _predictions(model: Model, probes: Probes) -> list[dict[str, float]]:
    return [model.predict(probe) for probe in probes]


def _raising_problems(model: Model, probes: Probes) -> list[str]:
    try:
        for probe in probes:
            model.raw(probe)
    except (Exception, SystemExit) as error:
        return [f"predict_proba_one raised {type(error).__name__}: {error} on {probe}"]
    return []


def _probability_problems(model: Model, probes: Probes) -> list[str]:
    """Return a problem if the estimator gives no probabilities, which `Model.predict` would have to mend each time."""
    for probe in probes:
        probabilities = model.raw(probe)
        if _has_flaws(probabilities):
            return [f"the probabilities of {probe} are {probabilities}"]
    return []


def _has_flaws(probabilities: Mapping[str, float]) -> bool:
    """Whether these are no probabilities; a NaN fails every comparison."""
    total = math.fsum(probabilities.values())
    return not (abs(total - 1.0) < 1e-3 and min(probabilities.values()) >= 0.0)


def _first_failure(model: Model, examples: Examples) -> str:
    """Return what learning raises first, as the end of a sentence."""
    for features, label in examples:
        model.admit(label)
        try:
            model.learn_raw(features, label)
        except (Exception, SystemExit) as error:
            return f": {type(error).__name__}: {error}".rstrip(": ")
    return ""


def _scalars(examples: Examples) -> list[list[tuple[str, Scalar]]]:
    """Return the names and plain values of *examples*."""
    return [
        [(name, value) for name, value in features.items() if isinstance(value, float | str | bool)]
        for features, _ in examples
    ]
