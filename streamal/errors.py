"""The error tree.

::

    StreamalError
    ├── ConfigError          exit 2: a setting, a path or a topic is wrong; nothing was opened yet
    ├── Fatal                exit 1: the process ends, and a supervisor may start it again; nothing is lost
    │   ├── Fenced           a newer worker owns the partitions of this one
    │   └── InconsistentLog  exit 2: what is stored contradicts itself (a retention hole, another log)
    │       └── Unreadable   a batch of records is damaged, too large when inflated, or of an unknown codec
    ├── ServiceUnavailable   another service does not respond for now: try again later
    └── Uncommitted          the step's transaction has not happened, or perhaps not: rewind, then go on
        └── Behind           the log cannot be read yet up to a committed version: wait, then go on

Bad input is none of these. It is a :class:`streamal.core.records.Refusal`: a value, which is counted and written to the
dead letters. A programmer's error is an ``assert``.
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
    "Unreadable",
]


_RESTORE = "restore the partition from another replica or from a backup"


class StreamalError(Exception):
    """Any error that streamal raises on purpose; its text says what happened, where, and what to do."""

    exit_code = 1


class ConfigError(StreamalError):
    """A setting is wrong: one line names the key. Raised before anything is opened."""

    exit_code = 2


class Fatal(StreamalError):
    """The process has to end; a supervisor may start it again at once."""


class Fenced(Fatal):
    """A newer worker owns the partitions of this one; nothing that this one writes becomes visible (KIP-447)."""


class InconsistentLog(Fatal):
    """A stored record, offset or snapshot contradicts another one; to go on would break a promise."""

    exit_code = 2


class Unreadable(InconsistentLog):
    """The batch at *offset* of a partition cannot be read, however often it is fetched."""

    def __init__(self, topic: str, partition: int, offset: int, why: str, way_on: str = _RESTORE) -> None:
        """Keep where the batch is; *why* says what is wrong with it, *way_on* what to do."""
        super().__init__(f"cannot read {topic}-{partition} from offset {offset} on: {why}; {way_on}")
        self.topic, self.partition, self.offset, self.why = topic, partition, offset, why


class ServiceUnavailable(StreamalError):
    """Another service does not respond for now: try again, after *after_s* seconds or more if it said so."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        """Keep *text*, and the seconds that the service asked for."""
        super().__init__(text)
        self.after_s = after_s


class Uncommitted(StreamalError):
    """The transaction was aborted, or its outcome is unknown: only the transport's committed offsets say which."""


class Behind(Uncommitted):
    """The log ends before a committed version: another transaction is open, and ends with its timeout (F13)."""
