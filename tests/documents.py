"""The tables of the documents, made from the code: ``python -m tests.documents`` writes them anew."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from streamal import INSTALL
from streamal.edge.metrics import METRICS
from tests.test_tidy import MAY_IMPORT

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "config.toml"
ARCHITECTURE = ROOT / "docs/architecture.md"
INSTALL_LINE = re.compile(r"pip install( --quiet)? '[^'\[]*\[([\w,-]+)\]'")
"""An install line of any form but an editable one (-e), which needs the clone in any case."""
WITH_INSTALL_LINES = (README, REFERENCE, ROOT / "benchmarks/RESULTS.md", *sorted((ROOT / "docs").glob("*.md")))
PROMETHEUS_RULE = ROOT / "docker/kubernetes/components/prometheus-operator/rules.yaml"
LAYERS = "<!-- layers: made by `python -m tests.documents` -->"


def config_rows() -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, meaning) from the commented reference; a key in a comment has no default."""
    section = ""
    for line in REFERENCE.read_text().splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            section = header[1]
        elif row := re.match(r"(# )?(\w+) = (.+?)(?:\s+# (.+))?$", line):
            yield f"{section}.{row[2]}", "" if row[1] else row[3], row[4] or ""


def config_table() -> str:
    """Return the table of all configuration keys."""
    rows = (
        f"| `{key}` | {f'`{default}`' if default else '-'} | {_cell(text)} |" for key, default, text in config_rows()
    )
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def metrics_table() -> str:
    """Return the table of all metrics."""
    rows = (
        f"| `{metric.exported_name}{f'{{{metric.label}}}' if metric.label else ''}` "
        f"| {metric.type} | {_cell(metric.help)} |"
        for metric in METRICS
    )
    return "\n".join(["| metric | type | meaning |", "|---|---|---|", *rows])


def layers_table() -> str:
    """Return the table of all packages, with what they may import; what one does is the first line of its docstring."""
    rows = []
    for name, may in MAY_IMPORT.items():
        if name.startswith("__"):
            continue
        path = ROOT / "streamal" / name.replace(".", "/")
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        about = (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0].replace("``", "`")
        rows.append(f"| `{name}` | {_cell(about)} | {' '.join(f'`{each}`' for each in may.split())} |")
    return "\n".join(["| package | what it does | may import |", "|---|---|---|", *rows])


def with_layers(page: str) -> str:
    """Return *page* with the table of the layers made anew."""
    table = f"{LAYERS}\n{layers_table()}\n<!-- end -->"
    return re.sub(f"{re.escape(LAYERS)}.*?<!-- end -->", lambda _: table, page, flags=re.DOTALL)


def prometheus_rule() -> str:
    """Return the alerts as a resource of the Prometheus operator."""
    rules = (ROOT / "docker/prometheus/rules.yml").read_text()
    head = "# Made from docker/prometheus/rules.yml by `python -m tests.documents`: change it there.\n"
    about = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n"
    about += "metadata:\n  name: streamal\n  namespace: streamal\nspec:\n"
    return head + about + textwrap.indent(rules, "  ")


def with_install_lines(page: str) -> str:
    """Return *page* with each line that installs an extra made anew, in the form of `streamal.INSTALL`."""

    def command(found: re.Match[str]) -> str:
        return INSTALL.format(extra=found[2]).replace("pip install", f"pip install{found[1] or ''}")

    return INSTALL_LINE.sub(command, page)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    from tests.reference import pages

    for path in WITH_INSTALL_LINES:
        path.write_text(with_install_lines(path.read_text()))
    PROMETHEUS_RULE.write_text(prometheus_rule())
    ARCHITECTURE.write_text(with_layers(ARCHITECTURE.read_text()))
    for path, text in pages(config_table(), metrics_table()).items():
        path.write_text(text)
    sys.stdout.write(f"the install lines, {ROOT / 'docs/reference'} and {ARCHITECTURE} are up to date\n")
