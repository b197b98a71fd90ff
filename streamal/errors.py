"""The error tree.

::

    StreamalError
    ├── ConfigError          exit 2: a setting, a path or a topic is wrong; nothing was opened yet
    ├── Fatal                exit 1: stop and let the supervisor start afresh; nothing is lost
    │   ├── Fenced           a newer worker has taken our place
    │   └── InconsistentLog  what is stored contradicts itself (retention hole, foreign log)
    ├── Unreachable          another service does not answer for now: try again later
    └── Uncommitted          the step's transaction did not (or may not) have happened: rewind, go on
        └── Behind           the log cannot be read yet as far as our predecessor had: wait, then go on

Bad input is none of these: it is a :class:`streamal.core.records.Refusal`, a value that is counted and
dead-lettered. A programmer's error is an ``assert``.
"""

from __future__ import annotations

__all__ = [
    "Behind",
    "ConfigError",
    "Fatal",
    "Fenced",
    "InconsistentLog",
    "ServiceUnavailable",
    "StreamalError",
    "Uncommitted",
]


class StreamalError(Exception):
    """Any error that streamal raises on purpose; its text says what happened, where, and what to do."""

    exit_code = 1


class ConfigError(StreamalError):
    """A setting is wrong: one line names the key. Raised before anything is opened."""

    exit_code = 2


class Fatal(StreamalError):
    """The process must end; a supervisor may start it again at once."""


class Fenced(Fatal):
    """A newer worker owns what we believed to be ours; nothing we do becomes visible any more (KIP-447)."""


class InconsistentLog(Fatal):
    """A stored record, offset or snapshot contradicts another; going on would break a promise."""

    exit_code = 2


class ServiceUnavailable(StreamalError):
    """Another service does not answer for now: try again, in *after_s* seconds at the earliest if it said so."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        """Keep how long the service asked to be left alone."""
        super().__init__(text)
        self.after_s = after_s


class Uncommitted(StreamalError):
    """The transaction was aborted, or its outcome is unknown: only the transport's committed offsets tell."""


class Behind(Uncommitted):
    """Another transaction is unfinished and holds the log back; it ends with its timeout (F13)."""
