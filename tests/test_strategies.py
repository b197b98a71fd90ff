"""Each strategy against its paper's formula; none goes mute, none leaves the range of floats (T1, 0.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.core.coins import HashedUniform
from streamal.core.strategies import STRATEGIES, SamplingRules, State, build_strategy, parameters_of
from streamal.core.strategies.threshold import Fixed, Mover, RandomisedVariable, Split, Variable
from streamal.core.strategies.unconditional import Entropy, Random

uncertainties = st.floats(0.0, 1.0)
thetas = st.floats(1e-9, 1e9)
NEVER_MUTE = ("variable", "randomised_variable", "split")
MOVER = Mover.symmetric(0.01)


def build(name: str, share: float = 0.1, *, matched: bool = True) -> object:
    return build_strategy(SamplingRules(name, rate=share, share=share, parameters={"match_share": matched}))


# The formulas.


@given(uncertainties, thetas, st.floats(0.01, 3.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_each_propensity_is_its_papers_formula(u: float, theta: float, delta: float, v: float, rate: float) -> None:
    """Žliobaitė et al. 2014, Algorithms 1 to 5, and River's entropy rule, recomputed another way."""
    c = 1.0 - u
    assert Random(rate).propensity(u, ()) == rate
    assert Fixed(theta).propensity(u, ()) == (1.0 if c <= theta else 0.0)
    assert Variable(1.0, MOVER).propensity(u, (theta,)) == (1.0 if c < theta else 0.0)
    expected = 1.0 - NormalDist(1.0, delta).cdf(c / theta)
    assert RandomisedVariable(1.0, MOVER, delta).propensity(u, (theta,)) == pytest.approx(expected, abs=1e-12)
    split = Split(1.0, MOVER, v, rate).propensity(u, (theta,))
    assert split == pytest.approx(v * rate + (1.0 - v if c < theta else 0.0))
    assert Entropy(3.0).propensity(u, ()) == pytest.approx(u**3)


@given(st.sampled_from(sorted(STRATEGIES)), uncertainties, thetas, st.floats(0.0, 1.0))
def test_every_propensity_is_a_probability(name: str, u: float, theta: float, share: float) -> None:
    """In [0, 1] whatever the prediction, the threshold and the budget."""
    rules = SamplingRules(name, rate=share, share=share)
    if "threshold" in parameters_of(rules):
        rules = replace(rules, parameters={"threshold": theta})
    strategy = build_strategy(rules)
    assert 0.0 <= strategy.propensity(u, strategy.initial()) <= 1.0


def test_the_randomised_threshold_asks_as_often_as_its_propensity_says() -> None:
    """Monte Carlo of the paper's own rule, c < θ·η with η ~ N(1, δ), against the closed form."""
    draws = np.random.default_rng(1).normal(1.0, 0.3, 200_000)
    strategy = RandomisedVariable(1.0, MOVER, 0.3)
    for c, theta in ((0.5, 1.0), (0.9, 1.0), (1.0, 0.8), (0.7, 0.7), (0.3, 0.2)):
        assert float(np.mean(c < theta * draws)) == pytest.approx(strategy.propensity(1.0 - c, (theta,)), abs=0.005)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_coin_asks_as_often_as_the_propensity_says(name: str) -> None:
    """Over a stream with a moving threshold, the sum of the propensities is the number asked (within 4 σ)."""
    strategy, coin = build_strategy(SamplingRules(name, rate=0.1, share=0.1)), HashedUniform(3, "strategy")
    state, asked, expected, variance = strategy.initial(), 0, 0.0, 0.0
    for i, u in enumerate(np.random.default_rng(2).beta(1.0, 3.0, 20_000)):
        p = strategy.propensity(float(u), state)
        chosen = coin.uniform(f"0-{i}") < p
        asked, expected, variance = asked + chosen, expected + p, variance + p * (1.0 - p)
        state = strategy.update(float(u), chosen, state)
    assert abs(asked - expected) <= 4.0 * math.sqrt(variance) + 1e-9


# The threshold.


def test_the_symmetric_mover_is_the_papers() -> None:
    """θ(1 - s) after asking, θ(1 + s) after not asking; at a share of a half and above both rules are one."""
    assert Mover.symmetric(0.01) == Mover(0.01, 0.01) == Mover.matched(0.01, 0.5) == Mover.matched(0.01, 0.9)
    assert MOVER.move(0.8, asked=True) == pytest.approx(0.8 * 0.99)
    assert MOVER.move(0.8, asked=False) == pytest.approx(0.8 * 1.01)
    assert Mover.matched(0.01, 0.2).up == pytest.approx(0.01 * 0.2 / 0.8)
    assert Mover.matched(0.01, 0.2).down == 0.01
    assert build("variable", matched=False) == Variable(1.0, MOVER)
    assert build("variable") == Variable(1.0, Mover.matched(0.01, 0.1))


def test_rules_choose_the_parameters() -> None:
    """The paper's defaults where nothing is set: θ0 = 1, and 1/C + B(1 - 1/C) for the fixed threshold."""
    assert build_strategy(SamplingRules("fixed", 0.1, floor=0.5)) == Fixed(0.5 + 0.1 * 0.5)
    assert build_strategy(SamplingRules("fixed", 0.1, parameters={"threshold": 0.7})) == Fixed(0.7)
    assert build_strategy(SamplingRules("variable", 0.1, parameters={"threshold": 0.7})).initial() == (0.7,)
    split = build_strategy(SamplingRules("split", 0.07, share=0.1, parameters={"random_share": 0.3}))
    assert split == Split(1.0, Mover.matched(0.01, 0.1), 0.3, 0.07)
    randomised = build_strategy(SamplingRules("randomised_variable", 0.07, parameters={"threshold_noise": 0.6}))
    assert randomised == RandomisedVariable(1.0, Mover.matched(0.01, 0.1), 0.6)


@pytest.mark.parametrize("name", NEVER_MUTE)
@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_a_matched_threshold_rests_where_its_share_is_asked(name: str, share: float) -> None:
    """Left alone by the budget, it comes to ask about the share it was told, whatever the stream's confidence."""
    strategy, coin = build_strategy(SamplingRules(name, rate=share, share=share)), HashedUniform(3, "strategy")
    state, asked = strategy.initial(), 0
    us = np.random.default_rng(4).beta(2.0, 5.0, 30_000)
    for i, u in enumerate(us):
        chosen = coin.uniform(f"0-{i}") < strategy.propensity(float(u), state)
        asked += chosen and i >= 10_000
        state = strategy.update(float(u), chosen, state)
    # split: of its variable half; the random one asks v·B on top of (1 - v) of that
    assert asked / 20_000 == pytest.approx(share, rel=0.12)


@pytest.mark.parametrize("name", NEVER_MUTE)
@pytest.mark.parametrize("u", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("answer", [lambda p: p > 0.5, lambda p: True, lambda p: False], ids=["fair", "all", "none"])
@pytest.mark.parametrize("step", [0.01, 0.999])
def test_a_threshold_never_leaves_the_range_of_floats(
    name: str, u: float, answer: Callable[[float], bool], step: float
) -> None:
    """After 100,000 decisions one way it is still a number, and a propensity comes out of it."""
    strategy = build_strategy(SamplingRules(name, rate=0.1, parameters={"threshold_step": step, "match_share": False}))
    state = strategy.initial()
    for _ in range(100_000):
        state = strategy.update(u, answer(strategy.propensity(u, state)), state)
    assert 1e-9 <= state[0] <= 1e9
    assert 0.0 <= strategy.propensity(u, state) <= 1.0


@pytest.mark.parametrize("asked", [True, False])
def test_the_random_half_of_split_does_not_move_the_threshold(asked: bool) -> None:
    """θ follows what the variable half would have done, whether or not the event was asked in the end."""
    split = Split(1.0, MOVER, 0.5, 0.1)
    assert split.update(0.5, asked, (0.8,)) == (0.8 * 0.99,)
    assert split.update(0.1, asked, (0.8,)) == (0.8 * 1.01,)


# Never mute.


def longest_silence(name: str, share: float, confident: bool, events: int) -> int:
    """Return the longest run of open events that are not asked, for a model that always says the same."""
    strategy, coin = build_strategy(SamplingRules(name, rate=share, share=share)), HashedUniform(3, "strategy")
    u = 0.0 if confident else 0.5
    state, silence, longest = strategy.initial(), 0, 0
    for i in range(events):
        chosen = coin.uniform(f"0-{i}") < strategy.propensity(u, state)
        state = strategy.update(u, chosen, state)
        silence = 0 if chosen else silence + 1
        longest = max(longest, silence)
    return longest


@pytest.mark.parametrize("name", NEVER_MUTE)
@pytest.mark.parametrize("share", [0.1, 0.01])
@pytest.mark.parametrize("confident", [True, False])
def test_a_model_that_always_says_the_same_is_still_asked(name: str, share: float, confident: bool) -> None:
    """T1: p = 1.0 for ever, or uniform for ever; River's sampler and the fixed threshold ask 0 of 1,000 there."""
    assert longest_silence(name, share, confident, 20_000) <= 20 / share


def test_the_fixed_threshold_is_as_mute_as_its_paper_says() -> None:
    """T1 itself, so that the test above can fail: it never asks a model that is always certain."""
    assert longest_silence("fixed", 0.1, confident=True, events=2_000) == 2_000
    assert longest_silence("entropy", 0.1, confident=True, events=2_000) == 2_000


@pytest.mark.parametrize("name", ["variable", "randomised_variable", "split"])
def test_a_threshold_comes_back_from_the_very_bottom(name: str) -> None:
    """However long every event was asked, a confident stream is asked again within a bounded number of events."""
    strategy = build_strategy(SamplingRules(name, rate=0.1, share=0.1))
    state: State = strategy.initial()
    for _ in range(10_000):
        state = strategy.update(1.0, True, state)
    bound = math.ceil(math.log(1e9 * 3) / math.log1p(0.01 / 9)) + 1
    for _ in range(bound):
        if strategy.propensity(0.0, state) > 0.01 + 0.1 * 0.1:
            break
        state = strategy.update(0.0, False, state)
    assert strategy.propensity(0.0, state) > 0.01 + 0.1 * 0.1


# The state.


@given(st.sampled_from(sorted(STRATEGIES)), st.lists(st.tuples(uncertainties, st.booleans()), max_size=50))
def test_the_state_is_small_and_survives_json(name: str, decisions: list[tuple[float, bool]]) -> None:
    """A few numbers, well under 600 bytes, exactly what they were after the commit metadata (F16)."""
    strategy = build_strategy(SamplingRules(name, rate=0.1))
    state = strategy.initial()
    for u, asked in decisions:
        state = strategy.update(u, asked, state)
    text = msgspec.json.encode(state)
    assert len(text) < 600
    assert msgspec.json.decode(text, type=State) == state


def test_coins_are_uniform_and_independent() -> None:
    """Of (seed, lane, key) alone; other lanes and seeds have other coins (0.7)."""
    coin = [HashedUniform(7, "audit").uniform(f"0-{i}") for i in range(20_000)]
    assert coin == [HashedUniform(7, "audit").uniform(f"0-{i}") for i in range(20_000)]
    assert all(0.0 <= u < 1.0 for u in coin)
    counts, _ = np.histogram(coin, bins=20, range=(0.0, 1.0))
    assert float(np.sum((counts - 1_000) ** 2 / 1_000)) < 43.8  # χ²(19) at 0.1 %
    for other in (HashedUniform(7, "strategy"), HashedUniform(8, "audit")):
        others = [other.uniform(f"0-{i}") for i in range(20_000)]
        assert abs(float(np.corrcoef(coin, others)[0, 1])) < 0.03
