"""A picture of the dashboard without Grafana: ``python -m tests.panels``.

It draws each panel of the committed dashboard with Matplotlib, where Grafana would have it, from what a live
Prometheus answers to its queries. Without ``--url`` it runs a daemon, a simulated world and a Prometheus for itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from tests.conftest import environment
from tests.prometheus_tools import free_port, prometheus, query, wait_until

ROOT = Path(__file__).parents[1]
BOARD = ROOT / "docker/grafana/dashboards/streamal.json"
MAILS = ROOT / "streamal/data/mails.csv.gz"
CONFIG = """\
[features]
declared = {{ text = "text" }}
[labels]
classes = ["ham", "spam"]
ttl_s = 60.0
[budget]
share = 0.10
burst = 20
cost_per_label = 0.08
cost_per_day = 30.0
[quality]
control = true
[server]
port = {port}
"""
UNITS = {
    "percentunit": (100.0, " %"),
    "s": (1.0, " s"),
    "reqps": (1.0, "/s"),
    "short": (1.0, ""),
    "bool_yes_no": (1.0, ""),
}
COLUMNS, ROW_PIXELS, INCHES = 24, 30, 16.0


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a Prometheus that scrapes streamal")
    parser.add_argument("--job", default="streamal")
    parser.add_argument("--minutes", type=float, default=3.0, help="how far back the curves go")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/dashboard.png")
    given = parser.parse_args()
    if given.url:
        draw(given.url, given.job, given.minutes, given.out)
        return
    with world(given.minutes) as url:
        draw(url, given.job, given.minutes, given.out)


@contextmanager
def world(minutes: float) -> Iterator[str]:
    """Run a daemon and the mails of the demo for so long beside a Prometheus, and give its address.

    The cap of the day is used up before the end, so the dashboard has something to say.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place, port = Path(temporary), free_port()
        (place / "config.toml").write_text(CONFIG.format(port=port))
        command, env = [sys.executable, "-m", "streamal"], environment(PYTHONPATH=str(ROOT))
        scrape = (
            "global: {scrape_interval: 1s, evaluation_interval: 5s}\n"
            f'scrape_configs: [{{job_name: streamal, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]\n'
        )
        rate = 5_400 / (60 * minutes)
        simulate = f"simulate {MAILS} --label label --time time --rate {rate} --delay 2 --silence 0.1 --linger 1"
        with (place / "log").open("wb") as log, prometheus(place, scrape) as url:
            running = subprocess.Popen([*command, "run"], cwd=place, env=env, stdout=log, stderr=log)
            try:
                wait_until(lambda: query(url, 'up{job="streamal"} == 1'), 60)
                subprocess.run([*command, *simulate.split()], cwd=place, env=env, check=True, stdout=log, stderr=log)
                yield url
            finally:
                running.terminate()
                running.wait(60)


def draw(url: str, job: str, minutes: float, out: Path) -> None:
    """Draw all panels of the board into one picture."""
    panels = json.loads(BOARD.read_text())["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    mpl.rcParams.update({"font.size": 7, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(INCHES, height * ROW_PIXELS / 100), dpi=75)
    for panel in panels:
        place = panel["gridPos"]
        if panel["type"] == "row":
            figure.text(0.005, 1 - (place["y"] + 0.8) / height, panel["title"], weight="bold", size=9)
            continue
        box = (
            place["x"] / COLUMNS + 0.025,
            1 - (place["y"] + place["h"] - 0.9) / height,
            place["w"] / COLUMNS - 0.035,
            (place["h"] - 2.0) / height,
        )
        axes = figure.add_axes(box)
        axes.set_title(panel["title"], loc="left", size=8)
        draw_panel(axes, panel, list(series_of(url, panel, job, minutes)))
    figure.savefig(out)
    sys.stdout.write(f"{out}\n")


def series_of(
    url: str, panel: dict[str, Any], job: str, minutes: float
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield (legend, minutes ago, values) of each series of a panel."""
    end = time.time()
    for target in panel["targets"]:
        expression = target["expr"].replace("$job", job).replace("$__rate_interval", "15s")
        asked = {"query": expression, "start": end - 60 * minutes, "end": end, "step": max(1.0, minutes * 60 / 240)}
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{urllib.parse.urlencode(asked)}") as answer:
            result = json.load(answer)["data"]["result"]
        for series in result:
            legend = target["legendFormat"]
            for name, value in series["metric"].items():
                legend = legend.replace("{{" + name + "}}", value)
            points = [(float(at), float(value)) for at, value in series["values"]]
            yield legend, [(at - end) / 60 for at, _ in points], [value for _, value in points]


def draw_panel(axes: Any, panel: dict[str, Any], series: list[tuple[str, list[float], list[float]]]) -> None:
    """Draw one panel: a number, curves, or a bar for each cause."""
    factor, unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    if panel["type"] == "stat":
        axes.set_axis_off()
        name, value = (series[0][0], f"{factor * series[0][2][-1]:,.4g}{unit}") if series else ("", "none")
        axes.text(0.0, 0.4, f"{value} {name}".strip(), size=15, va="center", color="#1f5fa8")
    elif panel["type"] == "state-timeline":
        axes.set_yticks([])
        axes.set_ylim(len(series) - 0.5, -0.5)
        for number, (legend, at, values) in enumerate(series):
            axes.text(at[0], number, f"  {legend}", va="center", size=6)
            colours = ["#d64545" if value else "#e8eef3" for value in values]
            axes.barh([number] * len(at), [at[1] - at[0]] * len(at), left=at, height=0.8, color=colours)
    elif not series:
        axes.set_axis_off()
        axes.text(0.0, 0.5, "none", size=12)
    else:
        for legend, at, values in series:
            axes.plot(at, [factor * value for value in values], label=legend, linewidth=1)
        axes.set_ylabel(unit.strip())
        axes.legend(frameon=False, fontsize=6, loc="best")


if __name__ == "__main__":
    main()
