"""Recorded streams through the production loop: reading them, answering for the annotators, comparing, tuning."""

from streamal.experiments.compare import Comparison, compare
from streamal.experiments.labels_needed import Goal
from streamal.experiments.tune import Tuned, tune
from streamal.recordings.reading import Recorded, Stream, read_stream
from streamal.replay.replay import Replay, replay

__all__ = ["Comparison", "Goal", "Recorded", "Replay", "Stream", "Tuned", "compare", "read_stream", "replay", "tune"]
