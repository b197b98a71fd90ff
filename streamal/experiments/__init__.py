"""Many replays of one recording: `compare` strategies and budgets, or `tune` the settings."""

from streamal.experiments.compare import Comparison, compare
from streamal.experiments.labels_needed import Goal
from streamal.experiments.tune import Tuned, tune

__all__ = ["Comparison", "Goal", "Tuned", "compare", "tune"]
