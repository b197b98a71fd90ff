"""Tells whether the events in a file of JSON lines are flat objects, or have their features apart."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamal.recordings.findings import Findings
from streamal.recordings.formats.json_rows import read_lines
from streamal.recordings.rules import ReadingRules

__all__ = ["is_flat_json"]


def is_flat_json(source: str) -> bool:
    """Return whether the first line of the file *source* is a JSON object without an object ``features`` in it."""
    path = Path(source)
    if not source.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")) or not path.is_file():
        return False
    lines = read_lines(path, ReadingRules(), Findings(source))
    try:
        first = msgspec.json.decode(next((line for line in lines if line.strip()), b""))
    except msgspec.MsgspecError:
        return False
    return isinstance(first, dict) and not isinstance(first.get("features"), dict)
