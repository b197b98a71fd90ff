"""What a notebook shows of a comparison or a tuning: the table of its figures, and the sentences below it."""

from __future__ import annotations

from collections.abc import Sequence

from streamal.experiments.runs import Metric
from streamal.experiments.summaries import Baselines, Summary
from streamal.recordings.html import html_table

__all__ = ["html_figures"]


def html_figures(
    caption: str, rows: Sequence[Summary], metric: Metric, baselines: Baselines, below: Sequence[str]
) -> str:
    """Return the figures as a table for a notebook, with the sentences *below* it."""
    header = ("asks", "model", "budget", "spent", "accuracy", "balanced accuracy", f"± sd of the {metric}")
    cells = [
        (
            row.arm,
            row.model,
            f"{row.budget:.3g}",
            f"{row.share:.2%}",
            f"{row.accuracy:.4f}",
            f"{row.balanced_accuracy:.4f}",
            f"{row.sd:.4f}" if row.seeds > 1 else "",
        )
        for row in rows
    ]
    others = f"the label before {baselines.no_change:.4f}, the commonest class {baselines.majority:.4f}"
    base = f"By {metric.replace('_', ' ')}: {others}."
    return html_table(caption, header, cells, [base, *filter(None, below)])
