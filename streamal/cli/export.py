"""``streamal export``: the training log, as files for other tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from streamal import __version__
from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names
from streamal.cli.console import data_stream, echo
from streamal.cli.options import ConfigPath, Overrides
from streamal.config import Config, load_config
from streamal.core.records import Training
from streamal.errors import ConfigError
from streamal.exchange.data_card import LabelCounts, data_card
from streamal.exchange.rows import Columns, Row, flatten, training_rows
from streamal.exchange.writers import Format, format_of, write_parquet, write_text
from streamal.ports import Log

__all__ = ["command"]


def command(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; by default standard output.")] = None,
    kind: Annotated[Format | None, typer.Option("--format", "-f", help="By default from the file's name.")] = None,
    examples_only: Annotated[bool, typer.Option("--examples", help="Leave out abstentions, expiries, schema.")] = False,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
) -> None:
    """Export the training log: examples with label, propensity and annotator; abstentions, expiries, schema.

    Beside a file the command writes its data card, FILE.card.md: period, strategy, propensities, annotators, counts.
    Label Studio imports its JSON (.json), and `streamal import` reads it back.

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
    """Read the log twice: first for the columns and the card, then to write the same records."""
    topic, texts = topic_names(config).training, _texts(config)
    end = log.end(topic, 0)
    foreign: list[str] = []

    def read() -> Iterator[tuple[Row, Training]]:
        foreign.clear()
        return training_rows(log, topic, examples_only, end, foreign)

    columns, counts = Columns(), LabelCounts()
    if output is not None or kind is Format.CSV:
        for row, record in read():
            columns.add(flatten(row))
            counts.add(record)
    if output is None:
        write_text(read(), kind, columns, texts, data_stream())
    elif kind is Format.PARQUET:
        write_parquet(read(), columns, output)
    else:
        with output.open("w", encoding="utf-8", newline="") as file:
            write_text(read(), kind, columns, texts, file)
    for line in foreign:
        echo(f"streamal: {line}", err=True)
    if output is not None:
        card = data_card(counts, output, _provenance(config, kind, end), config.budget.currency)
        output.with_name(f"{output.name}.card.md").write_text(card, encoding="utf-8")


def _provenance(config: Config, kind: Format, end: int) -> dict[str, str]:
    """Return the card's facts about the source and the present configuration."""
    sampling, budget, topic = config.sampling, config.budget, config.topics.training
    where = transports.describe_transport(config)
    return {
        "format": str(kind),
        "source": f"{where}, group {config.transport.group}, topic {topic} up to offset {end}",
        "strategy": f"{sampling.strategy} on {sampling.uncertainty}, seed {sampling.seed} (as configured now)",
        "budget": f"at most {budget.share:%} of the events, {budget.audit_share:%} of it at random (as configured now)",
        "made by": f"streamal {__version__}",
    }


def _texts(config: Config) -> tuple[str, ...]:
    return tuple(name for name, kind in config.features.declared.items() if kind == "text")
