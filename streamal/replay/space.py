"""What `tune` searches: pipelines of River that fit the columns of a stream, and how labels are spent.

A *family* is a kind of model with its hyper-parameters; each default is a sound beginning, so that a few trials already
meet every family. What comes out is configuration (``model``, ``sampling``), never an object: it can be written down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streamal.replay.reading import Stream
from streamal.replay.runs import Metric

__all__ = ["BATCHES", "Defaults", "Draw", "Shape", "families", "model_section", "sampling_section"]

Step = dict[str, Any]
BATCHES = (1, 10, 50)
"""Events per step: the loop's size. A larger one is cheaper, and learns later."""

_POLYNOMIAL_MAX = 20
"""Numbers of which all products are still few enough."""
_STRATEGIES = ("randomised_variable", "variable", "quantile", "split", "selective")


class Draw(Protocol):
    """Where values come from: an optimiser, or the defaults."""

    def real(self, name: str, low: float, high: float, default: float) -> float:
        """Return a number on a logarithmic scale, with three digits."""
        ...

    def choice(self, name: str, options: Sequence[Any]) -> Any:
        """Return one of *options*, of which the first is the default."""
        ...


class Defaults:
    """Draws every default, and remembers it."""

    def __init__(self, **fixed: Any) -> None:
        """Draw *fixed* values where they are given."""
        self.drawn: dict[str, Any] = {}
        self._fixed = fixed

    def real(self, name: str, low: float, high: float, default: float) -> float:
        """Return *default*."""
        assert low <= default <= high
        return float(self.drawn.setdefault(name, self._fixed.get(name, default)))

    def choice(self, name: str, options: Sequence[Any]) -> Any:
        """Return the first of *options*."""
        return self.drawn.setdefault(name, self._fixed.get(name, options[0]))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a stream looks like to a model.

    Attributes:
        kinds: feature -> "number" | "string" | "boolean" | "text".
        classes: the labels.
        balance: whether rare classes are to be learned as if they were not: for balanced accuracy.
    """

    kinds: Mapping[str, str]
    classes: tuple[str, ...]
    balance: bool = False

    @classmethod
    def of(cls, stream: Stream, metric: Metric) -> Shape:
        """Return the shape of *stream*."""
        return cls(stream.kinds, stream.classes, metric == "balanced_accuracy")

    def named(self, *kinds: str) -> list[str]:
        """Return the features of these kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.classes) == 2


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
    if texts:
        found |= {"words_naive_bayes": _words_naive_bayes, "words_passive_aggressive": _passive_aggressive}
        return found
    if 1 <= len(numbers) <= _POLYNOMIAL_MAX:
        found["polynomial"] = _polynomial
    if len(numbers) == len(shape.kinds):
        found |= {"naive_bayes": _naive_bayes, "neighbours": _neighbours, "mondrian_forest": _mondrian_forest}
    return found | {"hoeffding_tree": _hoeffding_tree, "forest": _forest}


def model_section(shape: Shape, draw: Draw, wanted: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a ``model`` section: a family (one of *wanted*), its hyper-parameters, rehearsal."""
    known = families(shape)
    name = draw.choice("family", wanted or list(known))
    section: dict[str, Any] = {"pipeline": known[name](shape, draw)}
    repeats = draw.choice(f"{name}.repeats", _repeats(name))
    if repeats:
        section["rehearsal"] = {"window": draw.choice(f"{name}.window", [500, 100, 2_000]), "repeats": repeats}
    return section


def sampling_section(shape: Shape, draw: Draw, delayed: bool) -> dict[str, Any]:
    """Return a ``sampling`` section; *delayed* labels make near-duplicates of open requests matter."""
    strategy = draw.choice("strategy", _STRATEGIES)
    section: dict[str, Any] = {"strategy": strategy}
    if not shape.binary:
        section["uncertainty"] = draw.choice("uncertainty", ["least_confidence", "margin", "entropy"])
    if strategy in {"randomised_variable", "variable", "split", "selective"}:
        section["step"] = draw.real("step", 0.003, 0.1, 0.01)
    if strategy == "randomised_variable":
        section["delta"] = draw.real("delta", 0.03, 1.0, 0.3)
    if delayed and not shape.named("text"):
        damping = draw.choice("damping", [None, 0.1, 0.3])
        section |= {} if damping is None else {"damping": damping}
    return section


def _repeats(family: str) -> list[int]:
    """Return how often recent labels may be repeated: cheap models gain most, a neighbour knows them anyway."""
    if family == "neighbours":
        return [0]
    return [0, 1, 3] if family in {"forest", "mondrian_forest"} else [0, 2, 5, 10]


# The features.


def _use(name: str, **values: Any) -> Step:
    return {"use": name, **values}


def _scaler(draw: Draw, family: str) -> Step:
    """Return what brings numbers to one scale: that of the whole past, or of the recent one."""
    fading = draw.choice(f"{family}.fading_factor", [None, 0.01, 0.05])
    if fading is None:
        return _use("preprocessing.StandardScaler")
    return _use("preprocessing.AdaptiveStandardScaler", fading_factor=fading)


def _columns(shape: Shape, numbers: Sequence[Step], words: Sequence[Sequence[Step]]) -> list[Step]:
    """Return the steps that bring all columns together; strings are hashed, so that new values grow nothing."""
    parts: list[list[Step]] = []
    if shape.named("number", "boolean"):
        mixed = len(shape.named("number", "boolean")) < len(shape.kinds)
        select = [_use("compose.SelectType", args=[{"type": "number"}])] if mixed else []
        parts.append([*select, *numbers])
    if strings := shape.named("string"):
        parts.append([_use("compose.Select", args=strings), _use("preprocessing.FeatureHasher", n_features=65_536)])
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
    if not normalised:  # naive Bayes counts: a hasher's signs would be negative counts
        return [bag]
    return [bag, _use("preprocessing.Binarizer"), _use("preprocessing.Normalizer"), hashed]


def _features(shape: Shape, draw: Draw, family: str) -> list[Step]:
    """Return the steps before a linear model."""
    numbers = [_scaler(draw, family)] if shape.named("number", "boolean") else []
    return _columns(shape, numbers, [_words(name, draw, family, normalised=True) for name in shape.named("text")])


# The classifiers.


def _optimizer(draw: Draw, family: str) -> Step:
    kind = draw.choice(f"{family}.optimizer", ["AdaGrad", "SGD", "Adam"])
    low, high, default = {"AdaGrad": (0.03, 3.0, 1.0), "SGD": (0.003, 1.0, 0.1), "Adam": (0.001, 0.3, 0.03)}[kind]
    return _use(f"optim.{kind}", lr=draw.real(f"{family}.{kind}.lr", low, high, default))


def _decay(draw: Draw, family: str) -> dict[str, float]:
    l2 = draw.choice(f"{family}.l2", [0.0, 1e-4, 1e-3])
    return {"l2": l2} if l2 else {}


def _linear(shape: Shape, draw: Draw, family: str) -> Step:
    """Return a logistic regression; one for each class, if there are more than two."""
    logistic = _use(
        "linear_model.LogisticRegression",
        optimizer=_optimizer(draw, family),
        intercept_lr=draw.real(f"{family}.intercept_lr", 0.01, 1.0, 0.2),
        **_decay(draw, family),
    )
    return logistic if shape.binary else _use("multiclass.OneVsRestClassifier", classifier=logistic)


def _even(shape: Shape, draw: Draw, family: str, classifier: Step) -> Step:
    """Return *classifier*, learning rare classes as often as common ones where that is what counts."""
    if not shape.balance or draw.choice(f"{family}.balance", ["oversample", "no"]) == "no":
        return classifier
    part = 1.0 / len(shape.classes)
    return _use("imblearn.RandomOverSampler", classifier=classifier, desired_dist=dict.fromkeys(shape.classes, part))


def _logistic(shape: Shape, draw: Draw) -> list[Step]:
    return [*_features(shape, draw, "logistic"), _linear(shape, draw, "logistic")]


def _softmax_step(shape: Shape, draw: Draw, family: str) -> Step:
    regression = _use("linear_model.SoftmaxRegression", optimizer=_optimizer(draw, family), **_decay(draw, family))
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
        n_estimators=10,
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
