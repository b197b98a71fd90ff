"""``streamal skip``: the way past a batch that cannot be read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import build_for_figures, transports
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config
from streamal.core.records import TopicPartition
from streamal.daemon.skip import skip_unreadable
from streamal.errors import ConfigError

__all__ = ["command"]


def command(
    topic: Annotated[str, typer.Argument(help="topics.events or topics.labels, as the error names it.")],
    partition: Annotated[int, typer.Argument(min=0, help="The partition that the error names.")],
    offset: Annotated[int, typer.Argument(min=0, help="The offset that the error names.")],
    why: Annotated[str, typer.Option("--why", help="Why these records are given up; it goes into each dead letter.")],
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Skip a batch that cannot be read: damaged on the brokers' disks, too large when inflated, of an unknown codec.

    It writes a dead letter (reason `unreadable`) for each offset up to the next record that can be read, and moves the
    group behind them, in one transaction; `streamal verify` counts them. Nothing that can be read is skipped. Stop all
    workers first. Only `events` and `labels` can be skipped: every record of the other topics is needed.

    ```text
    streamal skip streamal.events 3 1207 --why "disk of broker 2 was replaced"
    ```
    """
    loaded = load_config(config, overrides or ())
    parts = build_for_figures(loaded)
    topics = parts.topics
    if topic not in {topics.events, topics.labels}:
        raise ConfigError(
            f"{topic!r} cannot be skipped, only {topics.events!r} and {topics.labels!r}: every record of the others is "
            "needed. Restore the partition from another replica or from a backup"
        )
    if partition >= parts.topic_partitions[topic]:
        raise ConfigError(f"topic {topic!r} has {parts.topic_partitions[topic]} partitions, counted from 0")
    transport = transports.open_alone(loaded)
    try:
        place = TopicPartition(topic, partition)
        skipped = skip_unreadable(transport, parts.rules, loaded.transport.group, place, offset, why, time.time())
    finally:
        transport.close()
    figures = {"skipped": len(skipped), "from": skipped.start, "next": skipped.stop}
    show(f"{topic}-{partition}", figures, as_json)
