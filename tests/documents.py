"""The tables of docs/reference, made from the code: ``python -m tests.documents`` writes the pages anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from streamal.edge.metrics import METRICS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "config.toml"


def config_rows() -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, meaning) from the commented reference; a key in a comment has no default."""
    section = ""
    for line in REFERENCE.read_text().splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            section = header[1]
        elif row := re.match(r"(# )?(\w+) = (.+?)(?:\s+# (.+))?$", line):
            yield f"{section}.{row[2]}", "" if row[1] else row[3], row[4] or ""


def config_table() -> str:
    """Return the table of all configuration keys."""
    rows = (
        f"| `{key}` | {f'`{default}`' if default else '-'} | {_cell(text)} |" for key, default, text in config_rows()
    )
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def metrics_table() -> str:
    """Return the table of all metrics."""
    rows = (
        f"| `{metric.exported}{f'{{{metric.label}}}' if metric.label else ''}` | {metric.type} | {_cell(metric.help)} |"
        for metric in METRICS
    )
    return "\n".join(["| metric | type | meaning |", "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    from tests.reference import pages

    for path, text in pages(config_table(), metrics_table()).items():
        path.write_text(text)
    sys.stdout.write(f"{ROOT / 'docs/reference'} is up to date\n")
