"""Recorded streams through the production loop: reading them, answering for the annotators, comparing."""

from streamal.replay.reading import Recorded, Stream, read_stream
from streamal.replay.replaying import Replay, replay

__all__ = ["Recorded", "Replay", "Stream", "read_stream", "replay"]
