"""The Python API of experiments: many replays of one recording, to `compare` strategies or to `tune` the settings.

`streamal.reports` draws what they return.
"""

from streamal.experiments.compare import compare
from streamal.experiments.options import Execution, Goal, Grid, ReportOptions, SearchOptions
from streamal.experiments.results import Comparison, Tuned
from streamal.experiments.tune import tune

__all__ = [
    "Comparison",
    "Execution",
    "Goal",
    "Grid",
    "ReportOptions",
    "SearchOptions",
    "Tuned",
    "compare",
    "tune",
]
