"""Small untidy recordings, made by functions: the same weather in every form that files come in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamal.core.coins import HashedUniform

__all__ = ["csv_text", "json_text", "weather", "with_column", "written"]

Row = dict[str, Any]


def weather(count: int = 400) -> list[Row]:
    """Return rows of temp, humidity, wind and label: mostly "wet" where it is humid and cold."""
    coin = HashedUniform(5, "weather")
    rows: list[Row] = []
    for number in range(count):
        temp, humidity, noise = (coin.uniform(f"{number} {what}") for what in ("temp", "humidity", "noise"))
        wet = (humidity - 0.4 * temp > 0.3) != (noise < 0.07)
        wind = "NESW"[int(4 * coin.uniform(f"{number} wind"))]
        rows.append(
            {
                "temp": round(20 * temp, 2),
                "humidity": round(100 * humidity, 1),
                "wind": wind,
                "label": "wet" if wet else "dry",
            }
        )
    return rows


def with_column(rows: Sequence[Row], name: str, make: Callable[[int, Row], Any]) -> list[Row]:
    """Return *rows* with the column *name* that *make* gives for number and row, in its place or at the front."""
    if name in rows[0]:
        return [{**row, name: make(number, row)} for number, row in enumerate(rows)]
    return [{name: make(number, row), **row} for number, row in enumerate(rows)]


def csv_text(rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> str:
    """Return *rows* as CSV without any quotes; None is blank."""
    lines = [delimiter.join(rows[0])]
    lines += [delimiter.join("" if value is None else str(value) for value in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


def json_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return *rows* as JSON lines; a float that is not finite becomes Python's token for it."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(directory: Path, name: str, content: str | bytes) -> Path:
    """Return the path of a new file with this *content*."""
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
