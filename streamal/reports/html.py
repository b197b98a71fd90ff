"""The report as one HTML file that holds everything, pictures too, and loads nothing from the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamal import INSTALL, __version__
from streamal.errors import ConfigError
from streamal.experiments.results import Comparison, Tuned
from streamal.experiments.runs import Run
from streamal.reports.charts import PANELS, data_uri
from streamal.reports.study import Study

__all__ = ["render_report"]

_TEMPLATES = Path(__file__).parent / "templates"
_CLASSES_MAX = 30
_CONFUSIONS = 2


def render_report(result: Comparison | Tuned) -> str:
    """Return the report of *result*.

    Raises:
        ConfigError: matplotlib or Jinja2 is not installed.
    """
    study = Study.of(result)
    values: dict[str, Any] = {
        "result": result,
        "metric": study.name,
        "other_metric": "balanced accuracy" if study.metric == "accuracy" else "accuracy",
        "figures": _figures(study),
        "recall": _recall(study),
        "confusions": [(_title(study, run), *_confusion(run)) for run in study.main_runs()[:_CONFUSIONS]],
        "pictures": [
            {"title": panel.title, "caption": panel.caption, "address": data_uri(panel, study)} for panel in PANELS
        ],
        "version": __version__,
    }
    if isinstance(result, Tuned):
        return _render("tuned.html", **values, title=f"Tuning on {result.stream}", trials=_trials(result))
    return _render("comparison.html", **values, title=f"Comparison on {result.stream}")


def _render(template: str, **values: Any) -> str:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise ConfigError(f"the report needs Jinja2: {INSTALL.format(extra='plot')}") from error
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(**values)


def _figures(study: Study) -> list[tuple[str, ...]]:
    """Return the rows of the table: one for each arm, model and budget, then the baselines."""
    rows: list[tuple[str, ...]] = [
        (
            row.arm,
            row.model,
            f"{row.budget:.3g}",
            f"{row.share:.2%}",
            f"{row.value:.4f}",
            f"{row.sd:.4f}" if row.seeds > 1 else "",
            f"{row.balanced_accuracy if study.metric == 'accuracy' else row.accuracy:.4f}",
            str(row.seeds),
        )
        for row in study.summaries()
    ]
    rows.append(("the label before", "", "1", "100.00%", f"{study.baselines.no_change:.4f}", "", "", ""))
    rows.append(("commonest class", "", "0", "0.00%", f"{study.baselines.majority:.4f}", "", "", ""))
    return rows


def _title(study: Study, run: Run) -> str:
    return f"{study.label(run)}, budget {run.budget:.3g}, first coins"


def _recall(study: Study) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the recall by class: one column for each run that is drawn."""
    runs = study.main_runs()
    classes = sorted({label for run in runs for label in run.recall})
    counts = {label: count for run in runs for label, (count, _) in run.spending.classes.items()}
    head = ["class", "events", *(study.label(run) for run in runs)]
    rows = [
        [label, f"{counts[label]:,}", *(f"{run.recall[label]:.3f}" if label in run.recall else "-" for run in runs)]
        for label in classes[:_CLASSES_MAX]
    ]
    return head, rows


def _confusion(run: Run) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a confusion, in events; of many classes the first ones."""
    said = sorted({*run.confusion, *(label for row in run.confusion.values() for label in row)})[:_CLASSES_MAX]
    rows = [
        [truth, *(f"{row.get(label, 0):,}" for label in said)]
        for truth, row in list(run.confusion.items())[:_CLASSES_MAX]
    ]
    return ["true \\ predicted", *(label or "(nothing)" for label in said)], rows


def _trials(result: Tuned) -> list[tuple[str, ...]]:
    return [
        (str(trial.number), trial.candidate.family, f"{trial.value:.4f}", f"{trial.rows:,}", "yes" * trial.pruned)
        for trial in result.trials
    ]
