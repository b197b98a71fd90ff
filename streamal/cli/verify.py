"""``streamal verify``: checks every promise against the topics alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import build, transports
from streamal.cli.console import echo
from streamal.cli.options import ConfigPath, Json, Overrides, progress_bar, show
from streamal.config import load_config
from streamal.inspection.verify.verify import verify

__all__ = ["command"]


def command(
    rederive: Annotated[
        bool,
        typer.Option("--rederive/--no-rederive", help="Train the model again, compare every prediction (slow)."),
    ] = True,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check every promise against the topics alone, with the configuration that the daemon ran with.

    Stop the daemon first: what it writes meanwhile may look broken. The exit code is 1 if a promise is broken. What
    retention or compaction has deleted is not judged; how much that is stands below each promise.
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
        figures = {
            c.promise: {
                "looked_at": c.looked_at,
                "broken": c.broken,
                "where": c.where,
                "not_judged": c.not_judged,
            }
            for c in checks
        }
        show("", figures, as_json=True)
    else:
        for check in checks:
            verdict = "ok    " if not check.broken else "BROKEN"
            where = f" ({check.broken} times, first at {', '.join(check.where)})" if check.broken else ""
            echo(f"{verdict} {check.looked_at:>9,} x  {check.promise}{where}")
            for why, times in check.not_judged.items():
                echo(f"{'not judged':>18} {times:,}: {why}")
    raise typer.Exit(1 if any(check.broken for check in checks) else 0)
