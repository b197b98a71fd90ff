"""The order to leave one example out of every model: a record of ``training``, written while no worker runs."""

from __future__ import annotations

from streamal.core.codec.events import decode_training, encode
from streamal.core.records import (
    Example,
    NaturalExample,
    OffsetAndMetadata,
    OutputRecord,
    Quarantine,
    TopicPartition,
)
from streamal.core.rules import Rules
from streamal.core.state import TrainerState, decode_state, encode_state
from streamal.daemon.alone import own_all
from streamal.daemon.consistency import require_states
from streamal.errors import ConfigError
from streamal.ports import Transport

__all__ = ["quarantine_example"]


def quarantine_example(transport: Transport, rules: Rules, offset: int, why: str, now: float) -> None:
    """Append a `Quarantine` of the example at *offset* of ``training``, and count it in the trainer's state.

    *transport* is a membership of the group that nothing was polled with; *now* is in seconds since the epoch.

    Raises:
        ConfigError: there is no example at *offset*.
        Fatal: a worker is running, or the trainer's state is lost.
        Uncommitted: the cluster is in trouble; nothing was written.
    """
    topics, labels = rules.topics, TopicPartition(rules.topics.labels, 0)
    found = transport.read(topics.training, 0, offset, 1)
    record = decode_training(found[0].value) if found and found[0].offset == offset else None
    if not isinstance(record, Example | NaturalExample):
        raise ConfigError(f"{topics.training} has no example at offset {offset}: the worker's log names the offset")
    committed = own_all(transport, rules)
    require_states(transport, topics, committed)
    next_offset, metadata = committed[labels]
    state = decode_state(metadata, TrainerState)
    assert state is not None, "a log with an example has a trainer's state, says require_states"
    order = encode(Quarantine(offset, max(now, record.at), why))
    transport.commit(
        [OutputRecord(topics.training, 0, None, order)],
        {labels: OffsetAndMetadata(next_offset, encode_state(state.with_record()))},
    )
