"""``streamal import``: labels out of a file, as replies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names, wire_rules
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config
from streamal.exchange.label_import import plan
from streamal.exchange.readers import read_answers
from streamal.exchange.writers import Format, format_of

__all__ = ["command"]

_SHOWN_MAX = 20
_BATCH = 1_000


def command(
    file: Annotated[Path, typer.Argument(help="Answers: .jsonl, .csv, .parquet, or Label Studio's .json.")],
    kind: Annotated[Format | None, typer.Option("--format", "-f", help="By default from the file's name.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Answer requests from a file: each row becomes a reply on the topic of labels, once, however often it is imported.

    A row has a `request` and either a `label` or `abstain` = true, and may have `annotator`, `seconds` and `reply`, its
    own name. Exports can be read back; in Label Studio's JSON every annotation is an answer. If any row is wrong, its
    number is told and nothing at all is written. Answers to requests that were closed meanwhile are left out.

    ```text
    streamal import answers.csv --dry-run
    streamal import project-1-at-2026-11-22.json
    ```
    """
    loaded = load_config(config, overrides or ())
    chosen, topics, rules = kind or format_of(file, "FILE"), topic_names(loaded), wire_rules(loaded)
    classes, learn_new = set(loaded.labels.classes), loaded.labels.learn_new
    log = transports.open_log(loaded)
    try:
        made = plan(log, topics, rules, read_answers(file, chosen, rules), lambda label: learn_new or label in classes)
        if not made.flaws and not dry_run:
            for begin in range(0, len(made.outputs), _BATCH):
                log.append_all(made.outputs[begin : begin + _BATCH])
    finally:
        log.close()
    for flaw in made.flaws[:_SHOWN_MAX]:
        typer.echo(f"streamal: {file}, row {flaw.row}: {flaw.reason}", err=True)
    if len(made.flaws) > _SHOWN_MAX:
        typer.echo(f"streamal: … and {len(made.flaws) - _SHOWN_MAX} more rows are refused", err=True)
    written = 0 if made.flaws or dry_run else len(made.outputs)
    show(f"{file} → {transports.where(loaded)}", {**made.counts, "written": written}, as_json)
    if made.flaws:
        raise typer.Exit(1)
