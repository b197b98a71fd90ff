"""Recorded streams through the production loop: reading them, answering for the annotators, comparing, tuning."""

from streamal.replay.answering import Goal
from streamal.replay.comparing import Comparison, compare
from streamal.replay.reading import Recorded, Stream, read_stream
from streamal.replay.replaying import Replay, replay
from streamal.replay.tuning import Tuned, tune

__all__ = ["Comparison", "Goal", "Recorded", "Replay", "Stream", "Tuned", "compare", "read_stream", "replay", "tune"]
