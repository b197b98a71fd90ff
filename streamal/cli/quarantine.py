"""``streamal quarantine``: leave out an example that kills every worker that learns it."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import build_for_figures, transports
from streamal.cli.console import echo
from streamal.cli.options import ConfigPath, Overrides
from streamal.config import load_config
from streamal.daemon.quarantine import quarantine_example

__all__ = ["command"]


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
    rules = build_for_figures(loaded).rules
    shared = transports.TRANSPORTS[loaded.transport.kind].many_workers
    with closing((transports.open_alone if shared else transports.open_transport)(loaded)) as transport:
        quarantine_example(transport, rules, offset, why, time.time())
    echo(f"the example at offset {offset} of {rules.topics.training} is left out; start the workers again")
