"""The command line: one file per command. It parses, chooses and joins the parts, prints; it decides nothing."""

from streamal.cli.app import app

__all__ = ["app"]
