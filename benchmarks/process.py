"""A process like `streamal`'s own: with one hash seed, and children that share nothing with it."""

from __future__ import annotations

import multiprocessing
import os
import sys

import typer

__all__ = ["run"]


def run(app: typer.Typer) -> None:
    """Run *app*, in this process or in one that takes its place."""
    if "PYTHONHASHSEED" not in os.environ:  # a snapshot is of one hash seed
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    multiprocessing.set_start_method("spawn")
    app()
