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
from streamal.core.records import Scalar

__all__ = ["check_growth", "check_model", "synthetic_examples"]

_EXAMPLES = 700
_WORDS = ("lottery", "meeting", "invoice", "winner", "minutes", "agenda", "prize", "patch", "offer", "merge")

Examples = Sequence[tuple[dict[str, Scalar], str]]


def check_model(new_model: Callable[[], Model], kinds: Mapping[str, str], seed: int = 0) -> list[str]:
    """Check a model; return what it breaks, as sentences ([]: nothing). Takes some thousand predictions.

    Args:
        new_model: makes untrained models, always the same.
        kinds: the features, name -> "number" | "string" | "boolean".
        seed: of the made-up examples.
    """
    classes = list(new_model().classes) or ["a", "b"]
    examples = synthetic_examples(kinds, classes, _EXAMPLES, seed)
    probes = [features for features, _ in synthetic_examples(kinds, classes, 40, seed + 1)]
    model = _train(new_model, examples)
    problems = _raising_problems(model, probes)
    if problems:
        return problems
    if model.failures:
        problems.append(f"learning raised on {model.failures} of {len(examples)} well-formed examples")
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


def _value(coin: HashedUniform, kind: str, key: str, which: int) -> Scalar:
    u = coin.uniform(key)
    if kind == "number":
        return which + math.log(u / (1.0 - u)) if 0.0 < u < 1.0 else float(which)
    if kind == "boolean":
        return u < 0.5
    return f"{_WORDS[(which + int(u * 4)) % len(_WORDS)]} {_WORDS[int(u * 1e6) % len(_WORDS)]}"


def _learn(model: Model, examples: Examples) -> Model:
    for features, label in examples:
        model.learn(features, label)
    return model


def _train(new_model: Callable[[], Model], examples: Examples, predict: Sequence[dict[str, Scalar]] = ()) -> Model:
    """Return a model that learned *examples*, predicting *predict* over and over in between."""
    model = new_model()
    for i, (features, label) in enumerate(examples):
        for probe in predict[i % 7 :: 7]:
            model.predict(probe)
        model.learn(features, label)
    return model


def _predictions(model: Model, probes: Sequence[dict[str, Scalar]]) -> list[dict[str, float]]:
    return [model.predict(probe) for probe in probes]


def _raising_problems(model: Model, probes: Sequence[dict[str, Scalar]]) -> list[str]:
    try:
        for probe in probes:
            model.raw(probe)
    except Exception as error:
        return [f"predict_proba_one raised {type(error).__name__}: {error} on {probe}"]
    return []


def _probability_problems(model: Model, probes: Sequence[dict[str, Scalar]]) -> list[str]:
    """Return a problem if the estimator gives no probabilities, which `Model.predict` would have to mend each time."""
    for probe in probes:
        probabilities = model.raw(probe)
        total = math.fsum(probabilities.values())
        if not (abs(total - 1.0) < 1e-3 and min(probabilities.values()) >= 0.0):
            return [f"the probabilities of {probe} are {probabilities}"]
    return []
