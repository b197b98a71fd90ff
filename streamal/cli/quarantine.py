"""``streamal quarantine``: leave out an example that kills every worker that learns it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import build, transports
from streamal.cli.console import echo
from streamal.cli.options import ConfigPath, Overrides
from streamal.config import load_config
from streamal.core.codec.events import decode_training, encode
from streamal.core.records import (
    Example,
    NaturalExample,
    OffsetAndMetadata,
    OutputRecord,
    Quarantine,
    TopicPartition,
)
from streamal.core.rules import TopicNames
from streamal.core.state import TrainerState, decode_state, encode_state
from streamal.errors import ConfigError
from streamal.ports import Transport

__all__ = ["command"]

_PATIENCE_S = 60.0
"""A worker that died keeps its partitions for its session, 10 s by default."""


def command(
    offset: Annotated[int, typer.Argument(min=0, help="The example's offset in `training`, as the log names it.")],
    why: Annotated[str, typer.Option(help="The reason, for those who read the log later.")],
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
) -> None:
    """Leave one example out of every model, since the process dies that learns it. Stop all workers first.

    The order is a record of `training`, so every worker obeys it, and `streamal verify` knows it. The label stays paid
    for and the request stays closed. A worker that dies while it learns names the offset when it starts again.

    ```text
    streamal quarantine 4711 --why "crashes the tokenizer"
    ```
    """
    loaded = load_config(config, overrides or ())
    topics = build(loaded).rules.topics
    transport = transports.open_transport(loaded)
    try:
        found = transport.read(topics.training, 0, offset, 1)
        record = decode_training(found[0].value) if found and found[0].offset == offset else None
        if not isinstance(record, Example | NaturalExample):
            raise ConfigError(f"{topics.training} has no example at offset {offset}: the worker's log names the offset")
        committed = _own_all(transport, topics, loaded.transport.partitions)
        labels = TopicPartition(topics.labels, 0)
        state = decode_state(committed[labels].metadata, TrainerState) or TrainerState()
        state = TrainerState(state.version, state.records + 1, state.quarantined)
        order = encode(Quarantine(offset, max(time.time(), record.at), why))
        transport.commit(
            [OutputRecord(topics.training, 0, None, order)],
            {labels: OffsetAndMetadata(committed[labels].offset, encode_state(state))},
        )
    finally:
        transport.close()
    echo(f"the example at offset {offset} of {topics.training} is left out; start the workers again")


def _own_all(transport: Transport, topics: TopicNames, partitions: int) -> dict[TopicPartition, OffsetAndMetadata]:
    """Join the group and wait until all its partitions are this process's: then no worker runs."""
    wanted = {TopicPartition(topics.labels, 0), *(TopicPartition(topics.events, n) for n in range(partitions))}
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        transport.poll({}, 0.2)
        _, committed = transport.assignment()
        if wanted <= committed.keys():
            return dict(committed)
    raise ConfigError("a worker still owns a part of the group: stop all workers, wait until their sessions end")
