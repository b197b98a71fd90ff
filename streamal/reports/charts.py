"""The pictures of a report, by matplotlib (the extra ``plot``): readable in black and white and by colour-blind people.

Arms differ by colour (the palette of Okabe and Ito), by line style and by marker; bars by hatching.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamal import INSTALL
from streamal.errors import ConfigError
from streamal.experiments.summaries import ALL, CONTROL
from streamal.reports.study import ARMS_MAX, Study

__all__ = ["PANELS", "Panel", "data_uri", "save_panels"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
assert len(_COLOURS) == len(_LINES) == len(_MARKERS) == ARMS_MAX
_SETTINGS: Any = {"svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture of the report: *draw* fills a figure of that size (inches) from a study."""

    key: str
    title: str
    caption: str
    draw: Callable[[Study, Any], None]
    height: float = 4.0


def data_uri(panel: Panel, study: Study) -> str:
    """Return the picture as the address of an ``<img>``: an SVG that stands in the address itself.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    content = io.BytesIO()
    _save(_draw(panel, study), content, "svg", panel.key)
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def save_panels(directory: Path, study: Study) -> None:
    """Draw every picture into *directory*, as SVG and as PNG.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for panel in PANELS:
        figure = _draw(panel, study)
        for suffix in ("svg", "png"):
            _save(figure, directory / f"{panel.key}.{suffix}", suffix, panel.key)


def _draw(panel: Panel, study: Study) -> Any:
    """Return the figure of *panel*."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  (an extra, and it takes a second)
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"the report needs matplotlib: {INSTALL.format(extra='plot')}") from error
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(9, panel.height), layout="constrained")
        panel.draw(study, figure)
    return figure


def _save(figure: Any, target: Any, suffix: str, key: str) -> None:
    import matplotlib as mpl  # noqa: PLC0415  (an extra)

    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": key}):  # the same ids each time
        figure.savefig(target, format=suffix, dpi=120, metadata={"Date": None} if suffix == "svg" else None)


# The pictures.


def _style(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _LINES[number % len(_LINES)],
        "marker": _MARKERS[number % len(_MARKERS)],
    }


def _finish(axes: Any, study: Study, xlabel: str, ylabel: str | None = None) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel or study.name)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="best")


def _level(axes: Any, value: float, name: str, style: Any) -> None:
    axes.axhline(value, color="black", linewidth=1, linestyle=style, label=f"{name}: {value:.3f}")


def _cost(study: Study, figure: Any) -> None:
    axes, rows = figure.subplots(), study.summaries()
    names = list(dict.fromkeys(study.label(row) for row in rows if not row.arm.startswith(ALL)))
    for number, name in enumerate(names):
        line = [row for row in rows if study.label(row) == name]
        shares, values, spread = zip(*((100 * row.share, row.value, row.sd) for row in line), strict=True)
        axes.errorbar(shares, values, yerr=spread, capsize=3, label=name, **_style(number))
    full = next(row for row in rows if row.arm == ALL)
    _level(axes, full.value, "all labels", "-")
    if study.baselines.no_change > min(row.value for row in rows) - 0.15:  # else it would flatten the rest
        _level(axes, study.baselines.no_change, "the label before", ":")
    if study.wanted is not None:
        _level(axes, study.wanted, "wanted", "--")
    if study.recommended is not None:
        row = next(row for row in rows if (row.arm, row.budget) == study.recommended)
        axes.plot([100 * row.share], [row.value], "o", markersize=16, markerfacecolor="none", markeredgecolor="black")
        axes.annotate(
            f"recommended: {row.budget:.3g}", (100 * row.share, row.value), (8, -18), textcoords="offset points"
        )
    axes.set_xscale("log")
    budgets = sorted({100 * row.budget for row in rows if not row.arm.startswith(ALL)})
    axes.set_xticks(budgets, [f"{budget:.3g}" for budget in budgets], minor=False)
    axes.set_xticks([], minor=True)
    _finish(axes, study, "labels, % of the events")


def _curves(study: Study, figure: Any) -> None:
    by_labels, by_time = figure.subplots(1, 2, sharey=True)
    for number, run in enumerate(study.main_runs()):
        values = [study.value(point) for point in study.curve(run)]
        style = {**_style(number), "markevery": 0.2, "markersize": 4}
        by_labels.plot([point.requests for point in study.curve(run)], values, label=study.label(run), **style)
        by_time.plot([point.events for point in study.curve(run)], values, label=study.label(run), **style)
    by_labels.set_xscale("symlog", linthresh=10)
    _finish(by_labels, study, "labels asked so far", f"{study.name} so far")
    _finish(by_time, study, "events so far", f"{study.name} so far")


def _strategies(study: Study, figure: Any) -> None:
    axes, rows = figure.subplots(), [row for row in study.summaries() if not row.arm.startswith(ALL)]
    names = list(dict.fromkeys(study.label(row) for row in rows))
    budgets = sorted({row.budget for row in rows})
    for number, name in enumerate(names):
        line = [row for row in rows if study.label(row) == name]
        x = [budgets.index(row.budget) + (number - (len(names) - 1) / 2) * 0.8 / len(names) for row in line]
        style = {**_style(number), "linestyle": "none"}
        axes.errorbar(x, [row.value for row in line], yerr=[row.sd for row in line], capsize=3, label=name, **style)
    axes.set_xticks(range(len(budgets)), [f"{100 * budget:.3g} %" for budget in budgets])
    _finish(axes, study, "budget")


def _over_time(study: Study, figure: Any) -> None:
    axes, runs = figure.subplots(), study.main_runs()
    for number, run in enumerate(runs):
        style = {**_style(number), "markevery": 0.2, "markersize": 4}
        axes.plot(
            [p.events for p in study.curve(run)], [p.rolling for p in study.curve(run)], label=study.label(run), **style
        )
    for i, event in enumerate(runs[-1].drifts):
        axes.axvline(event, color="black", linewidth=0.8, alpha=0.6, ymax=0.06, label="" if i else "drift (ADWIN)")
    _finish(axes, study, "events", "accuracy over a sliding window")


def _spending(study: Study, figure: Any) -> None:
    run = study.main_runs()[0]
    by_doubt, by_class, by_time = figure.subplots(1, 3)
    classes = sorted(run.spending.classes.items(), key=lambda item: -item[1][0])[:12]
    bars: list[tuple[Any, list[str], list[tuple[int, int]], str]] = [
        (
            by_doubt,
            [f".{i}" for i in range(len(run.spending.uncertainty))],
            run.spending.uncertainty,
            "uncertainty, from",
        ),
        (by_class, [label[:10] for label, _ in classes], [counts for _, counts in classes], "true class"),
        (by_time, [str(i + 1) for i in range(len(run.spending.time))], run.spending.time, "tenth of the stream"),
    ]
    for axes, names, counts, xlabel in bars:
        events, asked = (max(1, sum(count[i] for count in counts)) for i in (0, 1))
        x = range(len(names))
        axes.bar([i - 0.2 for i in x], [100 * c[0] / events for c in counts], 0.4, color="#BBBBBB", label="events")
        axes.bar(
            [i + 0.2 for i in x], [100 * c[1] / asked for c in counts], 0.4, color=_COLOURS[0], hatch="//",
            edgecolor="white", label="labels",
        )  # fmt: skip
        axes.set_xticks(list(x), names, rotation=90 if max(map(len, names)) > 3 else 0, fontsize=8)
        _finish(axes, study, xlabel, "% of all" if axes is by_doubt else " ")


def _estimated(study: Study, figure: Any) -> None:
    axes = figure.subplots()
    asking = [run for run in study.runs if run.estimated and not run.arm.startswith(ALL)]
    ends: list[float] = [0.0, 1.0] if not asking else []
    for number, name in enumerate(dict.fromkeys(study.label(run) for run in asking)):
        runs = [run for run in asking if study.label(run) == name]
        values = [run.estimated or (0.0, 0.0, 0.0) for run in runs]
        below = [max(0.0, value - low) for value, low, _ in values]
        above = [max(0.0, high - value) for value, _, high in values]
        style = {**_style(number), "linestyle": "none"}
        x, y = [run.accuracy for run in runs], [value for value, _, _ in values]
        axes.errorbar(x, y, yerr=[below, above], capsize=2, markersize=4, linewidth=0.8, label=name, **style)
        ends += [*x, *y]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="black", linewidth=1, label="equal")
    _finish(axes, study, "true accuracy, of all events", "as streamal estimates it, 95 %")


def _cold_start(study: Study, figure: Any) -> None:
    axes = figure.subplots()
    for number, run in enumerate(study.main_runs()):
        early = [point for point in study.curve(run) if point.events <= run.events // 10]
        style = {**_style(number), "markevery": 0.1, "markersize": 4}
        values = [study.value(point) for point in early]
        axes.plot([point.events for point in early], values, label=study.label(run), **style)
    _finish(axes, study, "events", f"{study.name} so far")


PANELS = (
    Panel(
        "cost",
        "What a share of the labels buys",
        "Mean over the seeds; the bars are one standard deviation. The share is what was really spent.",
        _cost,
    ),
    Panel(
        "curves",
        "Learning curves",
        f"One replay of each at the same budget, against labels and against time; {CONTROL} is the control.",
        _curves,
    ),
    Panel("strategies", "Side by side", "The same figures by budget; the same coins for all.", _strategies, 3.5),
    Panel(
        "time",
        "Accuracy over time",
        "Ticks on the axis: ADWIN sees the error of the model that knows all labels change.",
        _over_time,
    ),
    Panel("spent", "Where the labels went", "Of the first arm at that budget, beside all events.", _spending, 3.5),
    Panel(
        "estimated",
        "Estimated against true accuracy",
        "The accuracy that streamal would have estimated live, from the labels it bought, against that of all events.",
        _estimated,
    ),
    Panel("cold-start", "The cold start", "The first tenth of the stream.", _cold_start, 3.5),
)
