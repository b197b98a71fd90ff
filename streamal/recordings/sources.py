"""Which reader a source needs: by its type, or by the ending of its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from streamal.errors import ConfigError
from streamal.recordings.columns import parse_table
from streamal.recordings.exports import unpack_export
from streamal.recordings.findings import Findings
from streamal.recordings.formats.delimited import read_delimited
from streamal.recordings.formats.frames import frame_table, is_frame
from streamal.recordings.formats.json_rows import read_json
from streamal.recordings.formats.parquet import read_parquet
from streamal.recordings.formats.python_rows import read_data_set, read_rows
from streamal.recordings.records import parse_records
from streamal.recordings.rules import ReadingRules, Roles
from streamal.recordings.table import Parsed, Records, Table

__all__ = ["ENDINGS", "name_of", "parse_source"]

ENDINGS = ".csv, .tsv, .txt, .jsonl, .ndjson or .json (each also with .gz), or .parquet"
_DELIMITED = (".csv", ".tsv", ".tab", ".txt")
_JSON = (".jsonl", ".ndjson", ".json")
_RIVER = "river:"


def name_of(source: Any) -> str:
    """Return the name of *source* in a report."""
    return str(source) if isinstance(source, str | Path) else f"a {type(source).__name__}"


def parse_source(source: Any, roles: Roles, rules: ReadingRules, limit: int | None, findings: Findings) -> Parsed:
    """Return the typed rows of *source*, its first *limit* ones; see `read_stream`.

    Raises:
        ConfigError: it cannot be read.
    """
    raw = _read(source, roles, rules, limit, findings)
    if isinstance(raw, Table):
        return parse_table(unpack_export(raw, roles, findings), roles, rules, findings)
    return parse_records(raw, roles, rules, findings)


def _read(source: Any, roles: Roles, rules: ReadingRules, limit: int | None, findings: Findings) -> Table | Records:
    if isinstance(source, str) and source.startswith(_RIVER):
        return read_data_set(source.removeprefix(_RIVER), roles.label, limit, findings)
    if isinstance(source, str | Path):
        return _read_path(Path(source), roles, rules, limit, findings)
    if is_frame(source):
        return frame_table(source, roles, rules, limit, findings)
    if isinstance(source, Iterable) and not isinstance(source, bytes | Mapping):
        return read_rows(source, roles.label, limit, findings)
    raise ConfigError(f"{name_of(source)} is no stream: give a path, a data frame, or an iterator of dictionaries")


def _read_path(path: Path, roles: Roles, rules: ReadingRules, limit: int | None, findings: Findings) -> Table | Records:
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir():
        if not any(each.name.lower().endswith(".parquet") for each in path.rglob("*")):
            raise findings.error("it is a directory, and no .parquet file is in it")
        return read_parquet(path, roles, rules, limit, findings)
    if not path.is_file():
        raise findings.error("no such file")
    if name.endswith(_DELIMITED):
        return read_delimited(path, roles, rules, limit, findings)
    if name.endswith(_JSON):
        return read_json(path, rules, limit, findings)
    if path.name.lower().endswith((".parquet", ".pq")):
        return read_parquet(path, roles, rules, limit, findings)
    raise findings.error(f"the name must end in {ENDINGS}")
