"""The cost of a decision of each strategy: ``python benchmarks/strategies.py decisions``.

The score, the propensity and the update of the state, and for those that look back taking in the event, on made-up
events with eight numbers; in microseconds of one core, the median of the repetitions. The model is not in it, and
neither are a committee's votes, which cost a prediction of each member.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Annotated

import typer

from streamal.core.coins import HashedUniform
from streamal.core.strategies import STRATEGIES, EventView, SamplingRules, build_strategy, requirements_of

app = typer.Typer(add_completion=False)


@app.callback()
def main() -> None:
    """Benchmarks of the strategies."""


def views(count: int, numbers: int) -> list[EventView]:
    """Return *count* events with so many numbers; the model is mostly sure of one of two classes."""
    coin = HashedUniform(1, "benchmark")
    made = []
    for i in range(count):
        u = 0.5 * coin.uniform(f"{i}") ** 2
        features = {f"x{k}": coin.uniform(f"{i}.{k}") for k in range(numbers)}
        made.append(EventView(u, {"a": 1.0 - u, "b": u}, features, i, 500, {"a": int(10 - 10 * u), "b": int(10 * u)}))
    return made


def decide_all(name: str, events: Sequence[EventView]) -> float:
    """Return seconds of the processor for all decisions on *events*."""
    strategy = build_strategy(SamplingRules(name, rate=0.07, share=0.1, floor=0.5))
    requirements, state = requirements_of(strategy), strategy.initial()
    memory = requirements.memory() if requirements.lookback else None
    began = time.process_time()
    for view in events:
        seen = view if memory is None else view._replace(memory=memory)
        score = view.uncertainty if requirements.score is None else requirements.score(seen)
        p = strategy.propensity(score, state)
        state = strategy.update(score, p > 0.5, state)
        if memory is not None:
            memory.take(view.offset, view.features)
    return time.process_time() - began


@app.command()
def decisions(
    events: Annotated[int, typer.Option(min=500)] = 5_000,
    repetitions: Annotated[int, typer.Option(min=1)] = 7,
    numbers: Annotated[int, typer.Option(min=1)] = 8,
) -> None:
    """Print microseconds per decision of each strategy, and the range of the repetitions."""
    made = views(events, numbers)
    for name in STRATEGIES:
        times = sorted(decide_all(name, made) / events * 1e6 for _ in range(repetitions))
        print(f"{name:20} {median(times):7.2f} µs   ({times[0]:.2f} to {times[-1]:.2f})")


if __name__ == "__main__":
    app()
