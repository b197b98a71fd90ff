"""The traps of other implementations that had no test of their own; each is listed in docs/strategies.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from river import active, forest, linear_model, naive_bayes, tree

from streamal.bootstrap import build
from streamal.config import load_config
from streamal.core.budget.counters import BudgetCounters
from streamal.core.budget.sampler import Budget, Sampler
from streamal.core.codec.events import decode_request
from streamal.core.coins import EventCoins
from streamal.core.fold import Fold
from streamal.core.gauges.declaration import Value, Worker
from streamal.core.gauges.gauges import gauges
from streamal.core.gauges.model import ARM_WEIGHTS
from streamal.core.model.model import LabelRules, Model
from streamal.core.records import Lane, Request
from streamal.core.strategies import STRATEGIES, SamplingRules, Strategy, build_strategy
from streamal.core.strategies.uncertainty import least_confidence, smooth
from tests.making import World, event_record, make_fold, make_rules, reply_record

ONE_PERCENT = Budget(Fraction("0.01"), Fraction("0.3"), burst=5)


def sampler(name: str, budget: Budget) -> Sampler:
    strategy = build_strategy(SamplingRules(name, rate=float(budget.rate), share=float(budget.share)))
    return Sampler(budget.partition_budget(0, 1), strategy, EventCoins(7), None, None, 0.0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_t4_no_strategy_has_a_head_start(name: str) -> None:
    """T4: part of a lead at 1 % is a gate that lets a window's worth through at once; here all begin with the burst."""
    lanes = sampler(name, ONE_PERCENT)
    requests = [lanes.decide(i, 0.5).lane is not None for i in range(100)]
    assert sum(requests) <= 5 + 1
    assert sampler(name, ONE_PERCENT).counters.tokens == sampler("random", ONE_PERCENT).counters.tokens


COLD: list[Any] = [
    naive_bayes.GaussianNB,
    tree.HoeffdingTreeClassifier,
    lambda: forest.ARFClassifier(n_models=3, seed=1),
    linear_model.SoftmaxRegression,
]


@pytest.mark.parametrize("estimator", COLD)
@pytest.mark.parametrize("name", ["entropy", "randomised_variable"])
def test_0_1_a_model_that_starts_empty_is_asked(estimator: Any, name: str) -> None:
    """0.1: of 400 events River's sampler asks none, for an empty prediction counts as certain; ours asks at once."""
    theirs: Any = active.EntropySampler(estimator(), seed=1)
    assert not any(theirs.predict_proba_one({"x": float(i % 9)})[1] for i in range(400))
    model, lanes = Model(estimator(), LabelRules(("a", "b"))), sampler(name, ONE_PERCENT)
    asked = []
    for i in range(400):
        features = {"x": float(i % 9)}
        uncertainty = least_confidence(smooth(model.predict(features), i))
        if lanes.decide(i, uncertainty).lane is not None:
            asked.append(i)
            model.learn(features, "a")  # one class only, for as long as it lasts
    assert asked[0] < 10
    assert len(asked) >= 3
    assert asked[-1] > 50


def test_0_7_deciding_again_is_deciding_the_same() -> None:
    """0.7: a second look at every event, or a restart between any two, changes nobody's turn; River's generator is."""
    events = [{"x": float(i % 9)} for i in range(300)]
    theirs = []
    for looks in (1, 2):
        model: Any = active.EntropySampler(COLD[0](), discount_factor=1, seed=1)
        for i, label in enumerate("abab"):
            model.learn_one({"x": float(i)}, label)
        theirs.append([[model.predict_proba_one(x)[1] for _ in range(looks)][-1] for x in events])
    assert theirs[0] != theirs[1]
    once = sampler("randomised_variable", ONE_PERCENT)
    expected = [once.decide(i, i * 0.37 % 0.5).lane for i in range(300)]
    assert Lane.AUDIT in expected or Lane.STRATEGY in expected
    state: tuple[BudgetCounters | None, Any] = (None, None)
    for i, lane in enumerate(expected):
        for _ in range(2):
            strategy = build_strategy(SamplingRules("randomised_variable", float(ONE_PERCENT.rate), share=0.01))
            again = Sampler(ONE_PERCENT.partition_budget(0, 1), strategy, EventCoins(7), *state, 0.0)
            assert again.decide(i, i * 0.37 % 0.5).lane == lane
        state = again.counters, again.state


def test_without_an_audit_lane_nothing_keeps_the_strategy_lane_from_its_tokens() -> None:
    """It closes by degrees only to keep the weights of audited events small; with no audit every token can be spent."""
    budget = Budget(Fraction("0.1"), Fraction(0), burst=20)
    lanes = sampler("fixed", budget)
    asked = sum(lanes.decide(i, 1.0).lane is not None for i in range(1_000))
    assert asked == 20 + 100 - 1  # what the first event earns does not fit into the full bucket


def arm_weights(strategy: Strategy, fold: Fold) -> Mapping[str, Value]:
    return gauges(Worker(replace(make_rules(), strategy=strategy), fold, {}, 0.0), ARM_WEIGHTS)


def test_the_weights_of_auto_are_shown_by_name() -> None:
    """Even at first, what the bandit says afterwards; no other strategy has any, and the set of names is closed."""
    config = load_config(None, ["sampling.strategy=auto", "sampling.parameters={arms=['random', 'fixed']}"])
    auto, fold = build(config).strategy, make_fold()
    shown = {name: weight for name, weight in arm_weights(auto, fold).items() if weight is not None}
    assert shown == {"auto_weight_random": 0.5, "auto_weight_fixed": 0.5}
    for _ in range(100):
        fold.learned.bandit.reward([0.1, 1.0], wrong=True)
        fold.learned.bandit.reward([0.1, 0.0], wrong=False)
    weights = arm_weights(auto, fold)
    assert weights["auto_weight_fixed"] == pytest.approx(fold.learned.bandit.weights()[1])
    assert weights["auto_weight_fixed"] > 0.7  # type: ignore[operator]
    assert set(arm_weights(build_strategy(SamplingRules("random", 0.1)), fold).values()) == {None}
    assert build(config).budget.audit_every > 0


def test_an_audit_label_rewards_the_arms_of_auto() -> None:
    """An audit request carries every arm's own propensity, no other one does; its label moves the weights."""
    world = World(make_rules(share="1", audit_share="0.5", strategy="auto"), make_fold(kinds={"x": "number"}))
    world.run([event_record(number) for number in range(40)], 0.0)
    requests = [decode_request(output.value or b"") for output in world.written["requests"]]
    arms = {request.request: request.arms for request in requests if isinstance(request, Request)}
    lanes = {request.request: request.lane for request in requests if isinstance(request, Request)}
    assert {name for name, lane in lanes.items() if lane is Lane.AUDIT} == {name for name, each in arms.items() if each}
    assert {len(each) for each in arms.values()} == {0, 5}
    audited = next(name for name, each in arms.items() if each)
    assert world.fold.learned.bandit.weights() == ()
    world.run([reply_record(0, audited, "b")], 1.0)
    assert len(world.fold.learned.bandit.weights()) == 5
