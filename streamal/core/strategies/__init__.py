"""The strategies: each maps a score of an event (its uncertainty, or its own) and a small state to a propensity.

A strategy is pure: its state comes in and goes out, it draws no random numbers (the coin is tossed by
`streamal.core.budget.sampler`) and knows no budget (which may close the lane: then it is not consulted). Confidence is
``c = 1 - uncertainty``. A class of the user's own is named ``"package.module:Class"``; `streamal check` puts any
strategy through `streamal.core.strategies.checks`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamal.core.strategies.auto import Auto
from streamal.core.strategies.base import EventView, Requirements, State, Strategy, requirements_of
from streamal.core.strategies.committee import Committee
from streamal.core.strategies.density import Cognitive, Density, Probabilistic
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
    "requirements_of",
]

_ARMS = ("random", "variable", "randomised_variable", "quantile", "selective")
_EAGER = 1.2
"""How much more often than its share `random` asks: the budget takes back what is too much.

At the share itself 4 to 6 % of the budget would be left over, more than any strategy that moves a threshold leaves, and
the control that all others are held against would be a weaker one (noaa_weather at 10 %: 0.739, so 0.749).
"""
_VARIANTS = {"ran": "random", "fixun": "fixed", "varun": "variable", "ranvarun": "randomised_variable"}


@dataclass(frozen=True, slots=True)
class SamplingRules:
    """The parameters of all strategies; each uses its own.

    Attributes:
        strategy: a key of `STRATEGIES`, or "package.module:Class".
        rate: share of the events left by the audit lane that the strategy lane may ask for, (B - ε)/(1 - ε).
        floor: the least confidence possible: 1/C under least confidence, else 0.
        theta: fixed threshold, or the variable one at the start; None takes the paper's.
        step: s, by which a variable threshold (or scale) moves.
        matched: move it so that it rests where *share* of the events are asked; see `Mover`.
        share: B, the whole budget.
        delta: standard deviation of the randomised threshold's factor.
        v: share of the random lane in `split`.
        discount: exponent of River's entropy rule.
        parameters: the strategy's other ones, by the names of its class (``sampling.parameters``).
    """

    strategy: str
    rate: float
    floor: float = 0.0
    theta: float | None = None
    step: float = 0.01
    matched: bool = True
    share: float = 0.1
    delta: float = 0.3
    v: float = 0.1
    discount: float = 3.0
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _theta(rules: SamplingRules) -> float:
    return 1.0 if rules.theta is None else rules.theta


def _mover(rules: SamplingRules) -> Mover:
    return Mover.matched(rules.step, rules.share) if rules.matched else Mover.symmetric(rules.step)


def _scaler(rules: SamplingRules) -> Mover | None:
    """Return what moves a scale by the expected decision, which may rest exactly at the rate; None: the paper's."""
    return Mover.matched(rules.step, rules.rate) if rules.matched else None


def _randomised(rules: SamplingRules) -> RandomisedVariable:
    return RandomisedVariable(_theta(rules), _mover(rules), rules.delta)


def _or_default(rules: SamplingRules, name: str, value: object) -> SamplingRules:
    return dataclasses.replace(rules, parameters={name: value, **rules.parameters})


def _cognitive(rules: SamplingRules) -> Strategy:
    """Return the variant of ``parameters.variant`` (by default "ranvarun")."""
    parameters = dict(rules.parameters)
    variant = parameters.pop("variant", "ranvarun")
    if variant not in _VARIANTS:
        raise ConfigError(f"sampling.parameters.variant must be one of {', '.join(_VARIANTS)}, not {variant!r}")
    rule = STRATEGIES[_VARIANTS[variant]](dataclasses.replace(rules, parameters={}))
    return _made(dataclasses.replace(rules, parameters=parameters), Cognitive, rule=rule)


def _auto(rules: SamplingRules) -> Strategy:
    """Return the bandit over ``parameters.arms``, each with the parameters of the configuration's own keys."""
    parameters = dict(rules.parameters)
    arms = parameters.pop("arms", _ARMS)
    if not isinstance(arms, list | tuple) or len(arms) < 2 or len({*map(str, arms)}) != len(arms) or "auto" in arms:
        raise ConfigError(f"sampling.parameters.arms must be two strategies or more, none of them auto; not {arms!r}")
    built = [build_strategy(dataclasses.replace(rules, strategy=str(arm), parameters={})) for arm in arms]
    return _made(
        dataclasses.replace(rules, parameters=parameters), Auto, strategies=tuple(built), names=tuple(map(str, arms))
    )


def _made(rules: SamplingRules, cls: Callable[..., Strategy], **given: Any) -> Strategy:
    """Return ``cls(**given, **parameters)``."""
    fields = inspect.signature(cls).parameters
    free = [name for name in fields if name not in given]
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in fields.values()):
        free += list(rules.parameters)
    for name, value in rules.parameters.items():
        if name not in free:
            known = f"but {', '.join(free)}" if free else "nor any other"
            raise ConfigError(f"sampling.parameters: strategy {rules.strategy!r} has no parameter {name!r}, {known}")
        default = fields[name].default if name in fields else None
        if type(default) in {int, float} and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"sampling.parameters.{name} must be a number, not {value!r}")
        if type(default) is int and not isinstance(value, int):
            raise ConfigError(f"sampling.parameters.{name} must be a whole number, not {value!r}")
    try:
        return cls(**given, **rules.parameters)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"sampling.parameters: strategy {rules.strategy!r}: {error}") from error


def _own(rules: SamplingRules) -> Strategy:
    """Return an instance of the user's class; of *rate*, *share* and *floor* it gets what its constructor names."""
    where = f"sampling.strategy {rules.strategy!r}"
    module_name, _, class_name = rules.strategy.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:
        known = f"; the built-in strategies are {', '.join(STRATEGIES)}" if not class_name else ""
        raise ConfigError(f"{where}: {type(error).__name__}: {error}{known}") from error
    missing = [name for name in ("initial", "propensity", "update") if not callable(getattr(cls, name, None))]
    if missing:
        raise ConfigError(f"{where} is no strategy: it has no method {' nor '.join(missing)}")
    names = inspect.signature(cls).parameters
    offered = {"rate": rules.rate, "share": rules.share, "floor": rules.floor}
    given = {name: value for name, value in offered.items() if name in names and name not in rules.parameters}
    return _made(rules, cls, **given)


STRATEGIES: Mapping[str, Callable[[SamplingRules], Strategy]] = {
    "random": lambda r: _made(r, Random, rate=min(1.0, _EAGER * r.rate)),
    "periodic": lambda r: _made(r, Periodic, rate=r.rate),
    "fixed": lambda r: _made(r, Fixed, theta=r.floor + r.rate * (1.0 - r.floor) if r.theta is None else r.theta),
    "variable": lambda r: _made(r, Variable, theta=_theta(r), mover=_mover(r)),
    "randomised_variable": lambda r: _made(r, RandomisedVariable, theta=_theta(r), mover=_mover(r), delta=r.delta),
    "split": lambda r: _made(r, Split, theta=_theta(r), mover=_mover(r), v=r.v, rate=r.rate),
    "selective": lambda r: _made(r, Selective, b=r.share, floor=r.floor, mover=_scaler(r)),
    "entropy": lambda r: _made(r, Entropy, discount=r.discount),
    "quantile": lambda r: _made(r, Quantile, rate=r.rate),
    "density": lambda r: _made(r, Density, rule=_randomised(r)),
    "cognitive": _cognitive,
    "probabilistic": lambda r: _made(r, Probabilistic, rule=Quantile(r.rate)),
    "importance": lambda r: _made(_or_default(r, "mellowness", 0.1), Importance, mover=_scaler(r)),
    "committee": lambda r: _made(r, Committee, rule=_randomised(r)),
    "auto": _auto,
}


def build_strategy(rules: SamplingRules) -> Strategy:
    """Return the strategy that *rules* name.

    Raises:
        ConfigError: there is no such strategy, its parameters are wrong, or a class of the user's is no strategy.

    >>> build_strategy(SamplingRules("variable", rate=0.07)).initial()
    (1.0,)
    """
    if rules.strategy in STRATEGIES:
        return STRATEGIES[rules.strategy](rules)
    return _own(rules)
