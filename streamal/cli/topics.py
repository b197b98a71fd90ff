"""``streamal topics``: the six topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamal.assembly import topic_partitions
from streamal.cli import parts
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make the topics.")


@app.callback()
def _main() -> None:
    """Keep "create" a command of its own while it is the only one."""


@app.command()
def create(
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, help="Copies on Kafka; by default 3, or one on each broker.")
    ] = None,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Make the topics that are missing, with the partitions, retention and compaction that the promises need.

    Topics that are there stay as they are; `streamal check` says whether they will do.

    ```text
    streamal topics create --set transport.kind=kafka --set transport.bootstrap_servers=kafka:9092
    ```
    """
    loaded = load_config(config, overrides or ())
    made = set(parts.make_topics(loaded, replicas))
    wanted = topic_partitions(loaded)
    if as_json:
        show("", {topic: {"partitions": wanted[topic], "made": topic in made} for topic in wanted}, as_json)
        return
    show(
        parts.where(loaded),
        {
            topic: f"{partitions} partition{'s' * (partitions > 1)}" if topic in made else "was there"
            for topic, partitions in wanted.items()
        },
        as_json,
    )
