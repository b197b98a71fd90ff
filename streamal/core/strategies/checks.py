"""Checks of a strategy, run on the strategy itself before it may spend a budget.

* **A probability**: every propensity is a number in [0, 1], whatever the event looks like.
* **Pure**: the same score and state give the same answer; nothing is remembered outside of the state.
* **The state travels**: numbers and texts that are the same after JSON, never more than 600 bytes.
* **The past can be read back**: a memory made of the last ``lookback`` offsets decides as the original, and its copy
  can be changed without changing it.
* **Never mute**: on a stream that never changes (an uncertainty of 0, ½ or 1 for ever, each event a copy of the first)
  and with the lane always open, it goes on asking. Strategies like `fixed`, which are mute there by their papers, pass
  only beside an audit lane: its propensity is positive whatever the strategy says.
* **Cheap**: a decision costs at most `DECISION_US_MAX`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from streamal.core.coins import HashedUniform
from streamal.core.strategies.base import STRATEGY_STATE_BYTES_MAX, EventView, State, Strategy, requirements_of

__all__ = ["DECISION_US_MAX", "check_strategy", "trial_views"]

DECISION_US_MAX = 500.0
"""Generous, as machines differ: some hundred times what a strategy costs that does not look back."""

_EVENTS = 600


class _Trial(NamedTuple):
    """What a strategy did on a stream."""

    propensities: list[float]
    state: State
    memory: Any
    state_bytes: int


def check_strategy(
    new_strategy: Callable[[], Strategy], share: float, audited: bool, seconds: Callable[[], float]
) -> list[str]:
    """Check a strategy; return what it breaks, as sentences ([]: nothing). Takes some ten thousand decisions.

    Args:
        new_strategy: makes the strategy, always the same.
        share: of the events that may be asked: how long a silence is none.
        audited: whether there is an audit lane besides.
        seconds: a clock, of the processor rather than the wall, to see what a decision costs.
    """
    views = list(trial_views(_EVENTS))
    try:
        trial = _try(new_strategy(), views)
        return [
            *_propensity_problems(trial),
            *_purity_problems(new_strategy, views, trial),
            *_state_problems(new_strategy(), views, trial),
            *_memory_problems(new_strategy(), views),
            *(() if audited else _silence_problems(new_strategy, share)),
            *_cost_problems(new_strategy(), views, seconds),
        ]
    except Exception as error:
        return [f"it raised {type(error).__name__}: {error}"]


def trial_views(count: int, seed: int = 0) -> Iterator[EventView]:
    """Yield events of every kind: sure and unsure, of no class to many, with few features, none or extreme ones."""
    coin = HashedUniform(seed, "views")
    for i in range(count):
        u = coin.uniform(f"{i}.u")
        confidence = (1.0, 0.5, u, 1.0 - u**4)[i % 4]
        classes = (2, 2, 3, 50)[i // 4 % 4]
        rest = (1.0 - confidence) / (classes - 1)
        probabilities = {f"c{k}": confidence if k == i % classes else rest for k in range(classes)}
        features: dict[str, float | str | bool] = {
            "x": u * 10.0,
            "y": coin.uniform(f"{i}.y"),
            "s": f"place {int(u * 7)}",
            "b": u < 0.5,
        }
        if i % 31 == 30:
            features = {"x": 1e12} if i % 2 else {}
        known = i % 97 != 96
        uncertainty = 1.0 - max(probabilities.values()) if known else 1.0
        votes = {name: int(10 * p) for name, p in probabilities.items()} if i % 5 else None
        yield EventView(uncertainty, probabilities if known else {}, features, i, i // 3, votes)


def _try(strategy: Strategy, views: Sequence[EventView], *, through_json: bool = False, memory: Any = None) -> _Trial:
    """Return how *strategy* decides on *views*, one after the other, the lane always open."""
    requirements, coin = requirements_of(strategy), HashedUniform(0, "contract")
    if requirements.lookback and memory is None:
        memory = requirements.memory()
    state, propensities, largest = strategy.initial(), [], 0
    for view in views:
        score = view.uncertainty if requirements.score is None else requirements.score(view._replace(memory=memory))
        p = strategy.propensity(score, state)
        propensities.append(p)
        state = strategy.update(score, coin.uniform(f"{view.offset}") < p, state)
        if through_json:
            text = msgspec.json.encode(state)
            largest = max(largest, len(text))
            state = msgspec.json.decode(text, type=State)
        if memory is not None:
            memory.take(view.offset, view.features)
    return _Trial(propensities, state, memory, largest)


def _propensity_problems(trial: _Trial) -> Iterator[str]:
    for i, p in enumerate(trial.propensities):
        if not (isinstance(p, int | float) and math.isfinite(p) and 0.0 <= p <= 1.0):
            yield f"its propensity for trial event {i} is {p!r}, which is no probability"
            return


def _purity_problems(new_strategy: Callable[[], Strategy], views: Sequence[EventView], trial: _Trial) -> Iterator[str]:
    """Anything that it keeps to itself shows when the same object goes through the same stream again."""
    used = new_strategy()
    first = _try(used, views)
    if first[:2] != trial[:2]:
        yield "two of them decide differently on the same stream: something is drawn at random, or is shared"
    elif _try(used, views)[:2] != trial[:2]:
        yield "it decides differently the second time: it remembers something outside of its state"


def _state_problems(strategy: Strategy, views: Sequence[EventView], trial: _Trial) -> Iterator[str]:
    sent = _try(strategy, views, through_json=True)
    if sent[:2] != trial[:2]:
        yield "its state is not the same after JSON: it must be a flat tuple of finite numbers and texts"
    if sent.state_bytes > STRATEGY_STATE_BYTES_MAX:
        yield f"its state takes {sent.state_bytes} bytes, more than {STRATEGY_STATE_BYTES_MAX}"


def _memory_problems(strategy: Strategy, views: Sequence[EventView]) -> Iterator[str]:
    """A memory read back at any offset goes on as the original would have."""
    requirements = requirements_of(strategy)
    if not requirements.lookback:
        return
    for cut in (1, 7, 99, 100, 250, 399):
        before, after = views[:cut], views[cut : cut + 150]
        whole = _try(strategy, before).memory
        copy = whole.copy()
        back = requirements.memory()
        for view in before[-requirements.lookback :]:
            back.take(view.offset, view.features)
        first = _try(strategy, after, memory=copy)
        if _try(strategy, after, memory=back)[:2] != first[:2]:
            yield f"what it reads back from the last {requirements.lookback} offsets before {cut} is not what it knew"
            return
        if _try(strategy, after, memory=whole)[:2] != first[:2]:
            yield "changing a copy of its memory changes the memory: a step that fails could not be repeated"
            return


def _silence_problems(new_strategy: Callable[[], Strategy], share: float) -> Iterator[str]:
    count = min(40_000, max(1_000, int(20.0 / share)))
    for u in (0.0, 0.5, 1.0):
        view = EventView(u, _constant(u), {"x": 1.0, "s": "same"}, 0, 1_000, {"a": 10, "b": 0})
        trial = _try(new_strategy(), [view._replace(offset=i) for i in range(count)])
        if not sum(trial.propensities[count // 2 :]) > 0.0:
            yield (
                f"it is mute: with an uncertainty of {u:g} for ever it stops asking, and there is no audit lane "
                "(budget.audit_share = 0) that would go on"
            )
            return


def _constant(u: float) -> Mapping[str, float]:
    return {"a": 1.0 - u / 2.0, "b": u / 2.0}


def _cost_problems(strategy: Strategy, views: Sequence[EventView], seconds: Callable[[], float]) -> Iterator[str]:
    began = seconds()
    _try(strategy, views)
    us = (seconds() - began) / len(views) * 1e6
    if us > DECISION_US_MAX:
        yield f"a decision takes {us:.0f} µs, more than {DECISION_US_MAX:.0f}"
