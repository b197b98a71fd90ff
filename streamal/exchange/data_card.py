"""The data card of an exported file: what the file holds, how the labels were chosen, what they allow to conclude."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import assert_never

from streamal.core.budget.money import MICRO
from streamal.core.records import (
    Abstention,
    Closing,
    Example,
    Expiry,
    NaturalExample,
    Quarantine,
    SchemaSet,
    Training,
    WarmStart,
)

__all__ = ["LabelCounts", "data_card"]

_SHOWN_MAX = 50
"""Names in one table; the rest are counted together as "others"."""
_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the rows in the table of propensities."""
_CHUNK = 1 << 20


@dataclass(slots=True)
class LabelCounts:
    """Counts of the exported records; the memory they take depends on the number of names, not of records."""

    kinds: Counter[str] = field(default_factory=Counter)
    lanes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    natural: Counter[str] = field(default_factory=Counter)
    annotators: Counter[str] = field(default_factory=Counter)
    propensities: Counter[float] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    since: float = math.inf
    until: float = -math.inf
    propensity_min: float = math.inf
    weight: float = 0.0
    weights: float = 0.0
    seconds: float = 0.0
    timed: int = 0
    cost: int = 0

    def add(self, record: Training) -> None:
        """Count *record*."""
        self.kinds[record.kind] += 1
        self.since, self.until = min(self.since, record.at), max(self.until, record.at)
        match record:
            case Example():
                self.labels[record.label] += 1
                self.features.update(record.features.keys())
                self._add_propensity(record.propensity)
            case NaturalExample():
                self.natural[record.label] += 1
                self.features.update(record.features.keys())
            case Abstention() | Expiry() | SchemaSet() | WarmStart() | Quarantine():
                pass
            case _:
                assert_never(record)
        if record.closes_request:
            self._add_closing(record)

    def _add_closing(self, record: Closing) -> None:
        self.since = min(self.since, record.asked_at)
        self.lanes[str(record.lane)] += 1
        self.cost += record.cost
        if record.has_reply:
            self.annotators[record.annotator or "(unnamed)"] += 1
            if record.seconds is not None:
                self.seconds, self.timed = self.seconds + record.seconds, self.timed + 1

    def _add_propensity(self, propensity: float) -> None:
        if propensity > 0.0:
            self.propensities[next(bound for bound in _BOUNDS if propensity <= bound + 1e-12)] += 1
            self.propensity_min = min(self.propensity_min, propensity)
            self.weight += 1.0 / propensity
            self.weights += 1.0 / propensity**2


def data_card(counts: LabelCounts, path: Path, more: Mapping[str, str], currency: str) -> str:
    """Return the data card of the file *path* in Markdown; *more* are further facts, name -> value."""
    rows = sum(counts.kinds.values())
    facts = {
        "file": f"`{path.name}`, {path.stat().st_size:,} bytes, SHA-256 `{_digest(path)}`",
        "rows": f"{rows:,}",
        "period": f"{_date(counts.since)} to {_date(counts.until)} (UTC)" if rows else "-",
        **more,
    }
    answered, expired = counts.kinds["example"] + counts.kinds["abstention"], counts.kinds["expiry"]
    if counts.cost:
        facts["cost"] = f"{counts.cost / MICRO:,.2f} {currency}"
    if counts.timed:
        facts["work"] = (
            f"{counts.seconds / counts.timed:,.1f} seconds per answer ({counts.timed:,} of {answered:,} timed)"
        )
    if answered + expired and expired + counts.kinds["abstention"]:
        share = (expired + counts.kinds["abstention"]) / (answered + expired)
        facts["without a label"] = f"{share:.1%} of the closed requests: what no figure from this file can see"
    parts = [
        f"# Labels of `{path.name}`",
        _table(("", ""), [(name, _cell(value)) for name, value in facts.items()]),
        "## What it holds",
        _counts("record", counts.kinds),
        _counts("class", counts.labels, "labels that were asked for"),
        _counts("class", counts.natural, "natural labels"),
        _counts("annotator", counts.annotators, "answers"),
        _counts("feature", counts.features, "examples that have it"),
        "## How it was chosen",
        _HOW,
        _counts("lane", counts.lanes, "closed requests"),
        _propensities(counts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_HOW = """\
The labels are **not** a random sample: they were asked for where the model was in doubt. Each row carries its
`propensity`, the probability with which its event was to be asked when it came. Weigh a row by 1 / `propensity`
to speak of all events; unweighted, any accuracy or class share is biased. Rows of the lane `audit` are a random
sample by themselves. Natural labels came by themselves and have no propensity; keep them apart. Whether an annotator
answered is assumed not to depend on whether the model was right."""


def _propensities(counts: LabelCounts) -> str:
    if not counts.propensities:
        return ""
    bounds = [0.0, *_BOUNDS]
    rows = [
        (f"{low:g} to {high:g}", f"{counts.propensities[high]:,}")
        for low, high in pairwise(bounds)
        if counts.propensities[high]
    ]
    effective = counts.weight**2 / counts.weights
    table = _table(("propensity", "labels"), rows)
    return (
        f"{table}\n\nThe least is {counts.propensity_min:.6g}. Weighted, the labels stand "
        f"for about {counts.weight:,.0f} events, and are worth as much as {effective:,.0f} drawn at random (Kish)."
    )


def _counts(what: str, counts: Counter[str], unit: str = "rows") -> str:
    if not counts:
        return ""
    shown = counts.most_common(_SHOWN_MAX)
    rows = [(f"`{_cell(name)}`", f"{count:,}") for name, count in shown]
    if len(counts) > _SHOWN_MAX:
        left = counts.total() - sum(count for _, count in shown)
        rows.append((f"{len(counts) - _SHOWN_MAX:,} others", f"{left:,}"))
    return _table((what, unit), rows)


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _cell(text: str) -> str:
    """Return *text* for a cell: names come from the stream, and may hold whatever ends one."""
    return " ".join(text.split()).replace("|", "\\|")


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            digest.update(part)
    return digest.hexdigest()
