"""Estimators from the configuration: only what is inside River, seeded, with errors that name the key."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from river import linear_model, naive_bayes, neighbors, preprocessing

from streamal.core.model.model import LabelRules, Model
from streamal.core.model.pipeline import build_estimator, default_pipeline, require_own_state
from streamal.core.records import Scalar
from streamal.core.schema import Schema
from streamal.errors import ConfigError

LOGISTIC = {"use": "linear_model.LogisticRegression"}
KINDS: tuple[Mapping[str, str], ...] = (
    {},
    {"x": "number"},
    {"s": "string"},
    {"b": "boolean"},
    {"t": "text"},
    {"x": "number", "s": "string"},
    {"s": "string", "t": "text"},
    {"x": "number", "t": "text"},
    {"x": "number", "y": "number", "s": "string", "b": "boolean", "t": "text", "u": "text"},
)
FULL: Mapping[str, Scalar] = {
    "x": 1.0,
    "y": -2.0,
    "s": "red",
    "b": True,
    "t": "the lottery: you win £5!",
    "u": "agenda",
}


def build(*steps: Any, seed: int = 5) -> Any:
    return build_estimator(steps, None, seed)


# What may be named.


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "linear_model.__builtins__",
        "linear_model.__class__.__base__",
        "linear_model.base.abc.os.system",
        "_linear_model.LogisticRegression",
        "linear_model._LogisticRegression",
        "utils.math.sigmoid",
        "stream.iter_csv",
        "stream.Cache",
        "utils.VectorDict",
        "compose.pipeline",
        "linear_model.log_reg.optim",
        "linear_model.base.collections.Counter",
        "linear_model.",
        ".LogisticRegression",
        "LogisticRegression",
        "linear_model.logisticregression",
        "linear_model/LogisticRegression",
        "",
        "river",
        "..os.system",
        17,
        None,
        ["linear_model.LogisticRegression"],
    ],
)
def test_nothing_outside_river_can_be_named(name: Any) -> None:
    """Modules, functions, dunders, private names, other packages' classes: one line that names the key (F50)."""
    with pytest.raises(ConfigError, match=r"^model\.pipeline\[0\]\.use: ") as raised:
        build({"use": name})
    assert "\n" not in str(raised.value)


def test_the_prefix_river_is_optional() -> None:
    """As River's own documentation writes the names."""
    assert isinstance(build({"use": "river.linear_model.LogisticRegression"}), linear_model.LogisticRegression)


WRONG = [
    ([{"use": "linear_model.LogisticRegression", "l3": 1}], r"model\.pipeline\[0\]: linear_model.*l3"),
    ([{"use": "preprocessing.StandardScaler"}, {"nouse": 1}], r"model\.pipeline\[1\] must have the key 'use'"),
    (["linear_model.LogisticRegression"], r"model\.pipeline\[0\] must be a table"),
    ([LOGISTIC | {"optimizer": {"use": "optim.Nope"}}], r"model\.pipeline\[0\]\.optimizer\.use: river has no"),
    ([LOGISTIC | {"optimizer": {"use": "optim.SGD", "lr": {"use": "x.Y"}}}], r"\[0\]\.optimizer\.lr\.use"),
    ([{"use": "compose.SelectType", "args": [{"type": "date"}]}], r"\[0\]\.args\[0\]\.type must be one of number"),
    ([{"use": "compose.SelectType", "args": [{"type": ["number"]}]}], r"\[0\]\.args\[0\]\.type must be one of"),
    ([LOGISTIC | {"args": 3}], r"model\.pipeline\[0\]: linear_model\.LogisticRegression"),
    ([{"use": "base.Classifier"}], r"model\.pipeline\[0\]: base\.Classifier.*abstract"),
    ([{"use": "preprocessing.StandardScaler"}], r"last step must be a classifier, not StandardScaler"),
    ([{"use": "optim.SGD"}], r"last step must be a classifier, not SGD"),
    ([{"type": "number"}], r"last step must be a classifier"),
    ([], r"last step must be a classifier"),
    ([{"type": "number"}, LOGISTIC], r"model\.pipeline\[0\] must be an estimator"),
    ([{"use": "optim.SGD"}, LOGISTIC], r"model\.pipeline\[0\] must be an estimator"),
]


@pytest.mark.parametrize(("steps", "message"), WRONG)
def test_an_error_names_the_key(steps: list[Any], message: str) -> None:
    """Whatever is wrong in a pipeline is told before anything starts, with the path to it (F47)."""
    with pytest.raises(ConfigError, match=message):
        build_estimator(steps, None, 5)


# What is built.


def test_tables_nest() -> None:
    """Optimisers inside classifiers, pipelines inside ensembles, positional arguments, plain lists and dicts."""
    voting = build(
        {
            "use": "ensemble.VotingClassifier",
            "models": [
                {"use": "naive_bayes.GaussianNB"},
                [
                    {"use": "preprocessing.StandardScaler"},
                    LOGISTIC | {"optimizer": {"use": "optim.AdaGrad", "lr": 0.3}},
                ],
            ],
        }
    )
    first, second = voting.models
    assert isinstance(first, naive_bayes.GaussianNB)
    assert list(second.steps) == ["StandardScaler", "LogisticRegression"]
    assert second.steps["LogisticRegression"].optimizer.lr.learning_rate == 0.3
    words = build({"use": "feature_extraction.BagOfWords", "ngram_range": [1, 2]}, {"use": "naive_bayes.MultinomialNB"})
    assert words.steps["BagOfWords"].ngram_range == [1, 2]
    knn = build({"use": "neighbors.KNNClassifier", "engine": {"use": "neighbors.LazySearch", "window_size": 9}})
    assert knn.engine.window_size == 9
    ovr = build(
        {"use": "multiclass.OneVsRestClassifier", "classifier": [{"use": "preprocessing.MinMaxScaler"}, LOGISTIC]}
    )
    assert list(ovr.classifier.steps) == ["MinMaxScaler", "LogisticRegression"]
    tree = build({"use": "tree.HoeffdingTreeClassifier", "nominal_attributes": ["s"]})
    assert tree.nominal_attributes == ["s"]


def test_types_are_tables() -> None:
    """``{ type = "number" }`` is what River's SelectType needs."""
    steps = [
        {
            "use": "compose.TransformerUnion",
            "args": [
                [{"use": "compose.SelectType", "args": [{"type": kind}]}, {"use": "preprocessing.FeatureHasher"}]
                for kind in ("number", "string", "boolean")
            ],
        },
        LOGISTIC,
    ]
    names = [str(part) for part in build(*steps).steps["TransformerUnion"].transformers.values()]
    assert names == [f"Select({name}) | FeatureHasher" for name in ("Number", "str", "bool")]


def test_plain_tables_are_plain_arguments() -> None:
    """A table without 'use' or 'type' is handed over as a dict."""
    estimator = build({"use": "linear_model.LogisticRegression", "l2": 0.0, "initializer": {"plain": 1}})
    assert estimator.initializer == {"plain": 1}


def test_everything_is_seeded() -> None:
    """Own ``seed`` parameters, nested ones and nested defaults (KNN's engine); a given seed is kept (§6)."""
    assert build({"use": "forest.ARFClassifier"}).seed == 5
    assert build({"use": "forest.ARFClassifier", "seed": 9}).seed == 9
    assert build({"use": "neighbors.KNNClassifier"}).engine.seed == 5
    nested = build({"use": "preprocessing.StandardScaler"}, {"use": "neighbors.KNNClassifier"})
    assert nested.steps["KNNClassifier"].engine.seed == 5
    bagging = build({"use": "ensemble.BaggingClassifier", "model": {"use": "forest.AMFClassifier"}})
    assert (bagging.seed, bagging.models[0].seed) == (5, 5)
    listed = build({"use": "ensemble.VotingClassifier", "models": [{"use": "forest.AMFClassifier"}] * 2})
    assert listed.models[0].seed == 5


# The user's own factory.


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("my_models")
    monkeypatch.setitem(sys.modules, "my_models", made)
    return made


def test_a_factory_is_called_and_seeded(module: ModuleType) -> None:
    """Any code of the user's own, by name; what it left unseeded is seeded."""
    vars(module)["make"] = lambda: preprocessing.StandardScaler() | neighbors.KNNClassifier()
    estimator: Any = build_estimator((), "my_models:make", 5)
    assert estimator.steps["KNNClassifier"].engine.seed == 5
    vars(module)["make"] = linear_model.LogisticRegression
    assert isinstance(build_estimator((), "my_models:make", 5), linear_model.LogisticRegression)


def test_a_failing_factory_says_why(module: ModuleType) -> None:
    """No such module, no such function, an error inside, no classifier: one ConfigError each."""

    def fail() -> None:
        raise ZeroDivisionError("oh")

    vars(module)["make"] = fail
    with pytest.raises(ConfigError, match=r"model\.factory 'my_models:make' failed: ZeroDivisionError: oh"):
        build_estimator((), "my_models:make", 5)
    with pytest.raises(ConfigError, match=r"'my_models:other' failed: AttributeError: .*; it was looked for in"):
        build_estimator((), "my_models:other", 5)
    with pytest.raises(
        ConfigError,
        match=r"'no_such_module_at_all:make' failed: ModuleNotFoundError: .*; it was looked for in .*PYTHONPATH",
    ):
        build_estimator((), "no_such_module_at_all:make", 5)
    vars(module)["make"] = preprocessing.StandardScaler
    with pytest.raises(ConfigError, match="must be a classifier, not StandardScaler"):
        build_estimator((), "my_models:make", 5)


def test_a_factory_of_a_file_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raised, and where; a module that it needs and lacks is not taken for the factory's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_factory.py").write_text("def build():\n    return {}['x']\n\n\ndef end():\n    exit(3)\n")
    (tmp_path / "own_broken.py").write_text("\nimport nowhere_to_be_found\n")
    with pytest.raises(ConfigError, match=r"failed: KeyError: 'x' \(line 2 of own_factory\)"):
        build_estimator((), "own_factory:build", 5)
    with pytest.raises(ConfigError, match=r"failed: SystemExit: 3 \(line 6 of own_factory\)"):
        build_estimator((), "own_factory:end", 5)
    with pytest.raises(ConfigError, match=r"own_broken:build' failed: .*'nowhere_to_be_found' \(line 2 of own_broken"):
        build_estimator((), "own_broken:build", 5)


# The default.


def default_model(kinds: Mapping[str, str], binary: bool) -> tuple[Model, Schema]:
    classes = ("a", "b") if binary else ("a", "b", "c")
    return Model(build_estimator(default_pipeline(kinds, binary), None, 5), LabelRules(classes)), Schema(
        kinds, open=not kinds
    )


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(kinds.values()) or "unknown")
def test_the_default_copes_with_missing_features(kinds: Mapping[str, str], binary: bool) -> None:
    """Any subset of the declared features can be learned and predicted; the river checks of F33, on all variants."""
    model, schema = default_model(kinds, binary)
    assert model.binary == binary
    names = list(kinds or ("x", "s", "b"))
    subsets = [{}, *({name: FULL[name]} for name in names), {name: FULL[name] for name in names}]
    for _ in range(3):
        for label in model.classes:
            for subset in subsets:
                model.learn(schema.select(subset), label)
                model.raw(schema.select(subset))
    assert model.failures == 0


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(kinds.values()) or "unknown")
def test_the_default_stays_bounded(kinds: Mapping[str, str]) -> None:
    """I9: strings and texts that are never the same go to hashed columns only; nothing else grows with them."""
    model, schema = default_model(kinds, binary=True)
    estimator: Any = model._estimator

    def transformers_bytes() -> int:
        return sum(len(pickle.dumps(step)) for step in list(estimator.steps.values())[:-1])

    sizes = []
    for number in range(400):
        features = {**FULL, "s": f"s{number}", "t": f"w{number} v{number}", "u": f"x{number}", "x": number * 1.5}
        model.learn(schema.select({name: features[name] for name in (kinds or ("x", "s", "b"))}), "ab"[number % 2])
        sizes.append(transformers_bytes())
    assert sizes[-1] <= sizes[5] + 100
    columns = 262_144 if "text" in kinds.values() else 65_536
    weights = list(estimator.steps["LogisticRegression"].weights)
    hashed = [name for name in weights if name not in ("x", "y", "b")]
    assert all(isinstance(name, int) and 0 <= name < columns for name in hashed)
    assert bool(hashed) == (not kinds or bool({"string", "text"} & set(kinds.values())))


def test_the_default_learns_from_every_kind() -> None:
    """Numbers, strings, truth values and texts all carry signal through the default pipeline."""
    signals: Mapping[str, tuple[Scalar, Scalar]] = {
        "x": (0.0, 9.0),
        "s": ("red", "blue"),
        "b": (False, True),
        "t": ("win now", "the agenda"),
    }
    for name, values in signals.items():
        kind = {"x": "number", "s": "string", "b": "boolean", "t": "text"}[name]
        model, schema = default_model({name: kind, "z": "string", "w": "text"}, binary=True)
        for _ in range(30):
            for value, label in zip(values, "ab", strict=True):
                model.learn(schema.select({name: value, "z": "same", "w": "same"}), label)
        for value, label in zip(values, "ab", strict=True):
            assert model.predict(schema.select({name: value, "z": "same", "w": "same"}))[label] > 0.8


def test_a_model_that_shares_state_is_refused() -> None:
    """KNN's default engine keeps a set on its class: no two models of a process are independent of each other."""
    with pytest.raises(ConfigError, match="LazySearch"):
        require_own_state(build({"use": "neighbors.KNNClassifier"}))
    require_own_state(build({"use": "neighbors.KNNClassifier", "engine": {"use": "neighbors.LazySearch"}}))


@pytest.mark.parametrize("use", ["forest.ARFClassifier", "ensemble.BaggingClassifier", "forest.AMFClassifier"])
def test_a_model_of_a_thousand_million_parts_is_refused(use: str) -> None:
    """Before any of them is made: the process would be killed for its memory, and say nothing."""
    count = "n_estimators" if use == "forest.AMFClassifier" else "n_models"
    spec: dict[str, Any] = {"use": use, count: 1_000_000_000}
    if use == "ensemble.BaggingClassifier":
        spec["model"] = {"use": "linear_model.LogisticRegression"}
    with pytest.raises(ConfigError, match=rf"model\.pipeline\[0\]\.{count}: at most 1000 are allowed"):
        build_estimator([spec], None, 42)


@pytest.mark.parametrize(
    ("kinds", "like"), [({"v": "vector(2)"}, {"v": "number"}), ({"v": "vector(15)"}, {"x": "number"})]
)
def test_a_short_vector_is_standardised_like_numbers(kinds: dict[str, str], like: dict[str, str]) -> None:
    """Measurements have scales of their own; from 16 numbers on a vector is scaled as a whole."""
    assert default_pipeline(kinds, binary=True) == default_pipeline(like, binary=True)
    assert "streamal.UnitVectors" in repr(default_pipeline({"v": "vector(16)"}, binary=True))
    assert "streamal.UnitVectors" in repr(default_pipeline({**kinds, "long": "vector(384)"}, binary=True))
