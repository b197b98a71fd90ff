"""RESULTS.md and its picture, out of benchmarks/results/*.json: nothing on the page is written by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.results import DIRECTORY, Result, Table, load
from streamal import INSTALL

PAGE = DIRECTORY.with_name("RESULTS.md")
PICTURE = DIRECTORY / "cost.svg"
ORDER = (
    "engine",
    "vectors",
    "transports",
    "kafka",
    "kafka-vectors",
    "peers",
    "overhead",
    "growth",
    "memory",
    "scrape",
    "start",
    "recordings",
)
"""The commands, as they come on the page."""
_OWN = ("taken", "load before")
"""Keys that may differ between the machines of two results."""
_BAR_MAX_US = 120.0
"""Longer bars are cut off, and say so."""
_INTRODUCTION = """\
# Benchmarks

Made by `python -m benchmarks page` from the last result of each command; nothing here is written by hand. Each command
lets its contestants take turns in one run, several times, and shows medians; "×" is the median of the ratios of each
turn. CPU is the processor time of the measured processes. Read ratios rather than single figures: the same operation
costs up to twice as much when something else runs, which the load (of the last minute, before the run) tells.

```text
{install}    # whoever is missing is left out, and named
python -m benchmarks {names}
python -m benchmarks page    # or all of it at once: python -m benchmarks all
```
"""


def write(results: Mapping[str, Result] | None = None) -> None:
    """Write the page and, where matplotlib is, its picture."""
    found = load() if results is None else results
    PAGE.write_text(page(found))
    draw({label: us for name in ORDER if name in found for label, us in found[name].bars.items()}, PICTURE)


def page(results: Mapping[str, Result]) -> str:
    """Return the page as Markdown."""
    ordered = [results[name] for name in ORDER if name in results]
    names = " | ".join(result.name for result in ordered)
    return "\n".join(
        [
            _INTRODUCTION.format(names=names, install=INSTALL.format(extra="benchmarks,confluent,plot")),
            f"![What an event costs]({PICTURE.relative_to(PAGE.parent)})",
            "",
            *_targets(ordered),
            *_left_out(ordered),
            *_machine(ordered),
            *(line for result in ordered for line in _section(result)),
        ]
    )


def _targets(results: list[Result]) -> Iterator[str]:
    """Yield what was to be reached, the missed first."""
    every = [(result, target) for result in results for target in result.targets]
    missed = sum(not target.reached for _, target in every)
    yield from ["## Targets", "", f"{len(every) - missed} reached, {missed} missed.", ""]
    rows = []
    for result, target in sorted(every, key=lambda each: each[1].reached):
        verdict, link = "reached" if target.reached else "**missed**", f"[{result.name}](#{_anchor(result.title)})"
        rows.append([verdict, link, target.what, target.wanted, target.found])
    yield from _markdown(Table("", ["", "benchmark", "what", "target", "found"], rows))


def _left_out(results: list[Result]) -> Iterator[str]:
    left_out = {peer: reason for result in results for peer, reason in result.left_out.items()}
    if left_out:
        yield from ["## Left out", "", *(f"* {peer}: {reason}" for peer, reason in left_out.items()), ""]


def _machine(results: list[Result]) -> Iterator[str]:
    """Yield on what it was taken, and when each of them."""
    if not results:
        return
    common: dict[str, dict[str, None]] = {}
    for key, value in (each for result in results for each in result.machine.items()):
        if key not in _OWN:
            common.setdefault(key, {})[value] = None
    yield from ["## The machine", ""]
    yield from _markdown(Table("", ["", ""], [[key, " or ".join(values)] for key, values in common.items()]))
    rows = [[f"`python -m benchmarks {each.name}`", *(each.machine.get(key, "") for key in _OWN)] for each in results]
    yield from _markdown(Table("", ["command", *_OWN], rows))


def _section(result: Result) -> Iterator[str]:
    yield from [f"## {result.title}", "", f"`python -m benchmarks {result.name}`. {result.meaning}", ""]
    for table in result.tables:
        yield from [f"**{table.title}**", ""]
        yield from _markdown(table)
        if table.note:
            yield from [table.note, ""]


def _markdown(table: Table) -> Iterator[str]:
    yield _line(table.columns)
    yield "|" + "---|" * len(table.columns)
    yield from map(_line, table.rows)
    yield ""


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _anchor(title: str) -> str:
    """Return the fragment of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def draw(bars: Mapping[str, float], path: Path) -> bool:
    """Draw a bar for each label, in CPU microseconds of an event; return False where matplotlib is not installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return False
    labels = list(bars)[::-1]
    with mpl.rc_context({"svg.hashsalt": "streamal", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 0.8 + 0.28 * len(bars)), layout="constrained")
        axes = figure.subplots()
        colours = ["#1f5fa8" if "streamal" in label else "#b0b0b0" for label in labels]
        drawn = axes.barh(labels, [min(bars[label], _BAR_MAX_US) for label in labels], color=colours)
        told = [f"{bars[label]:,.0f}" + (" (cut off)" if bars[label] > _BAR_MAX_US else "") for label in labels]
        axes.bar_label(drawn, told, padding=3)
        axes.set(title="What an event costs (less is better)", xlabel="CPU microseconds of an event")
        axes.set_xlim(0, 1.2 * min(_BAR_MAX_US, max(bars.values(), default=1.0)))
        axes.grid(visible=True, axis="x", alpha=0.3)
        figure.savefig(path, metadata={"Date": None})
    return True
