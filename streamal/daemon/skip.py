"""The way past a batch that cannot be read: a dead letter for each of its offsets, and the group's offset behind it.

Nothing is lost in silence: letters and offset are one transaction of a member of the group, so they come once, and a
worker that runs meanwhile makes it fail. The state beside the offset stays as it was.
"""

from __future__ import annotations

import time

from streamal.core.records import OffsetAndMetadata, Reason, Record, Refusal, TopicPartition
from streamal.core.rules import Rules, dead_letter_of
from streamal.daemon.alone import own_all
from streamal.errors import ConfigError, Fatal, Uncommitted, Unreadable
from streamal.ports import Transport, find_readable

__all__ = ["skip_unreadable"]

_ATTEMPTS = 10
_WAIT_S = 0.5


def skip_unreadable(
    transport: Transport, rules: Rules, group: str, place: TopicPartition, offset: int, why: str, now: float
) -> range:
    """Skip the batch of *place* that begins at *offset*, and return the offsets that were skipped.

    Args:
        transport: a membership of *group*, which has no other member; nothing was polled yet.
        rules: the daemon's; they name the topics.
        group: its next record in *place* is the first of the batch.
        place: a partition of ``events`` or ``labels``.
        offset: what the error of the worker names.
        why: goes into each dead letter.
        now: seconds since the epoch.

    Raises:
        ConfigError: the next record of the group can be read, or the batch is another one.
        Fatal: another worker is running.
        Uncommitted: the cluster is in trouble; nothing was skipped.
    """
    before = transport.committed(group).get(place)
    error = _find_unreadable(transport, place, 0 if before is None else before.offset)
    if offset not in (error.offset, None if before is None else before.offset):
        raise ConfigError(f"the batch that cannot be read begins at offset {error.offset}, not at {offset}")
    skipped = range(error.offset, find_readable(transport, *place, error.offset))
    refusal = Refusal(Reason.UNREADABLE, f"{why} ({error.why})")
    letters = [dead_letter_of(rules, Record(*place, each, None, None), refusal, now) for each in skipped]
    for attempt in range(_ATTEMPTS):
        try:
            state = own_all(transport, rules)[place]
            if state.offset >= skipped.stop:  # an earlier attempt was committed after all
                return skipped
            if before is not None and state != before:
                raise Fatal("the group has moved meanwhile: a worker is running. Stop all workers, and try again")
            transport.commit(letters, {place: OffsetAndMetadata(skipped.stop, state.metadata)})
        except Uncommitted:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_WAIT_S)
            transport.rewind()
        else:
            return skipped
    raise AssertionError("unreachable: the last attempt returns or raises")


def _find_unreadable(transport: Transport, place: TopicPartition, position: int) -> Unreadable:
    """Return why the record at *position* cannot be read; a ConfigError if it can."""
    try:
        records = transport.read(*place, position, 1)
    except Unreadable as error:
        return error
    if records:
        raise ConfigError(
            f"there is nothing to skip: the group comes next to offset {records[0].offset} of "
            f"{place.topic}-{place.partition}, and that can be read"
        )
    raise ConfigError(f"there is nothing to skip: the group has read {place.topic}-{place.partition} to its end")
