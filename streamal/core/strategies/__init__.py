"""The strategies: each maps a score of an event (its uncertainty, or its own) and a small state to a propensity.

A strategy is pure: its state comes in and goes out, it draws no random numbers (the coin is tossed by
`streamal.core.budget.sampler`) and knows no budget (which may close the lane: then it is not consulted). Confidence is
``c = 1 - uncertainty``. A class of the user's own is named ``"package.module:Class"``; `streamal check` puts any
strategy through `streamal.core.strategies.checks`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from streamal.core.model.own_code import describe_error, load_own
from streamal.core.strategies.auto import Auto
from streamal.core.strategies.base import EventView, Requirements, State, Strategy, requirements_of
from streamal.core.strategies.committee import Committee
from streamal.core.strategies.density import Cognitive, Density, Probabilistic
from streamal.core.strategies.parameters import Recipe, require_above, require_within
from streamal.core.strategies.quantile import Quantile
from streamal.core.strategies.selective import Importance, Selective
from streamal.core.strategies.threshold import Fixed, Mover, RandomisedVariable, Split, Variable
from streamal.core.strategies.unconditional import Entropy, Periodic, Random
from streamal.errors import ConfigError

__all__ = [
    "STRATEGIES",
    "EventView",
    "Requirements",
    "SamplingRules",
    "State",
    "Strategy",
    "build_strategy",
    "parameters_of",
    "requirements_of",
]

_ARMS = ("random", "variable", "randomised_variable", "quantile", "selective")
_EAGER = 1.2
"""How much more often than its share `random` asks: the budget takes back what is too much.

At the share itself 4 to 6 % of the budget would be left over, more than any strategy that moves a threshold leaves, and
the control that all others are held against would be a weaker one (noaa_weather at 10 %: 0.739, so 0.749).
"""
_COGNITIVE_RULES = ("random", "fixed", "variable", "randomised_variable")
"""What the paper calls ran, fixun, varun and ranvarun."""
_NO_PARAMETERS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SamplingRules:
    """Which strategy, with what.

    Attributes:
        strategy: a key of `STRATEGIES`, or "package.module:Class".
        rate: share of the events left by the audit lane that the strategy lane may ask for, (B - ε)/(1 - ε).
        floor: the least confidence possible: 1/C under least confidence, else 0.
        share: B, the whole budget.
        parameters: the strategy's own, see `parameters_of`.
    """

    strategy: str
    rate: float
    floor: float = 0.0
    share: float = 0.1
    parameters: Mapping[str, Any] = field(default_factory=dict)


def build_strategy(rules: SamplingRules) -> Strategy:
    """Return the strategy that *rules* name.

    Raises:
        ConfigError: there is no such strategy, its parameters are wrong, or a class of the user's is no strategy.

    >>> build_strategy(SamplingRules("variable", rate=0.07, parameters={"threshold": 0.9})).initial()
    (0.9,)
    """
    strategy: Strategy = _recipe(rules).build(rules.strategy, rules.parameters)
    return strategy


def parameters_of(rules: SamplingRules) -> Mapping[str, Any]:
    """Return the parameters that the strategy of *rules* takes, with their defaults.

    >>> parameters_of(SamplingRules("entropy", rate=0.1))
    {'exponent': 3.0}
    """
    return _recipe(rules).parameters()


def _recipe(rules: SamplingRules) -> Recipe:
    return STRATEGIES[rules.strategy](rules) if rules.strategy in STRATEGIES else _own(rules)


# Each function below makes one strategy: its arguments with a default are the strategy's parameters.


def _fixed(floor: float, rate: float, threshold: float | None = None) -> Fixed:
    if threshold is None:
        return Fixed(floor + rate * (1.0 - floor))
    require_above("threshold", threshold, 0.0)
    return Fixed(threshold)


def _variable(share: float, threshold: float = 1.0, threshold_step: float = 0.01, match_share: bool = True) -> Variable:
    return Variable(*_moved(share, threshold, threshold_step, match_share))


def _randomised_variable(
    share: float,
    threshold: float = 1.0,
    threshold_step: float = 0.01,
    threshold_noise: float = 0.3,
    match_share: bool = True,
) -> RandomisedVariable:
    require_above("threshold_noise", threshold_noise, 0.0)
    return RandomisedVariable(*_moved(share, threshold, threshold_step, match_share), threshold_noise)


def _split(
    share: float,
    rate: float,
    threshold: float = 1.0,
    threshold_step: float = 0.01,
    random_share: float = 0.1,
    match_share: bool = True,
) -> Split:
    require_within("random_share", random_share, 0.0, 1.0)
    return Split(*_moved(share, threshold, threshold_step, match_share), random_share, rate)


def _moved(share: float, threshold: float, step: float, match_share: bool) -> tuple[float, Mover]:
    """Return where a variable threshold begins, and its mover: to where *share* is asked, or by the paper's rule."""
    require_above("threshold", threshold, 0.0)
    require_within("threshold_step", step, 0.0, 1.0, open_=True)
    return threshold, Mover.matched(step, share) if match_share else Mover.symmetric(step)


def _selective(
    share: float, rate: float, floor: float, scale_step: float = 0.01, match_share: bool = True
) -> Selective:
    return Selective(share, floor, _scale_mover(rate, scale_step, match_share))


def _importance(
    rate: float,
    mellowness: float = 0.1,
    scale_step: float = 0.01,
    weighted: bool = True,
    match_share: bool = True,
) -> Importance:
    return Importance(mellowness, _scale_mover(rate, scale_step, match_share), weighted)


def _scale_mover(rate: float, step: float, match_share: bool) -> Mover | None:
    """Return what moves a scale by the expected decision, which may rest exactly at *rate*; None: the paper's rule."""
    require_within("scale_step", step, 0.0, 1.0, open_=True)
    return Mover.matched(step, rate) if match_share else None


def _entropy(exponent: float = 3.0) -> Entropy:
    require_above("exponent", exponent, 0.0)
    return Entropy(exponent)


def _cognitive(rules: SamplingRules) -> Recipe:
    """Return the recipe with the rule that the parameter ``rule`` names."""
    name = rules.parameters.get("rule", "randomised_variable")
    if name not in _COGNITIVE_RULES:
        raise ConfigError(f"sampling.parameters.rule must be one of {', '.join(_COGNITIVE_RULES)}, not {name!r}")

    def make(asking: Strategy, rule: str = name, horizon: int = 100, density_threshold: int = 1) -> Cognitive:  # noqa: ARG001
        return Cognitive(asking, horizon, density_threshold)

    return Recipe(make, {"asking": STRATEGIES[name](rules)})


def _auto(
    rules: SamplingRules,
    arms: Sequence[str] = _ARMS,
    arm_parameters: Mapping[str, Mapping[str, Any]] = _NO_PARAMETERS,
) -> Auto:
    """Return the bandit over *arms*; *arm_parameters* has the parameters of those that are to have others."""
    if not isinstance(arms, list | tuple) or len(arms) < 2 or len({*map(str, arms)}) != len(arms) or "auto" in arms:
        raise ConfigError(f"sampling.parameters.arms must be two strategies or more, none of them auto; not {arms!r}")
    names = [str(arm) for arm in arms]
    if strange := arm_parameters.keys() - set(names):
        raise ConfigError(f"sampling.parameters.arm_parameters: {min(strange)!r} is not among the arms")
    built = [build_strategy(replace(rules, strategy=name, parameters=arm_parameters.get(name, {}))) for name in names]
    return Auto(strategies=tuple(built), names=tuple(names))


def _own(rules: SamplingRules) -> Recipe:
    """Return the recipe of the user's class; of *rate*, *share* and *floor* it gets what its constructor names."""
    where = f"sampling.strategy {rules.strategy!r}"
    try:
        cls = load_own(rules.strategy)
    except (Exception, SystemExit) as error:
        known = f"; the built-in strategies are {', '.join(STRATEGIES)}" if ":" not in rules.strategy else ""
        raise ConfigError(f"{where}: {describe_error(error, rules.strategy)}{known}") from error
    missing = [name for name in ("initial", "propensity", "update") if not callable(getattr(cls, name, None))]
    if missing:
        raise ConfigError(f"{where} is no strategy: it has no method {' nor '.join(missing)}")
    names = inspect.signature(cls).parameters
    offered = {"rate": rules.rate, "share": rules.share, "floor": rules.floor}
    return Recipe(
        cls, {name: value for name, value in offered.items() if name in names and name not in rules.parameters}
    )


def _threshold_rule(rules: SamplingRules) -> Recipe:
    return Recipe(_randomised_variable, {"share": rules.share})


STRATEGIES: Mapping[str, Callable[[SamplingRules], Recipe]] = {
    "random": lambda r: Recipe(Random, {"rate": min(1.0, _EAGER * r.rate)}),
    "periodic": lambda r: Recipe(Periodic, {"rate": r.rate}),
    "fixed": lambda r: Recipe(_fixed, {"floor": r.floor, "rate": r.rate}),
    "variable": lambda r: Recipe(_variable, {"share": r.share}),
    "randomised_variable": _threshold_rule,
    "split": lambda r: Recipe(_split, {"share": r.share, "rate": r.rate}),
    "selective": lambda r: Recipe(_selective, {"share": r.share, "rate": r.rate, "floor": r.floor}),
    "entropy": lambda _: Recipe(_entropy),
    "quantile": lambda r: Recipe(Quantile, {"rate": r.rate}),
    "density": lambda r: Recipe(Density, {"rule": _threshold_rule(r)}),
    "cognitive": _cognitive,
    "probabilistic": lambda r: Recipe(Probabilistic, {"rule": Quantile(r.rate)}),
    "importance": lambda r: Recipe(_importance, {"rate": r.rate}),
    "committee": lambda r: Recipe(Committee, {"rule": _threshold_rule(r)}),
    "auto": lambda r: Recipe(_auto, {"rules": r}),
}
"""The built-in strategies, by ``sampling.strategy``."""
