"""``streamal export``: the training log for other tools."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec
import typer

from streamal.cli import parts
from streamal.cli.options import ConfigPath, Overrides
from streamal.config import load_config
from streamal.core.records import Refusal
from streamal.core.wire import decode_training
from streamal.errors import ConfigError
from streamal.ports import Log, scan

__all__ = ["command"]

_LEARNED = ("example", "natural")


class Format(StrEnum):
    """How the export is written."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


def command(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; standard output without.")] = None,
    kind: Annotated[Format | None, typer.Option("--format", "-f", help="By default from the file's name.")] = None,
    examples_only: Annotated[bool, typer.Option("--examples", help="Leave out abstentions, expiries, schema.")] = False,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
) -> None:
    """Export the training log: every example with its label, propensity and annotator, and how others were closed.

    In CSV and Parquet each feature is a column ``features.NAME``.

    ```text
    streamal export -o labels.parquet
    streamal export --examples | jq -r .label | sort | uniq -c
    ```
    """
    loaded = load_config(config, overrides or ())
    kind = kind or _format_of(output)
    log = parts.open_log(loaded)
    try:
        rows = _rows(log, loaded.topics.training, examples_only)
        if kind is Format.PARQUET:
            _parquet(rows, output)
        elif output is None:
            _text(rows, kind, sys.stdout)
        else:
            with output.open("w", encoding="utf-8", newline="") as file:
                _text(rows, kind, file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"--output {output}: {error.strerror or error}") from error
    finally:
        log.close()


def _format_of(output: Path | None) -> Format:
    suffix = Format.JSONL if output is None else output.suffix.removeprefix(".")
    if suffix not in set(Format):
        raise ConfigError(f"--output {output}: end its name in .jsonl, .csv or .parquet, or give --format")
    return Format(suffix)


def _rows(log: Log, topic: str, examples_only: bool) -> Iterator[dict[str, Any]]:
    for record in scan(log, topic, 0):
        training = decode_training(record.value)
        if isinstance(training, Refusal):
            typer.echo(f"streamal: training offset {record.offset} is not ours: {training.detail}", err=True)
            continue
        row: dict[str, Any] = {"offset": record.offset, **msgspec.to_builtins(training)}
        if row["kind"] in _LEARNED or not examples_only:
            yield row


def _text(rows: Iterator[dict[str, Any]], kind: Format, file: TextIO) -> None:
    if kind is Format.JSONL:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return
    table = [_flat(row) for row in rows]
    columns = dict.fromkeys(column for row in table for column in row)
    writer = csv.DictWriter(file, list(columns), restval="")
    writer.writeheader()
    writer.writerows(table)


def _parquet(rows: Iterator[dict[str, Any]], output: Path | None) -> None:
    if output is None:
        raise ConfigError("--format parquet: give the file with --output")
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError("--format parquet needs pyarrow: pip install 'streamal[parquet]'") from error
    table = [_flat(row) for row in rows]
    columns = dict.fromkeys(column for row in table for column in row)
    # a column comes from every row, not from the first one: pyarrow would drop what that one lacks
    arrays = {}
    for column in columns:
        values = [row.get(column) for row in table]
        try:
            arrays[column] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # an id, or a feature before its schema: now a number, now a text
            arrays[column] = pa.array([None if value is None else str(value) for value in values])
    parquet.write_table(pa.table(arrays), output)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return *row* with one column per feature; a schema record's features stay JSON."""
    features = row.pop("features", None)
    if row["kind"] not in _LEARNED:
        return row if features is None else {**row, "schema": json.dumps(features)}
    return {**row, **{f"features.{name}": value for name, value in features.items()}}
