"""How long it takes to read a clean recording, beside the plainest loop that ends with the same rows."""

from __future__ import annotations

import csv
import json
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Result, Table, Target, cpu_us, interleave, machine, ratio
from streamal.recordings.reading import read_stream

_NUMBERS = 8
_SPEED_MIN = 0.8
"""Of the loop by hand, which is what the reader did before it was strict."""


def read_recordings(rows: int, repetitions: int) -> Result:
    """Return the microseconds a row of a clean CSV, and of the same rows as JSON lines."""
    found = machine()
    with tempfile.TemporaryDirectory() as directory:
        table, lines = _write(Path(directory), rows)
        times = interleave(
            {
                "csv.DictReader and float() by hand": lambda: cpu_us(lambda: _by_hand(table), rows),
                "read_stream, CSV": lambda: cpu_us(lambda: read_stream(table, "label"), rows),
                "read_stream, CSV with --time": lambda: cpu_us(lambda: read_stream(table, "label", time="when"), rows),
                "read_stream, JSON lines": lambda: cpu_us(lambda: read_stream(lines, "label"), rows),
            },
            repetitions,
        )
    base = times["csv.DictReader and float() by hand"]
    cells = [[name, f"{median(each):.1f}", f"{ratio(each, base):.2f}"] for name, each in times.items()]
    speed = 1.0 / ratio(times["read_stream, CSV"], base)
    return Result(
        "recordings",
        "Reading a recording",
        f"{rows:,} rows of {_NUMBERS} numbers, a time, a class of three and a label, all of them clean.",
        [
            Table(
                "",
                ["", "CPU µs a row", "× by hand"],
                cells,
                "The loop by hand checks nothing, and says nothing.",
            )
        ],
        [
            Target(
                "a clean CSV, in rows per CPU second",
                f">= {_SPEED_MIN} of the loop by hand",
                f"{speed:.2f}",
                speed >= _SPEED_MIN,
            )
        ],
        machine=found,
    )


def _write(directory: Path, rows: int) -> tuple[Path, Path]:
    coin = random.Random(1)
    names = [f"x{number}" for number in range(_NUMBERS)]
    table, lines = directory / "s.csv", directory / "s.jsonl"
    with table.open("w", newline="") as file, lines.open("w") as other:
        writer = csv.writer(file)
        writer.writerow(["when", *names, "colour", "label"])
        for number in range(rows):
            numbers = [round(coin.gauss(0.0, 1.0), 5) for _ in names]
            row: Mapping[str, Any] = {
                "when": 1_700_000_000 + number,
                **dict(zip(names, numbers, strict=True)),
                "colour": coin.choice(["red", "green", "blue"]),
                "label": coin.choice("ab"),
            }
            writer.writerow(row.values())
            other.write(json.dumps(row) + "\n")
    return table, lines


def _by_hand(path: Path) -> list[tuple[dict[str, float | str], str]]:
    """Read a column as numbers if all its cells are some."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    numeric = [name for name in rows[0] if name != "label" and all(_number(row[name]) is not None for row in rows)]
    others = [name for name in rows[0] if name not in {*numeric, "label"}]
    return [
        ({**{name: float(row[name]) for name in numeric}, **{name: row[name] for name in others}}, row["label"])
        for row in rows
    ]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
