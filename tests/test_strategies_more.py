"""The strategies beyond the thresholds against their papers' formulas, and the traps of other implementations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import active, base, dummy, ensemble, forest, linear_model, multiclass, naive_bayes, preprocessing, tree

from streamal.bootstrap import build
from streamal.cli.check import require_sound_strategy
from streamal.config import load_config
from streamal.core.codec.events import encode
from streamal.core.coins import HashedUniform
from streamal.core.learned import LearnedRules
from streamal.core.model.model import LabelRules, Model
from streamal.core.records import Example, Lane, NaturalExample
from streamal.core.strategies import STRATEGIES, EventView, SamplingRules, Strategy, build_strategy, requirements_of
from streamal.core.strategies.auto import Auto, Bandit
from streamal.core.strategies.committee import vote_entropy
from streamal.core.strategies.density import gain
from streamal.core.strategies.near_duplicates import Damper
from streamal.core.strategies.quantile import _VALUES, Quantile
from streamal.core.strategies.selective import Importance, Selective
from streamal.core.strategies.sketch import EMPTY_COUNTS, Hyperplanes, add_label, labels_near
from streamal.core.strategies.space import Neighbours
from streamal.core.strategies.threshold import Mover
from streamal.core.strategies.uncertainty import least_confidence, smooth
from streamal.core.strategies.unconditional import Periodic
from streamal.errors import ConfigError
from tests.making import BAYES, make_fold

units = st.floats(0.0, 1.0)


def asked(strategy: Strategy, scores: Sequence[float]) -> list[bool]:
    """Return who is asked of *scores*, the lane always open."""
    state, coin, chosen = strategy.initial(), HashedUniform(3, "strategy"), []
    for i, score in enumerate(scores):
        chosen.append(coin.uniform(f"0-{i}") < strategy.propensity(score, state))
        state = strategy.update(score, chosen[-1], state)
    return chosen


# The formulas.


@given(units, st.floats(1e-3, 10.0), st.floats(0.0, 0.5))
def test_selective_sampling_is_its_formula(u: float, b: float, floor: float) -> None:
    """Cesa-Bianchi et al. 2006, as MOA has it: b/(b + |p̂ - 1/C|)."""
    assert Selective(0.1, floor, None).propensity(u, (b,)) == pytest.approx(b / (b + abs((1.0 - u) - floor)))


@given(st.floats(0.0, 0.999), st.floats(1e-4, 10.0), st.integers(1, 100_000))
def test_t5_importance_solves_its_equation(u: float, c0: float, n: int) -> None:
    """T5: where p < 1, √p solves g = √b/s + b/s²; at n = 1000, g = .05, c0 = .01 it is not Vowpal Wabbit's 1.9e-7."""
    p, g = Importance(c0, None).propensity(u, (c0, n)), 1.0 - u
    b = c0 * math.log(n + 1.0) / n
    if p < 1.0:
        assert math.sqrt(b / p) + b / p == pytest.approx(g, rel=1e-6)
    else:
        assert g <= math.sqrt(b) + b + 1e-12
    assert Importance(0.01, None).propensity(0.95, (0.01, 1000)) == pytest.approx(3.0e-2, rel=0.1)


def test_importance_keeps_to_its_rate() -> None:
    """T5: left to itself the share asked follows from nothing; with the mover it is the budget's."""
    scores = np.random.default_rng(1).beta(1.0, 3.0, 30_000).tolist()
    for rate in (0.02, 0.1, 0.3):
        mover = Mover.matched(0.01, rate)
        strategies: tuple[Strategy, ...] = (Importance(0.1, mover), Selective(rate, 0.5, mover))
        for strategy in strategies:
            state, propensities = strategy.initial(), []
            for u in scores:
                propensities.append(strategy.propensity(u, state))
                state = strategy.update(u, False, state)
            assert np.mean(propensities[10_000:]) == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.1, 0.007])
def test_periodic_asks_at_equal_distances(rate: float) -> None:
    """The first event, then every 1/rate-th, never two requests more or fewer than that."""
    chosen = asked(Periodic(rate), [0.5] * 3_000)
    assert chosen[0]
    assert np.all(np.abs(np.cumsum(chosen) - rate * np.arange(1, 3_001)) <= 1.0 + 1e-9)


@given(st.lists(st.floats(0.0, 20.0), min_size=2, max_size=4), st.sampled_from([1, 2]))
def test_the_probabilistic_gain_is_its_definition(k: list[float], m_max: int) -> None:
    """McPAL by brute force: all label sequences of length m, the Dirichlet predictive, new decision against old."""

    def expected(m: int, prior: float) -> float:
        best, total = int(np.argmax(k)), 0.0
        for labels in itertools.product(range(len(k)), repeat=m):
            counts, p = list(k), 1.0
            for label in labels:
                p *= (counts[label] + prior) / (sum(counts) + prior * len(k))
                counts[label] += 1.0
            total += p * (max(counts) - counts[best]) / (sum(counts) + prior * len(k))
        return total / m

    wanted = max(expected(m, 0.5) for m in range(1, m_max + 1))
    assert gain(k, 0.5, m_max) == pytest.approx(wanted, abs=1e-9)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum))
def test_vote_entropy_is_its_definition(votes: list[int]) -> None:
    """Over the most that as many members can disagree about as many classes."""
    shares = np.array([v for v in votes if v]) / sum(votes)
    entropy = -float(np.sum(shares * np.log(shares)))
    most = math.log(max(2, min(sum(votes), len(votes))))
    assert vote_entropy(votes) == pytest.approx(min(1.0, entropy / most), abs=1e-12)


# The quantile filter.


def test_t2_a_constant_score_is_asked_at_the_budget() -> None:
    """T2: scikit-activeml's filter asks 100 % of a constant utility; this one the share, on each level."""
    assert {sum(asked(Quantile(0.1), [u] * 1_000)) for u in _VALUES.values()} == {100}


def test_the_quantile_filter_asks_the_highest() -> None:
    """At the share, and those above the window's quantile: the mean score asked is near the best tenth's."""
    scores = np.random.default_rng(2).beta(1.0, 5.0, 20_000)
    chosen = np.array(asked(Quantile(0.1), scores.tolist()))
    assert chosen.mean() == pytest.approx(0.1, abs=0.003)
    assert scores[chosen].mean() > 0.9 * np.sort(scores)[-2_000:].mean()


# Density.


def test_the_local_density_is_its_definition() -> None:
    """Ienco: how many of the last w events get the new one as their nearest neighbour, measured the slow way."""
    rng, memory, window = np.random.default_rng(3), Neighbours(32), 32
    rows = [{"x": float(x), "y": float(y)} for x, y in rng.normal(size=(200, 2))]
    counted = 0
    for offset, row in enumerate(rows):
        found = memory.local_density(offset, row)
        if offset >= 64:
            begin = offset // window * window
            scale = np.array([list(r.values()) for r in rows[begin - window : begin]])
            first = max(0, offset - window) if offset > begin else begin - window
            points = np.array([list(r.values()) for r in rows[first:offset]])
            points = np.clip((points - scale.mean(0)) / scale.std(0), -10, 10)
            new = np.clip((np.array(list(row.values())) - scale.mean(0)) / scale.std(0), -10, 10)
            apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag([np.inf] * len(points))
            wanted = int(np.sum(np.linalg.norm(points - new, axis=1) <= apart.min(axis=1)))
            counted += 1
            if offset > begin:  # at a block's first event the window is still the last block's
                assert found == wanted, offset
        memory.take(offset, row)
    assert counted > 100


def test_density_asks_inside_a_cloud_and_not_outside() -> None:
    """Equally uncertain: outliers are asked much less often than events in the crowd."""
    strategy = build_strategy(SamplingRules("density", rate=0.2, share=0.2))
    rng, requirements = np.random.default_rng(4), requirements_of(strategy)
    memory = requirements.memory()
    assert requirements.score is not None
    dense: dict[bool, list[bool]] = {True: [], False: []}
    for offset in range(3_000):
        far = offset % 50 == 0
        centre = rng.choice([-1.0, 1.0], 2) * rng.uniform(20.0, 90.0, 2) if far else np.zeros(2)
        features = {"x": float(centre[0] + rng.normal()), "y": float(centre[1] + rng.normal())}
        if offset > 200:
            dense[far].append(requirements.score(EventView(0.4, {}, features, offset, memory=memory)) >= 0.0)
        memory.take(offset, features)
    assert np.mean(dense[False]) > 1.3 * np.mean(dense[True])


# Committee and weights: what a model can.

PIPE = preprocessing.StandardScaler


class Weighed(base.Classifier):
    """Notes the weights that it is given."""

    def __init__(self) -> None:
        self.weights: list[float] = []

    def learn_one(self, x: dict[Any, Any], y: Any, w: float = 1.0) -> None:
        self.weights.append(w)

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        return {}


def train(estimator: object, classes: Sequence[str]) -> Model:
    model = Model(estimator, LabelRules(tuple(classes)))  # type: ignore[arg-type]
    for i in range(60):
        model.learn({"x": float(i % 7)}, classes[i % 7 % len(classes)])
    return model


@pytest.mark.parametrize(
    ("estimator", "classes"),
    [
        (PIPE() | ensemble.BaggingClassifier(linear_model.LogisticRegression(), n_models=5, seed=1), "ab"),
        (forest.ARFClassifier(n_models=5, seed=1), "abc"),
        (ensemble.SRPClassifier(n_models=5, seed=1), "abc"),
        (PIPE() | ensemble.BaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=5, seed=1), "abc"),
    ],
)
def test_the_members_of_an_ensemble_vote(estimator: object, classes: str) -> None:
    """Bagging, forests and patches, binary or not, in a pipeline or not: five members, five votes."""
    model = train(estimator, classes)
    assert model.is_committee
    votes = model.votes({"x": 3.0})
    assert votes is not None
    assert set(votes) == set(classes)
    assert sum(votes.values()) == 5
    assert not train(BAYES(), classes).is_committee
    assert train(BAYES(), classes).votes({"x": 3.0}) is None


@pytest.mark.parametrize(
    ("estimator", "takes"),
    [
        (linear_model.LogisticRegression(), True),
        (PIPE() | linear_model.LogisticRegression(), True),
        (PIPE() | multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), True),
        (tree.HoeffdingTreeClassifier(), True),
        (multiclass.OneVsRestClassifier(BAYES()), False),
        (BAYES(), False),
        (linear_model.SoftmaxRegression(), False),
        (forest.ARFClassifier(n_models=3, seed=1), False),
        (active.EntropySampler(linear_model.LogisticRegression(), seed=1), False),
    ],
)
def test_0_6_weights_reach_only_models_that_heed_them(estimator: object, takes: bool) -> None:
    """0.6: River's own sampler drops ``w`` in silence; whether a model takes it is looked up, and shows in it."""
    model = Model(estimator, LabelRules(("a", "b")))  # type: ignore[arg-type]
    assert model.takes_weight is takes
    if takes:
        heavy = Model(estimator.clone(), LabelRules(("a", "b")))  # type: ignore[attr-defined]
        for i in range(40):
            model.learn({"x": i % 5 - 2.0}, "ab"[i % 5 > 1], 1.0)
            heavy.learn({"x": i % 5 - 2.0}, "ab"[i % 5 > 1], 5.0)
        assert heavy.failures == model.failures == 0
        assert heavy.predict({"x": 1.0}) != model.predict({"x": 1.0})


def test_0_6_the_weight_is_the_budget_over_the_propensity() -> None:
    """A rare request counts for more; natural labels and other strategies' as they come."""
    example = Example("0-1", "a", {"x": 1.0}, "b", 0.05, Lane.STRATEGY, 0.0, 1.0)
    natural = NaturalExample("b", {"x": 2.0}, 1.0)
    for rules, expected in ((LearnedRules(weighted=0.1), [2.0, 1.0]), (LearnedRules(), [1.0, 1.0])):
        estimator = Weighed()
        fold = make_fold(kinds={"x": "number"}, estimator=estimator)
        fold.learned.rules = rules
        for offset, record in enumerate((example, natural)):
            fold.apply_training(offset, encode(record))
        assert estimator.weights == expected
        assert fold.learned.model.failures == 0


# Cold starts and chance.


@pytest.mark.parametrize("estimator", [naive_bayes.GaussianNB, tree.HoeffdingTreeClassifier, dummy.PriorClassifier])
def test_t1_a_strategy_does_not_believe_a_model_of_two_labels(estimator: type) -> None:
    """T1, 0.1: after a label of each class these say 1.0 or close to it; the strategies see 10/(n + 10) of doubt."""
    model = Model(estimator(), LabelRules(("a", "b")))
    model.learn({"x": 1.0}, "a")
    model.learn({"x": 2.0}, "b")
    seen = smooth(model.predict({"x": 1.0}), 2)
    assert sum(seen.values()) == pytest.approx(1.0)
    assert least_confidence(seen) >= 0.5 * 10 / 12
    assert least_confidence(smooth({"a": 1.0, "b": 0.0}, 10_000)) < 0.001


@pytest.mark.parametrize("name", STRATEGIES)
def test_t7_looking_twice_changes_nothing(name: str) -> None:
    """T7, 0.7: a propensity is a function; scikit-activeml's and River's generators move with each look."""
    strategy = build_strategy(SamplingRules(name, rate=0.1))
    state = strategy.initial()
    for i in range(200):
        u = i * 0.37 % 1.0
        looks = {strategy.propensity(u, state) for _ in range(3)}
        assert len(looks) == 1
        assert strategy.update(u, False, state) == strategy.update(u, False, state)
        state = strategy.update(u, looks.pop() > 0.5, state)


def test_the_sketch_counts_the_labels_that_lie_near() -> None:
    """Two clouds of points, labels in one: there nearly all of them are found, in the other hardly any."""
    rng, cuts = np.random.default_rng(8), Hyperplanes([f"x{i}" for i in range(6)])
    counts, labels = EMPTY_COUNTS, 0
    here, there = rng.normal(size=6) * 3.0, rng.normal(size=6) * 3.0
    for _ in range(40):
        counts, labels = add_label(counts, labels, cuts.places(here + 0.1 * rng.normal(size=6)))
    found = [
        np.mean([labels_near(counts, labels, cuts.places(x + 0.1 * rng.normal(size=6))) for _ in range(50)])
        for x in (here, there)
    ]
    assert labels == 40
    assert found[0] > 30.0
    assert found[1] < 8.0


def test_a_full_sketch_forgets_by_halves() -> None:
    """However many labels there are, the counts stay printable characters of one byte in JSON."""
    counts, labels, places = EMPTY_COUNTS, 0, Hyperplanes(["x"]).places(np.ones(1))
    for _ in range(500):
        counts, labels = add_label(counts, labels, places)
    assert len(msgspec.json.encode(counts)) == len(EMPTY_COUNTS) + 2
    assert labels_near(counts, labels, places) == pytest.approx(labels)
    assert 20 <= labels <= 60


def test_damping_reaches_every_arm_of_auto() -> None:
    """Beside open requests that are all alike each arm sees a lower score, whatever its score is made of."""
    auto = build_strategy(SamplingRules("auto", 0.1, share=0.1, parameters={"arms": ["variable", "probabilistic"]}))
    requirements = requirements_of(auto)
    memory = requirements.memory()
    assert requirements.score is not None
    for i in range(40):
        memory.take(i, {"x": float(i % 7)})
    score = requirements.score(EventView(0.4, {"a": 0.6, "b": 0.4}, {"x": 9.0}, 40, 5, None, memory))
    damped: Any = Damper(1.0, [{"x": 9.0}, {"x": 8.0}, {"x": 9.5}]).damp(score, {"x": 9.0})
    assert damped.each[0] < 0.1
    assert damped.each[1].factor < 0.25
    assert 0.0 <= auto.propensity(damped, auto.initial()) <= 1.0


# Auto.


def test_auto_finds_the_arm_whose_requests_correct_the_model() -> None:
    """Errors where the model is unsure: `variable` leads. Then where it is sure: `random` takes over, soon."""
    arms = ("random", "variable")
    auto = build_strategy(SamplingRules("auto", rate=0.1, share=0.1, parameters={"arms": list(arms)}))
    assert isinstance(auto, Auto)
    rng, bandit, state, leads = np.random.default_rng(5), Bandit(), auto.initial(), []
    for i in range(40_000):
        u = float(rng.beta(1.0, 3.0))
        score = auto.score(EventView(u, {}, {}, i, weights=bandit.weights()))
        wrong = bool(rng.random() < (u if i < 20_000 else 0.3 * (1.0 - u) ** 4))
        if i % 30 == 0:  # the audit lane
            bandit.reward(auto.arm_propensities(score, state), wrong)
        state = auto.update(score, False, state)
        leads.append(bandit.weights()[1] if bandit.weights() else 0.5)
    assert np.mean(leads[10_000:20_000]) > 0.9
    assert np.mean(leads[30_000:]) < 0.35


def test_the_bandit_is_even_without_evidence_and_keeps_every_arm() -> None:
    """No reward, equal weights; however bad an arm is, it keeps its part of the floor."""
    auto = build_strategy(SamplingRules("auto", rate=0.1))
    assert isinstance(auto, Auto)
    weights, scores = auto.score(EventView(0.3, {}, {}))
    assert set(weights) == {1.0 / len(scores)}
    bandit = Bandit()
    for i in range(3_000):
        bandit.reward([float(i % 2), float((i + 1) % 2), 0.1], i % 2 == 0)
    assert sum(bandit.weights()) == pytest.approx(1.0)
    assert bandit.weights()[0] == pytest.approx(0.02 / 3, rel=1e-3)
    assert bandit.weights()[1] > 0.9


def test_the_bandit_begins_with_the_leader_and_leaves_it_for_a_better_arm() -> None:
    """With `quantile` among the arms it leads until another one's requests find errors much more often."""
    auto = build_strategy(SamplingRules("auto", rate=0.1))
    assert isinstance(auto, Auto)
    bandit, leader = Bandit(auto.leads), auto.names.index("quantile")
    assert bandit.weights()[leader] > 0.9
    others = [float(i != leader) for i in range(len(auto.names))]
    for i in range(200):
        bandit.reward([1.0 - asked for asked in others], wrong=i % 4 == 0)
        bandit.reward(others, wrong=i % 4 < 2)
    assert bandit.weights()[leader] < 0.05


def test_autos_propensity_is_the_weighted_mean_of_its_arms() -> None:
    """And each arm moves as if it had been alone."""
    auto = build_strategy(SamplingRules("auto", rate=0.1, parameters={"arms": ["random", "variable"]}))
    assert isinstance(auto, Auto)
    score = auto.score(EventView(0.3, {}, {}, weights=(0.25, 0.75)))
    assert auto.propensity(score, (1.0,)) == pytest.approx(0.25 * 0.12 + 0.75)
    variable = build_strategy(SamplingRules("variable", rate=0.1))
    assert auto.update(score, False, (1.0,)) == variable.update(0.3, True, (1.0,))


def test_an_arm_may_have_parameters_of_its_own() -> None:
    """``arm_parameters`` has them by the arm's name; the others keep their defaults."""
    parameters = {"arms": ["split", "variable"], "arm_parameters": {"variable": {"threshold": 0.4}}}
    assert build_strategy(SamplingRules("auto", rate=0.1, parameters=parameters)).initial() == (1.0, 0.4)


# Parameters.

WRONG: Mapping[str, tuple[str, dict[str, object], str]] = {
    "unknown": ("quantile", {"windw": 3}, r"'quantile' has no parameter 'windw', but window, tolerance"),
    "none at all": ("random", {"x": 3}, r"'random' has no parameter 'x', nor any other"),
    "range": ("quantile", {"window": 1}, r"window must be within 2 and 250, not 1"),
    "type": ("quantile", {"window": "long"}, r"parameters.window must be a number, not 'long'"),
    "whole": ("density", {"window": 50.5}, r"parameters.window must be a whole number, not 50.5"),
    "rule": ("cognitive", {"rule": "x"}, r"rule must be one of random, fixed, variable, randomised_variable, not 'x'"),
    "rule's": (
        "cognitive",
        {"rule": "random", "threshold": 1},
        r"'cognitive' has no parameter 'threshold', but rule, horizon, density_threshold",
    ),
    "threshold": ("variable", {"threshold": 0}, r"'variable': threshold must be above 0, not 0"),
    "infinite": ("fixed", {"threshold": math.inf}, r"parameters\.threshold must be a finite number, not inf"),
    "step": ("split", {"threshold_step": 1}, r"threshold_step must be between 0 and 1, not 1"),
    "no step": ("density", {"threshold_step": 0}, r"threshold_step must be between 0 and 1, not 0"),
    "scale": ("selective", {"scale_step": 1}, r"scale_step must be between 0 and 1, not 1"),
    "noise": ("committee", {"threshold_noise": 0}, r"threshold_noise must be above 0, not 0"),
    "random share": ("split", {"random_share": 1.5}, r"random_share must be within 0 and 1, not 1\.5"),
    "exponent": ("entropy", {"exponent": 0}, r"exponent must be above 0, not 0"),
    "truth": ("variable", {"match_share": 1}, r"match_share must be true or false, not 1"),
    "letter": (
        "variable",
        {"theta": 0.9},
        r"'variable' has no parameter 'theta', but threshold, threshold_step, match_share",
    ),
    "strange arm": ("auto", {"arm_parameters": {"split": {}}}, r"arm_parameters: 'split' is not among the arms"),
    "arm's": ("auto", {"arm_parameters": {"quantile": {"step": 1}}}, r"'quantile' has no parameter 'step', but window"),
    "missing": (
        "streamal.core.strategies.unconditional:Entropy",
        {},
        r"Entropy' needs the parameter 'exponent'; it takes exponent",
    ),
    "arms": ("auto", {"arms": ["auto", "random"]}, r"arms must be two strategies or more, none of them auto"),
    "arm": ("auto", {"arms": ["clever", "random"]}, r"the built-in strategies are random, "),
    "module": ("no_such_package:X", {}, r"'no_such_package:X': ModuleNotFoundError"),
    "class": ("tests.making:Nothing", {}, r"AttributeError"),
    "methods": ("collections:Counter", {}, r"is no strategy: it has no method initial nor propensity"),
    "keyword": (
        "tests.test_strategy_checks:Sound",
        {"speed": 1},
        r"has no parameter 'speed', nor any other",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_parameter_is_one_clear_line(name: str) -> None:
    """What is wrong, where, and what would be right."""
    strategy, parameters, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        build_strategy(SamplingRules(strategy, rate=0.1, parameters=parameters))


def test_a_class_of_the_users_gets_what_it_names() -> None:
    """The rate of its lane if its constructor has a ``rate``, and the parameters of the configuration."""
    name = "tests.test_strategy_checks:Sound"
    assert build_strategy(SamplingRules(name, rate=0.07)).propensity(0.5, ()) == 0.07
    assert build_strategy(SamplingRules(name, rate=0.07, parameters={"rate": 0.5})).propensity(0.5, ()) == 0.5


UNSOUND = [
    (["sampling.strategy=fixed", "budget.audit_share=0"], r"'fixed': it is mute: .* no audit lane"),
    (["sampling.strategy=committee"], r"'committee' asks where the members .* is none: end model\.pipeline with"),
    (["sampling.strategy=tests.test_strategy_checks:AboveOne"], r"AboveOne': its propensity .* is no probability"),
    (["sampling.strategy=quantile", "sampling.parameters={tolerance=0}"], "tolerance must be above 0, not 0"),
]


@pytest.mark.parametrize(("overrides", "message"), UNSOUND)
def test_check_refuses_a_strategy_that_breaks_its_contract(overrides: list[str], message: str) -> None:
    """`streamal check` names the strategy, and what to do; a sound one of the user's own passes."""
    with pytest.raises(ConfigError, match=message):
        require_sound_strategy(build(load_config(None, overrides)))
    require_sound_strategy(build(load_config(None, ["sampling.strategy=tests.test_strategy_checks:LooksBack"])))
