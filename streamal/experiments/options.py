"""The options of `compare` and `tune`, one frozen record for each topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

__all__ = ["CONFIGURED", "Execution", "Goal", "Grid", "Progress", "ReportOptions", "SearchOptions"]

CONFIGURED = "configured"
"""The name of the model that the configuration declares."""

Progress = Callable[[str, int, int], object]
"""Called with what is being done, how many of it are finished, and how many there are."""


def _ignore(what: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of a comparison.

    Attributes:
        strategies: names of `sampling.strategy`; the control is always there.
        budgets: shares of the events.
        models: "configured", or families of `streamal.experiments.model_families.families`, each with its defaults.
        seeds: how many sets of coins: ``sampling.seed`` and the next ones.
    """

    strategies: Sequence[str] = ("randomised_variable", "variable", "quantile", "split")
    budgets: Sequence[float | str] = ("0.01", "0.05", "0.1", "0.2")
    models: Sequence[str] = (CONFIGURED,)
    seeds: int = 3


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal of `tune`: the best settings for *budget*; or, if a target is given, the fewest labels that reach it.

    Attributes:
        budget: share of the events at which is searched.
        target_value: the metric that is wanted.
        target_share: … or this part of what the best model with all labels reaches.
    """

    budget: Decimal = Decimal("0.1")
    target_value: float | None = None
    target_share: float | None = None

    @property
    def has_target(self) -> bool:
        """True if a target is given, not only a budget."""
        return self.target_value is not None or self.target_share is not None

    def wanted(self, full: float) -> float:
        """Return the metric that is wanted, if all labels give *full*; by default 98 % of *full*."""
        if self.target_value is not None:
            return self.target_value
        return (0.98 if self.target_share is None else self.target_share) * full


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The extent of the search of `tune`.

    Attributes:
        trials: how many settings are tried at the budget; half as many models are tried with all labels.
        seed: of the search.
        train_share: the part of the events, from the first one on, that is searched.
        families: search only these models, see `streamal.experiments.model_families.families`; none: all that fit.
    """

    trials: int = 30
    seed: int = 1
    train_share: float = 0.3
    families: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The replays of `tune` on the rest of the stream.

    Attributes:
        budgets: the budgets of the report; the searched one is always among them.
        seeds: sets of coins: ``sampling.seed`` and the next ones.
    """

    budgets: Sequence[float | str] = ("0.01", "0.02", "0.05", "0.1", "0.2")
    seeds: int = 3


@dataclass(frozen=True, slots=True)
class Execution:
    """Cache, processes and progress of the replays.

    Attributes:
        cache: a directory of finished replays, so that an interrupted experiment goes on; None keeps nothing.
        workers: processes; None is one for each core, 0 is this one. Others are spawned: guard a script with
            ``if __name__ == "__main__"``.
        progress: see `Progress`.
    """

    cache: Path | None = None
    workers: int | None = None
    progress: Progress = field(default=_ignore)

    def counter(self, what: str, total: int) -> Callable[[int], None]:
        """Return a function that adds to the number of finished parts of *what*, and reports it."""
        done = 0
        self.progress(what, 0, total)

        def count(finished: int) -> None:
            nonlocal done
            done += finished
            self.progress(what, done, total)

        return count
