"""Parquet files, and directories of them, as a `Table`: only the columns that are used are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from streamal import INSTALL
from streamal.recordings.account import Column
from streamal.recordings.findings import Findings
from streamal.recordings.formats.frames import frame_table, require_distinct
from streamal.recordings.rules import ReadingRules, Roles
from streamal.recordings.table import Table

__all__ = ["read_parquet"]


def read_parquet(path: Path, roles: Roles, rules: ReadingRules, limit: int | None, findings: Findings) -> Table:
    """Return the used columns of the Parquet file or directory *path*.

    Raises:
        ConfigError: pyarrow is missing, or the file cannot be read.
    """
    try:
        from pyarrow import dataset, parquet  # noqa: PLC0415
    except ImportError as error:
        raise findings.error(f"Parquet needs pyarrow: {INSTALL.format(extra='parquet')}") from error
    try:
        if path.is_file():
            require_distinct(parquet.read_schema(path).names, findings)  # a data set would not say which name
        source: Any = dataset.dataset(path, format="parquet", partitioning="hive" if path.is_dir() else None)
        names = list(source.schema.names)
        used = [name for name in names if roles.is_used(name, rules)]
        table = source.to_table(columns=used) if limit is None else source.head(limit, columns=used)
    except (OSError, ValueError, NotImplementedError, LookupError, TypeError) as error:  # pyarrow's errors are these
        raise findings.error(f"{error}".splitlines()[0] if f"{error}" else type(error).__name__) from error
    found = frame_table(table, roles, rules, None, findings)
    unused = (Column(name, roles.of_unused(name)) for name in names if name not in used)
    return replace(found, names=names, outside=(*unused, *found.outside))
