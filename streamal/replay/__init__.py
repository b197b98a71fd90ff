"""`replay` runs a recorded stream through the production loop; simulated annotators reply with the recorded labels."""

from streamal.recordings.account import Account, Column, Finding
from streamal.recordings.profile import Profile, profile
from streamal.recordings.reading import Recorded, Stream, read_stream
from streamal.recordings.rules import ReadingRules
from streamal.replay.outcome import Replay
from streamal.replay.replay import replay

__all__ = [
    "Account",
    "Column",
    "Finding",
    "Profile",
    "ReadingRules",
    "Recorded",
    "Replay",
    "Stream",
    "profile",
    "read_stream",
    "replay",
]
