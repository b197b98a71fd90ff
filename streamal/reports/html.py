"""The report: one HTML file that holds everything, pictures too, and asks the network for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from streamal import __version__
from streamal.experiments.compare import Comparison
from streamal.experiments.labels_needed import TUNED
from streamal.experiments.tune import Tuned
from streamal.reports.charts import PANELS, Study, svg_of

__all__ = ["comparison_page", "comparison_study", "tuned_page", "tuned_study"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } svg { width: 100%; height: auto }
table { border-collapse: collapse; font-size: .9rem } th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ccc }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
pre { background: #f4f4f4; padding: 1rem; overflow-x: auto } .answer { font-size: 1.15rem; border-left: .3rem solid #0072B2; padding-left: 1rem }
figcaption, footer { color: #555; font-size: .9rem } figure { margin: 0 }
@media print { body { max-width: none } h2 { break-after: avoid } figure { break-inside: avoid } }
"""  # noqa: E501


def comparison_study(result: Comparison) -> Study:
    """Return what is drawn of a comparison; curves are at the budget nearest to 10 %."""
    budgets = [run.budget for run in result.runs if run.budget < 1]
    budget = min(budgets, key=lambda share: abs(share - 0.1), default=1.0)
    return Study(result.stream, result.metric, result.baselines, result.runs, budget)


def tuned_study(result: Tuned) -> Study:
    """Return what is drawn of a tuning: the rest of the stream alone."""
    recommended = (TUNED, result.answer.recommended)
    return Study(
        result.stream, result.metric, result.baselines, result.runs, recommended[1], recommended, result.answer.wanted
    )


def comparison_page(result: Comparison) -> str:
    """Return the report of a comparison."""
    study = comparison_study(result)
    lead = f"<p>{result.events:,} events through the production loop, each predicted before its label was known.</p>"
    return _page(f"Comparison on {result.stream}", [lead], study)


def tuned_page(result: Tuned) -> str:
    """Return the report of a tuning."""
    unseen = (
        f"<p>Tuned on the first {result.first:,} events; every figure and picture is of the {result.rest:,} after "
        "them, replayed from an empty model.</p>"
    )
    lead = [f'<p class="answer">{escape(result.sentence())}</p>', unseen]
    trials = [
        (str(trial.number), trial.candidate.family, f"{trial.value:.4f}", f"{trial.rows:,}", "yes" * trial.pruned)
        for trial in result.trials
    ]
    tail = [
        "<h2>The settings</h2>",
        f"<pre>{escape(result.toml())}</pre>",
        "<h2>The search</h2>",
        "<p>Figures of the first part, without its cold start: they chose the settings, and are no result.</p>",
        _table(("trial", "model", study_name(result.metric), "events", "given up"), trials),
    ]
    return _page(f"Tuning on {result.stream}", lead, tuned_study(result), tail)


def study_name(metric: str) -> str:
    """Return the metric's name for people."""
    return metric.replace("_", " ")


def _page(title: str, lead: Iterable[str], study: Study, tail: Iterable[str] = ()) -> str:
    rows = [
        (row.arm, row.model, f"{row.budget:.3g}", f"{row.share:.2%}", f"{row.value:.4f}",
         f"{row.sd:.4f}" if row.seeds > 1 else "", str(row.seeds))
        for row in study.summaries()
    ]  # fmt: skip
    rows.append(("the label before", "", "1", "100.00%", f"{study.baselines.no_change:.4f}", "", ""))
    rows.append(("commonest class", "", "0", "0.00%", f"{study.baselines.majority:.4f}", "", ""))
    pictures = [
        f"<h2>{escape(panel.title)}</h2>\n<figure>{svg_of(panel, study)}"
        f"<figcaption>{escape(panel.caption)}</figcaption></figure>"
        for panel in PANELS
    ]
    head = ("asks", "model", "budget", "spent", study.name, "± sd", "seeds")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>",
            *lead,
            *pictures,
            "<h2>All figures</h2>",
            _table(head, rows),
            *tail,
            f"<footer>streamal {escape(__version__)}</footer>\n</body>\n</html>\n",
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<table>", "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])
