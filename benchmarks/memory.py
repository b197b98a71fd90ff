"""Resident memory of the production loop over millions of events, and what producers who make up names can do to it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.core_loop import Case, as_records
from benchmarks.endless import Endless, daemon_over
from benchmarks.results import Result, Table, Target, machine, run_isolated
from streamal.core.snapshot import encode_snapshot

_GROWTH_MAX = 0.10
_POOL = 10_000
_NAMES_IN_AN_EVENT = 100
_STEP = 500
_EVERY = 10
_QUIET, _LONG = 5_000, 200_000
_NOISE = 0.01
_HONEST = "not there: honest events instead"
_UNKNOWN = {_HONEST: "drop", "dropped (the default)": "drop", "refused": "refuse"}


def memory(early: int, late: int, forged: int) -> Result:
    """Return resident memory after *early* and *late* events, and before and after *forged* names."""
    found = machine()
    settings: dict[str, dict[str, object]] = {
        "as configured by default": {},
        "limits.closed_requests = 10000": {"limits.closed_requests": 10_000},
    }
    rows, targets = [], []
    for name, more in settings.items():
        first, second, learned = run_isolated(measure_resident, more, early, late)
        grown = second / first - 1.0
        rows.append([name, f"{first:.1f}", f"{second:.1f}", f"{grown:+.1%}", f"{learned:,}"])
        targets.append(
            Target(f"memory, {name}", f"within {_GROWTH_MAX:.0%}", f"{grown:+.1%}", abs(grown) <= _GROWTH_MAX)
        )
    columns = ["", f"MB after {early:,} events", f"MB after {late:,}", "grown by", "labels learned"]
    grown_table = Table(
        "Resident memory",
        columns,
        rows,
        "What grows is the memory of closed requests, which tells a duplicate or late reply from an unknown one: "
        "limits.closed_requests of them, full after ten times as many events where a tenth is asked.",
    )
    forged_rows, forged_targets = _forged(forged)
    return Result(
        "memory",
        "Memory",
        "The production loop (`daemon.py`: poll, step, commit, fold, gauges) over events that never end and outputs "
        "that nobody keeps; a tenth asked, answered and learned. Then a producer sends names that no schema knows, "
        f"{_NAMES_IN_AN_EVENT} in every tenth event, each of them new.",
        [
            grown_table,
            Table(
                f"{forged:,} feature names that nobody declared",
                ["events with them are", "MB before", "MB after", "grown by", "scrape bytes before", "after", "fold"],
                forged_rows,
                "The scrape may differ by digits of its counters, not by series. The fold is its snapshot's "
                "size; what it grows by are the closed requests of the events between.",
            ),
        ],
        targets + forged_targets,
        machine=found,
    )


def _forged(names: int) -> tuple[list[list[str]], list[Target]]:
    """Return rows and targets, compared with the change that as many honest events cause."""
    rows, targets, usual = [], [], 0.0
    for what, unknown in _UNKNOWN.items():
        honest = what == _HONEST
        before, after = run_isolated(measure_attack, unknown, names, honest=honest)
        grown = after.resident_mb / before.resident_mb - 1.0
        rows.append(
            [
                what,
                f"{before.resident_mb:.1f}",
                f"{after.resident_mb:.1f}",
                f"{grown:+.1%}",
                f"{before.scrape_bytes:,} in {before.series} series",
                f"{after.scrape_bytes:,} in {after.series}",
                f"{before.fold_bytes:,} → {after.fold_bytes:,} bytes",
            ]
        )
        if honest:
            usual = grown
            continue
        target = f"{names:,} forged names, {what}: neither memory nor scrape"
        found = f"{grown:+.1%} memory, {after.series - before.series:+} series"
        reached = grown - usual <= _NOISE and after.series == before.series
        targets.append(Target(target, f"as honest events, {usual:+.1%}, and no new series", found, reached))
    return rows, targets


def measure_resident(more: dict[str, object], early: int, late: int) -> tuple[float, float, int]:
    """Return MB after *early* events and after *late*, and how many labels were learned; to be run in a process."""
    case = Case()
    rows, labels = case.events(_POOL)
    config = case.config(**more)
    transport = Endless(config, as_records(rows), labels)
    daemon, _ = daemon_over(config, transport)
    del rows
    daemon.start()
    gc.freeze()
    done, marks = 0, []
    for mark in (early, late):
        while done < mark:
            done += daemon.tick()
        marks.append(resident_mb())
    return marks[0], marks[1], transport.learned


class Footprint(msgspec.Struct, array_like=True):
    """The sizes that a producer could try to grow."""

    resident_mb: float
    scrape_bytes: int
    series: int
    fold_bytes: int


def measure_attack(unknown: str, names: int, *, honest: bool) -> tuple[Footprint, Footprint]:
    """Return the sizes before and after that many forged names (*honest*: as many events without forged names)."""
    case = Case()
    rows, labels = case.events(_POOL)
    config = case.config(**{"features.unknown": f'"{unknown}"'})
    usual = as_records(rows)
    transport = Endless(config, usual, labels)
    daemon, measured = daemon_over(config, transport)

    def footprint() -> Footprint:
        for _ in range(_QUIET // _STEP):
            daemon.tick()
        page = measured.render()
        series = sum(not line.startswith(b"#") for line in page.splitlines())
        return Footprint(resident_mb(), len(page), series, len(encode_snapshot(daemon.fold, "")))

    daemon.start()
    for _ in range(_LONG // _STEP):
        daemon.tick()
    before = footprint()
    for first in range(0, names, _NAMES_IN_AN_EVENT * _STEP // _EVERY):
        transport.values = usual if honest else mix_rows(usual, rows[0], first)
        daemon.tick()
    transport.values = usual
    return before, footprint()


def mix_rows(usual: Sequence[bytes], row: dict[str, Any], first: int) -> list[bytes]:
    """Return a step of events, every tenth with new names, numbered from *first*, beside the features of *row*."""
    values = list(usual[:_STEP])
    for number in range(0, _STEP, _EVERY):
        begin = first + number // _EVERY * _NAMES_IN_AN_EVENT
        made = {f"forged-{name}": 1.0 for name in range(begin, begin + _NAMES_IN_AN_EVENT)}
        values[number] = msgspec.json.encode({"features": {**row, **made}})
    return values


def resident_mb() -> float:
    """Return the resident memory of this process (Linux)."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
