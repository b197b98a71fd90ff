"""``streamal verify``: the promises, recomputed from the topics alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import build, transports
from streamal.cli.options import ConfigPath, Json, Overrides, progress_bar, show
from streamal.config import load_config
from streamal.inspection.verify.verify import verify

__all__ = ["command"]


def command(
    rederive: Annotated[
        bool, typer.Option("--rederive/--no-rederive", help="Fold the log again and compare every prediction (slow).")
    ] = True,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Recompute every promise from the topics alone, with the configuration that the daemon ran with.

    Stop the daemon first: what it does meanwhile may look broken. Ends with 1 if a promise is broken.
    """
    loaded = load_config(config, overrides or ())
    parts = build(loaded)
    log = transports.open_log(loaded)
    try:
        topic = loaded.topics.predictions
        total = sum(log.end(topic, partition) for partition in range(log.partitions(topic)))
        with progress_bar("deriving predictions again", total) as progress:
            checks = verify(
                log,
                parts.rules,
                parts.budget,
                loaded.transport.group,
                parts.new_fold,
                rederive,
                lambda predictions: progress.advance(progress.task_ids[0], predictions),
            )
    finally:
        log.close()
    if as_json:
        figures = {c.promise: {"looked_at": c.looked_at, "broken": c.broken, "where": c.where} for c in checks}
        show("", figures, as_json=True)
    else:
        for check in checks:
            verdict = "ok    " if not check.broken else "BROKEN"
            where = f" ({check.broken} times, first at {', '.join(check.where)})" if check.broken else ""
            typer.echo(f"{verdict} {check.looked_at:>9,} x  {check.promise}{where}")
    raise typer.Exit(1 if any(check.broken for check in checks) else 0)
