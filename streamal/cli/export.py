"""``streamal export``: the training log for other tools."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from streamal import __version__
from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names
from streamal.cli.options import ConfigPath, Overrides
from streamal.config import Config, load_config
from streamal.core.records import Training
from streamal.errors import ConfigError
from streamal.exchange.data_card import Survey, card
from streamal.exchange.rows import Columns, Row, flat, rows
from streamal.exchange.writers import Format, format_of, write_parquet, write_text
from streamal.ports import Log

__all__ = ["command"]


def command(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; standard output without.")] = None,
    kind: Annotated[Format | None, typer.Option("--format", "-f", help="By default from the file's name.")] = None,
    examples_only: Annotated[bool, typer.Option("--examples", help="Leave out abstentions, expiries, schema.")] = False,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
) -> None:
    """Export the training log: every example with its label, propensity and annotator, and how others were closed.

    Beside a file stands its data card, FILE.card.md: the period, the strategy, the propensities, who answered, counts.
    Label Studio's JSON (.json) can be imported there, and back here by `streamal import`.

    ```text
    streamal export --format csv > training.csv
    streamal export --examples -o labels.parquet
    streamal export -o tasks.json
    ```
    """
    loaded = load_config(config, overrides or ())
    chosen = kind or (Format.JSONL if output is None else format_of(output, "--output"))
    if chosen is Format.PARQUET and output is None:
        raise ConfigError("--format parquet: give the file with --output")
    log = transports.open_log(loaded)
    try:
        _export(log, loaded, chosen, output, examples_only)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"--output {output}: {error.strerror or error}") from error
    finally:
        log.close()


def _export(log: Log, config: Config, kind: Format, output: Path | None, examples_only: bool) -> None:
    """Read the log twice: once for the columns and the card, once to write what was there the first time."""
    topic, texts = topic_names(config).training, _texts(config)
    end = log.end(topic, 0)
    strange: list[str] = []

    def read() -> Iterator[tuple[Row, Training]]:
        strange.clear()
        return rows(log, topic, examples_only, end, strange)

    columns, survey = Columns(), Survey()
    if output is not None or kind is Format.CSV:
        for row, record in read():
            columns.add(flat(row))
            survey.add(record)
    if output is None:
        write_text(read(), kind, columns, texts, sys.stdout)
    elif kind is Format.PARQUET:
        write_parquet(read(), columns, output)
    else:
        with output.open("w", encoding="utf-8", newline="") as file:
            write_text(read(), kind, columns, texts, file)
    for line in strange:
        typer.echo(f"streamal: {line}", err=True)
    if output is not None:
        beside = output.with_name(f"{output.name}.card.md")
        beside.write_text(card(survey, output, _how(config, kind, end), config.budget.currency), encoding="utf-8")


def _how(config: Config, kind: Format, end: int) -> dict[str, str]:
    """Return what the card tells of the configuration as it is now."""
    sampling, budget, topic = config.sampling, config.budget, config.topics.training
    return {
        "format": str(kind),
        "source": f"{transports.where(config)}, group {config.transport.group}, topic {topic} up to offset {end}",
        "strategy": f"{sampling.strategy} on {sampling.uncertainty}, seed {sampling.seed} (as configured now)",
        "budget": f"at most {budget.share:%} of the events, {budget.audit_share:%} of it at random (as configured now)",
        "made by": f"streamal {__version__}",
    }


def _texts(config: Config) -> tuple[str, ...]:
    return tuple(name for name, kind in config.features.declared.items() if kind == "text")
