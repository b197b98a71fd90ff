"""`replay` runs a recorded stream through the production loop; simulated annotators reply with the recorded labels."""

from streamal.recordings.reading import Recorded, Stream, read_stream
from streamal.replay.replay import Replay, replay

__all__ = ["Recorded", "Replay", "Stream", "read_stream", "replay"]
