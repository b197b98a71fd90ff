"""Learning curves as text for a terminal (plotext), or as an SVG or PNG file (matplotlib, an extra)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import plotext

__all__ = ["rolling", "save_curves", "save_points", "terminal_curves", "terminal_lines", "terminal_points"]

Curves = Mapping[str, Sequence[float]]
Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]

_STYLES = ("-", "--", ":", "-.")
"""Lines differ by style as well as by colour, so that they are readable in black and white."""


def rolling(correct: Sequence[bool], window: int) -> list[float]:
    """Return the accuracy over the last *window* events, at each event (over all so far, before there are as many).

    >>> rolling([True, False, True, True], 2)
    [1.0, 0.5, 0.5, 1.0]
    """
    curve, right = [], 0
    for i, hit in enumerate(correct):
        right += hit
        if i >= window:
            right -= correct[i - window]
        curve.append(right / min(i + 1, window))
    return curve


def terminal_curves(title: str, curves: Curves, skip: int, width: int = 100, height: int = 20) -> str:
    """Return the curves as text, from event *skip* on (the first ones are noise); "" if none is as long."""
    curves = {name: curve for name, curve in curves.items() if len(curve) > skip}
    if not curves:  # plotext raises
        return ""
    lines = {}
    for name, curve in curves.items():
        points = range(skip, len(curve), max(1, len(curve) // (2 * width)))
        lines[name] = list(points), [curve[i] for i in points]
    return _terminal(title, "events", lines, width, height)


def terminal_points(title: str, xlabel: str, x: Sequence[float], curves: Curves, width: int = 100) -> str:
    """Return the curves over *x* as text."""
    return _terminal(title, xlabel, {name: (x, curve) for name, curve in curves.items()}, width, height=20)


def terminal_lines(title: str, xlabel: str, lines: Lines, width: int = 100) -> str:
    """Return the lines, each over an x of its own, as text; "" without any."""
    return _terminal(title, xlabel, lines, width, height=20) if lines else ""


def save_curves(path: Path, title: str, curves: Curves, skip: int) -> bool:
    """Draw the curves into *path* (``.svg`` or ``.png``); return False where matplotlib is not installed."""
    return _save(path, title, "events", {name: (range(skip, len(c)), c[skip:]) for name, c in curves.items()})


def save_points(path: Path, title: str, xlabel: str, x: Sequence[float], curves: Curves) -> bool:
    """Draw the curves over *x* into *path*; return False where matplotlib is not installed."""
    return _save(path, title, xlabel, {name: (x, curve) for name, curve in curves.items()})


def _terminal(title: str, xlabel: str, lines: Lines, width: int, height: int) -> str:
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(width, height)
    plotext.title(title)
    for marker, (name, (x, y)) in zip(("●", "·", "x", "+", "o", "*", "#", "@"), lines.items(), strict=False):
        plotext.plot(list(x), list(y), label=name, marker=marker)
    plotext.xlabel(xlabel)
    text: str = plotext.uncolorize(plotext.build())  # the theme has no colours, yet each line ends with a reset
    return text


def _save(path: Path, title: str, xlabel: str, lines: Lines) -> bool:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return False
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for style, (name, (x, y)) in zip(_STYLES, lines.items(), strict=False):
        axes.plot(x, y, style, label=name, linewidth=1.5)
    axes.set(title=title, xlabel=xlabel, ylabel="accuracy")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return True
