"""The report as one HTML file that holds everything, pictures too, and loads nothing from the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamal import INSTALL, __version__
from streamal.errors import ConfigError
from streamal.experiments.results import Comparison, Tuned
from streamal.reports.charts import PANELS, data_uri
from streamal.reports.study import Study

__all__ = ["render_report"]

_TEMPLATES = Path(__file__).parent / "templates"


def render_report(result: Comparison | Tuned) -> str:
    """Return the report of *result*.

    Raises:
        ConfigError: matplotlib or Jinja2 is not installed.
    """
    study = Study.of(result)
    values: dict[str, Any] = {
        "result": result,
        "metric": study.name,
        "figures": _figures(study),
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
            str(row.seeds),
        )
        for row in study.summaries()
    ]
    rows.append(("the label before", "", "1", "100.00%", f"{study.baselines.no_change:.4f}", "", ""))
    rows.append(("commonest class", "", "0", "0.00%", f"{study.baselines.majority:.4f}", "", ""))
    return rows


def _trials(result: Tuned) -> list[tuple[str, ...]]:
    return [
        (str(trial.number), trial.candidate.family, f"{trial.value:.4f}", f"{trial.rows:,}", "yes" * trial.pruned)
        for trial in result.trials
    ]
