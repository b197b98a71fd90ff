"""Families of models: pipelines of River that fit the columns of a stream, with their hyper-parameters.

Every family has sound defaults, so that a few trials suffice to try each of them. A family returns configuration
(``model.pipeline``), never an object: it can be written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streamal.experiments.shapes import Draw, Shape

__all__ = ["Family", "families"]

Step = dict[str, Any]

_POLYNOMIAL_MAX = 20
"""Most numeric columns whose pairwise products are still few enough."""

Family = Callable[[Shape, Draw], list[Step]]


def families(shape: Shape) -> dict[str, Family]:
    """Return the families that fit, the simplest first; each makes a ``model.pipeline``.

    >>> list(families(Shape({"x": "number"}, ("a", "b"))))[:3]
    ['logistic', 'polynomial', 'naive_bayes']
    >>> list(families(Shape({"t": "text"}, ("a", "b", "c"))))
    ['logistic', 'softmax', 'words_naive_bayes', 'words_passive_aggressive']
    """
    numbers, texts = shape.named("number", "boolean"), shape.named("text")
    found: dict[str, Family] = {"logistic": _logistic}
    if not shape.binary or shape.balance:
        found["softmax"] = _softmax
    if shape.vectors and not texts:
        return found  # trees and neighbours would look at hundreds of numbers, one after the other
    if texts:
        found |= {"words_naive_bayes": _words_naive_bayes, "words_passive_aggressive": _passive_aggressive}
        return found
    if 1 <= len(numbers) <= _POLYNOMIAL_MAX:
        found["polynomial"] = _polynomial
    if len(numbers) == len(shape.kinds):
        found |= {"naive_bayes": _naive_bayes, "neighbours": _neighbours, "mondrian_forest": _mondrian_forest}
    return found | {"hoeffding_tree": _hoeffding_tree, "forest": _forest}


# The features.


def _use(name: str, **values: Any) -> Step:
    return {"use": name, **values}


def _scaler(draw: Draw, family: str) -> Step:
    """Return a scaler of numbers, by all events so far or by the recent ones."""
    fading = draw.choice(f"{family}.fading_factor", [None, 0.01, 0.05])
    if fading is None:
        return _use("preprocessing.StandardScaler")
    return _use("preprocessing.AdaptiveStandardScaler", fading_factor=fading)


def _columns(shape: Shape, numbers: Sequence[Step], words: Sequence[Sequence[Step]], unit: float = 0.0) -> list[Step]:
    """Return the steps that join all columns; strings are hashed, so that new values do not grow the model.

    Vectors are scaled to the length *unit*; with 0 their numbers are numbers as any other.
    """
    parts: list[list[Step]] = []
    plain = [*shape.named("number", "boolean"), *([] if unit else shape.vectors)]
    if plain:
        mixed = len(plain) < len(shape.kinds)
        select = [_use("compose.SelectType", args=[{"type": "number"}])] if mixed else []
        parts.append([*select, *numbers])
    if shape.named("string"):
        texts = shape.named("text")
        # not compose.Select: that raises for an event that lacks one of the names
        others = [_use("compose.Discard", args=texts)] if texts else []
        chosen = [*others, _use("compose.SelectType", args=[{"type": "string"}])]
        parts.append([*chosen, _use("preprocessing.FeatureHasher", n_features=65_536)])
    if shape.vectors and unit:
        parts.append([_use("streamal.UnitVectors", norm=unit)])
    parts.extend(list(steps) for steps in words)
    return parts[0] if len(parts) == 1 else [_use("compose.TransformerUnion", args=parts)]


def _words(name: str, draw: Draw, family: str, normalised: bool) -> list[Step]:
    """Return the steps for a text: hashed words, and pairs of them perhaps; or the plain counts."""
    pairs = draw.choice(f"{family}.words", ["pairs", "single"]) == "pairs"
    bag = _use(
        "feature_extraction.BagOfWords",
        on=name,
        strip_accents=True,
        ngram_range=[1, 2] if pairs else [1, 1],
        tokenizer_pattern=r"(?u)\w+|[^\w\s]",
    )
    hashed = _use("preprocessing.FeatureHasher", n_features=262_144)
    if not normalised:  # naive Bayes needs counts, and a hasher's signs would make some negative
        return [bag]
    return [bag, _use("preprocessing.Binarizer"), _use("preprocessing.Normalizer"), hashed]


def _features(shape: Shape, draw: Draw, family: str) -> list[Step]:
    """Return the steps before a linear model."""
    unit = _unit(shape, draw, family)
    plain = shape.named("number", "boolean") or (shape.vectors and not unit)
    numbers = [_scaler(draw, family)] if plain else []
    return _columns(shape, numbers, [_words(name, draw, family, normalised=True) for name in shape.named("text")], unit)


def _unit(shape: Shape, draw: Draw, family: str) -> float:
    """Return the length to which vectors are scaled; 0 where each of their numbers is standardised by itself."""
    if not shape.vectors or draw.choice(f"{family}.vectors", ["one length", "standardised"]) == "standardised":
        return 0.0
    return 1.0 if _is_wide(shape) else draw.real(f"{family}.norm", 0.1, 4.0, 0.5)


def _is_wide(shape: Shape) -> bool:
    """Whether there is nothing but vectors."""
    return len(shape.vectors) == len(shape.kinds)


# The classifiers.


def _optimizer(shape: Shape, draw: Draw, family: str) -> Step:
    kinds = ["AdaGrad", "SGD", "Adam"]
    ranges = {"AdaGrad": (0.03, 10.0, 1.0), "SGD": (0.003, 1.0, 0.1), "Adam": (0.001, 0.3, 0.03)}
    if _is_wide(shape):  # of one length, they bear long steps
        kinds = ["SGD", "AdaGrad", "Adam"]
        ranges |= {"SGD": (0.003, 30.0, 3.0)}
    kind = draw.choice(f"{family}.optimizer", kinds)
    low, high, default = ranges[kind]
    return _use(f"optim.{kind}", lr=draw.real(f"{family}.{kind}.lr", low, high, default))


def _decay(draw: Draw, family: str) -> dict[str, float]:
    l2 = draw.choice(f"{family}.l2", [0.0, 1e-4, 1e-3])
    return {"l2": l2} if l2 else {}


def _linear(shape: Shape, draw: Draw, family: str) -> Step:
    """Return a logistic regression; one for each class, if there are more than two."""
    logistic = _use(
        "linear_model.LogisticRegression",
        optimizer=_optimizer(shape, draw, family),
        intercept_lr=draw.real(f"{family}.intercept_lr", 0.01, 1.0, 0.2),
        **_decay(draw, family),
    )
    return logistic if shape.binary else _use("multiclass.OneVsRestClassifier", classifier=logistic)


def _even(shape: Shape, draw: Draw, family: str, classifier: Step) -> Step:
    """Return *classifier*, for balanced accuracy also in a form that learns all classes equally often."""
    if not shape.balance or draw.choice(f"{family}.balance", ["oversample", "no"]) == "no":
        return classifier
    part = 1.0 / len(shape.classes)
    return _use("imblearn.RandomOverSampler", classifier=classifier, desired_dist=dict.fromkeys(shape.classes, part))


def _logistic(shape: Shape, draw: Draw) -> list[Step]:
    return [*_features(shape, draw, "logistic"), _linear(shape, draw, "logistic")]


def _softmax_step(shape: Shape, draw: Draw, family: str) -> Step:
    regression = _use(
        "linear_model.SoftmaxRegression", optimizer=_optimizer(shape, draw, family), **_decay(draw, family)
    )
    return _even(shape, draw, family, regression)


def _softmax(shape: Shape, draw: Draw) -> list[Step]:
    return [*_features(shape, draw, "softmax"), _softmax_step(shape, draw, "softmax")]


def _polynomial(shape: Shape, draw: Draw) -> list[Step]:
    """Return a linear model over the numbers and their products."""
    numbers = [
        _scaler(draw, "polynomial"),
        _use("feature_extraction.PolynomialExtender", degree=2),
        _use("preprocessing.StandardScaler"),
    ]
    last = _softmax_step if shape.balance or not shape.binary else _linear
    return [*_columns(shape, numbers, []), last(shape, draw, "polynomial")]


def _naive_bayes(shape: Shape, draw: Draw) -> list[Step]:
    return [_even(shape, draw, "naive_bayes", _use("naive_bayes.GaussianNB"))]


def _neighbours(shape: Shape, draw: Draw) -> list[Step]:
    """Return the nearest neighbours in a window of the labels."""
    del shape
    window = draw.choice("neighbours.size", [500, 200, 1_000])
    return [
        _scaler(draw, "neighbours"),
        _use(
            "neighbors.KNNClassifier",
            n_neighbors=draw.choice("neighbours.n", [3, 1, 5, 9]),
            engine=_use("neighbors.LazySearch", window_size=window),
        ),
    ]


def _mondrian_forest(shape: Shape, draw: Draw) -> list[Step]:
    forest = _use(
        "forest.AMFClassifier",
        n_estimators=draw.choice("mondrian_forest.trees", [10, 30]),
        step=draw.real("mondrian_forest.step", 0.1, 10.0, 1.0),
        dirichlet=draw.choice("mondrian_forest.dirichlet", [0.5, 0.1, 0.01]),
        split_pure=draw.choice("mondrian_forest.split_pure", [False, True]),
        max_nodes=2_000,
    )
    return [_even(shape, draw, "mondrian_forest", forest)]


def _growth(draw: Draw, family: str) -> dict[str, Any]:
    return {
        "grace_period": draw.choice(f"{family}.grace_period", [50, 20, 100]),
        "leaf_prediction": draw.choice(f"{family}.leaf_prediction", ["nba", "mc", "nb"]),
    }


def _hoeffding_tree(shape: Shape, draw: Draw) -> list[Step]:
    delta = draw.real("hoeffding_tree.delta", 1e-7, 0.1, 0.001)
    tree = _use("tree.HoeffdingAdaptiveTreeClassifier", delta=delta, **_growth(draw, "hoeffding_tree"))
    return [_even(shape, draw, "hoeffding_tree", tree)]


def _forest(shape: Shape, draw: Draw) -> list[Step]:
    forest = _use(
        "forest.ARFClassifier",
        n_models=10,
        lambda_value=draw.choice("forest.lambda_value", [6, 1]),
        **_growth(draw, "forest"),
    )
    return [_even(shape, draw, "forest", forest)]


def _words_naive_bayes(shape: Shape, draw: Draw) -> list[Step]:
    """Return naive Bayes over the words of the texts, the other columns left aside; it grows with the vocabulary."""
    family = "words_naive_bayes"
    parts = [_words(name, draw, family, normalised=False) for name in shape.named("text")]
    bayes = _use("naive_bayes.MultinomialNB", alpha=draw.real(f"{family}.alpha", 0.003, 1.0, 0.1))
    steps = parts[0] if len(parts) == 1 else [_use("compose.TransformerUnion", args=parts)]
    return [*steps, _even(shape, draw, family, bayes)]


def _passive_aggressive(shape: Shape, draw: Draw) -> list[Step]:
    family = "words_passive_aggressive"
    classifier = _use("linear_model.PAClassifier", C=draw.real(f"{family}.C", 0.01, 10.0, 1.0), mode=1)
    last = classifier if shape.binary else _use("multiclass.OneVsRestClassifier", classifier=classifier)
    return [*_features(shape, draw, family), last]
