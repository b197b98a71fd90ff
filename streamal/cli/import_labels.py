"""``streamal import``: labels from a file, as replies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from streamal.bootstrap import transports
from streamal.bootstrap.rules import reading_rules, topic_names, wire_rules
from streamal.cli.console import echo
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config
from streamal.core.labels import explain_unknown
from streamal.exchange.label_import import plan_import
from streamal.exchange.readers import read_replies
from streamal.exchange.writers import Format, format_of
from streamal.recordings.findings import Findings

__all__ = ["command"]

_FLAWS_SHOWN = 20
_BATCH = 1_000


def command(
    file: Annotated[Path, typer.Argument(help="Replies: .jsonl, .csv, .parquet, or Label Studio's .json.")],
    kind: Annotated[Format | None, typer.Option("--format", "-f", help="By default from the file's name.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what an import would do; write nothing.")] = False,
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="Between the cells of a text file: one character, or tab.")
    ] = None,
    encoding: Annotated[str | None, typer.Option("--encoding", help="Of a text file, if it is not UTF-8.")] = None,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Answer requests from a file: each row becomes one reply on the topic of labels, however often you import it.

    A row has a `request` and either a `label` or `abstain` = true, and may have `annotator`, `seconds` and `reply`, its
    own name. Exports can be read back; in Label Studio's JSON every annotation is a reply. If any row is wrong, the
    command names it and writes nothing at all. Replies to requests that were closed meanwhile are left out.

    ```text
    streamal import answers.csv --dry-run
    streamal import project-1-at-2026-11-22.json
    ```
    """
    loaded = load_config(config, overrides or ())
    chosen, topics, rules = kind or _format_of(file), topic_names(loaded), wire_rules(loaded)
    reading = replace(reading_rules(loaded), delimiter=delimiter, encoding=encoding)
    findings = Findings(str(file))
    labels = loaded.labels
    log = transports.open_log(loaded)
    try:
        rows = read_replies(file, chosen, rules, reading, findings)
        plan = plan_import(
            log,
            topics,
            rules,
            rows,
            lambda label: (
                None if labels.learn_new or label in labels.classes else explain_unknown(label, labels.classes)
            ),
        )
        if not plan.flaws and not dry_run:
            for begin in range(0, len(plan.outputs), _BATCH):
                log.append_all(plan.outputs[begin : begin + _BATCH])
    finally:
        log.close()
    for finding in findings.guesses():
        echo(f"streamal: {file}: {finding.text}", err=True)
    for flaw in plan.flaws[:_FLAWS_SHOWN]:
        echo(f"streamal: {file}, row {flaw.row}: {flaw.reason}", err=True)
    if len(plan.flaws) > _FLAWS_SHOWN:
        echo(f"streamal: … and {len(plan.flaws) - _FLAWS_SHOWN} more rows are refused", err=True)
    written = 0 if plan.flaws or dry_run else len(plan.outputs)
    show(f"{file} → {transports.describe_transport(loaded)}", {**plan.counts, "written": written}, as_json)
    if plan.flaws:
        raise typer.Exit(1)


def _format_of(file: Path) -> Format:
    """Return the format that the name of *file* ends in; a table may have tabs, and be packed."""
    name = file.name.lower().removesuffix(".gz")
    return Format.CSV if name.endswith((".tsv", ".txt")) else format_of(file.with_name(name), "FILE")
