"""``streamal dashboards``: the Grafana dashboard of the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamal.cli.console import echo, echo_block
from streamal.edge import grafana
from streamal.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make the Grafana dashboard.")


@app.callback()
def _main() -> None:
    """Keep "build" a command of its own while it is the only one."""


@app.command()
def build(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; by default standard output.")] = None,
) -> None:
    """Build the Grafana dashboard; needs the extra ``dashboards``.

    The repository has it as docker/grafana/dashboards/streamal.json: import it, or provision it as docker/ does.

    ```text
    streamal dashboards build --out docker/grafana/dashboards/streamal.json
    ```
    """
    dashboard = grafana.build()
    if out is None:
        echo_block(dashboard, end="")
        return
    try:
        out.write_text(dashboard)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}; name a file that can be written") from error
    echo(f"{out}: {len(grafana.PANELS)} panels")
