"""The application: its commands. An error becomes one line and an exit code."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from streamal import __version__
from streamal.cli import (
    answer,
    bridge,
    check,
    compare,
    dashboards,
    demo,
    export,
    health,
    import_labels,
    label,
    look,
    quarantine,
    replay,
    report,
    run,
    send,
    simulate,
    skip,
    status,
    top,
    topics,
    tune,
    verify,
)
from streamal.cli.console import echo, echo_error
from streamal.config import service_variables
from streamal.errors import StreamalError

__all__ = ["app"]


class _Group(TyperGroup):
    """Ends with 0 (ok), 1 (failure) or 2 (usage, configuration); an error of ours is one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StreamalError as error:
            echo_error(error)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:
            # the reader of our output has gone (| head): nothing is wrong
            sys.stdout = None
            raise typer.Exit(0) from None


app = typer.Typer(
    cls=_Group,
    name="streamal",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
    **streamal**: online active learning on message streams.

    Reads events, predicts each with an incremental River model, asks for the labels that should improve the model most,
    within a budget, and learns from every reply immediately. Begin with `streamal demo`; it needs no server.

    Exit codes: 0 ok, 1 failure, 2 usage or configuration.
    """,
)


def _version(value: bool) -> None:
    if value:
        echo(f"streamal {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    del version
    if found := service_variables():
        echo(
            f"streamal: warning: ignored {', '.join(found[:3])}{' …' if len(found) > 3 else ''}: Kubernetes sets such "
            "variables for a service called streamal…; enableServiceLinks: false in the pod keeps them away",
            err=True,
        )


for _module in (
    demo,
    run,
    check,
    look,
    replay,
    compare,
    tune,
    send,
    simulate,
    label,
    answer,
    export,
    verify,
    skip,
    quarantine,
    status,
    health,
    top,
    report,
):
    app.command(name=_module.__name__.rpartition(".")[2])(_module.command)
app.command(name="import")(import_labels.command)
app.add_typer(topics.app, name="topics")
app.add_typer(bridge.app, name="bridge")
app.add_typer(dashboards.app, name="dashboards")
