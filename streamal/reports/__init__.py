"""Pictures and pages of results: `save_report` and `save_pictures` draw what `compare` and `tune` return."""

from pathlib import Path

from streamal.experiments.results import Comparison, Tuned
from streamal.reports.charts import save_panels
from streamal.reports.html import render_report
from streamal.reports.study import Study

__all__ = ["save_pictures", "save_report"]


def save_report(result: Comparison | Tuned, path: Path) -> None:
    """Write the report of *result*, one HTML file that needs nothing else.

    Raises:
        ConfigError: the extra ``plot`` is not installed.
    """
    path.write_text(render_report(result), encoding="utf-8")


def save_pictures(result: Comparison | Tuned, directory: Path) -> None:
    """Draw the report's pictures into *directory*, as SVG and PNG.

    Raises:
        ConfigError: the extra ``plot`` is not installed.
    """
    save_panels(directory, Study.of(result))
