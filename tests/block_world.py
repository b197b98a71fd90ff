"""What a block of the documentation finds around it: programs, small streams, services that are ended in good order."""

from __future__ import annotations

import contextlib
import csv
import gzip
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

from tests.conftest import Ended, environment
from tests.documents import ROOT

PATIENCE_S = 240  # on a busy machine
ROWS = 700  # of which the first 30 % are enough to tune on
SERVICE = re.compile(r"\bstreamal (?:run|label)\b(?:.*--workers (\d+))?")
SERVE = r"""
pids=()
ready() {  # LOG COUNT: wait until so many workers have partitions, or the page has an address
  for _ in $(seq 1200); do
    found=$({ grep -oE '^\{"instance": "[^"]*", "partitions": \["|^label page: http' "$1" || true; } | sort -u | wc -l)
    [ "$found" -ge "$2" ] && return
    kill -0 "${pids[-1]}" || break
    sleep 0.05
  done
  echo "$1: not ready" >&2; cat "$1" >&2; return 1
}
"""
END = """
for pid in ${pids[@]+"${pids[@]}"}; do kill -TERM "$pid"; wait "$pid"; done
"""
PIP = """
import re, sys, tomllib
name, extra = re.fullmatch(r"(\\.|[\\w-]+)\\[(\\w+)\\]", sys.argv[2]).groups()
project = tomllib.load(open(sys.argv.pop(), "rb"))["project"]
assert sys.argv[1] == "install" and name in (".", project["name"]), sys.argv
assert extra in project["optional-dependencies"], sys.argv
"""
"""Installs nothing: what is to be installed is here, and has to be an extra of ours."""


def script(text: str) -> str:
    """Return the block with each service in the background, waited for, and ended with SIGTERM: exit code 0."""
    lines, count = [SERVE], 0
    for line in text.replace("\\\n", " ").splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line)
        if found := SERVICE.search(bare):
            log, count = f"service-{count}.log", count + 1
            lines += [f"{bare} >{log} 2>&1 &", "pids+=($!)", f"ready {log} {found[1] or 1}"]
        else:
            lines.append(line)
    return "\n".join((*lines, END))


def run(text: str, place: Path, cwd: Path | None = None, **more: str) -> Ended:
    """Run a block in a shell that ends at the first error, *place* its home; nothing that it started is left over."""
    path = f"{programs(place)}{os.pathsep}{os.environ['PATH']}"
    bash = shutil.which("bash")
    assert bash is not None
    command = [bash, "-eu", "-o", "pipefail", "-c", script(text)]
    settings = environment(PATH=path, PYTHONPATH=str(ROOT), HOME=str(place), **more)
    with subprocess.Popen(
        command, cwd=cwd or place, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return Ended(process.returncode, out, err)


def programs(place: Path) -> Path:
    """Make the programs that the blocks call by name."""
    directory = place / ".bin"
    directory.mkdir(exist_ok=True)
    (directory / "pip.py").write_text(PIP)
    for name, call in (
        ("streamal", f'"{sys.executable}" -m streamal "$@"'),
        ("pip", f'"{sys.executable}" "{directory / "pip.py"}" "$@" "{ROOT / "pyproject.toml"}"'),
    ):
        (directory / name).write_text(f"#!/bin/sh\nexec {call}\n")
        (directory / name).chmod(0o755)
    return directory


def streams(place: Path) -> None:
    """Write small ones under the names that the documents use: mails are the package's own, the others are made up."""
    coins = random.Random(5)
    weather, prices, flights = [], [], []
    for number in range(ROWS):
        x, y = coins.random(), coins.random()
        weather.append({"temperature": x, "humidity": y, "rain": int(x + y > 1)})
        prices.append({"demand": x, "transfer": y, "class": "UP" if x > y else "DOWN"})
        late, time = int(x > 0.7), 1_000 + 60 * number
        flights.append(
            {"event_time": time, "label_time": time + 900, "distance": x, "carrier": coins.choice("AB")}
            | {"delay15": late, "outcome": late}
        )
    for name, rows in (("noaa_weather", weather), ("elec", prices), ("flights", flights)):
        _write(place / f"{name}.csv.gz", rows)
    with gzip.open(ROOT / "streamal/data/mails.csv.gz", "rt", newline="") as mails:
        _write(place / "mails.csv.gz", list(islice(csv.DictReader(mails), ROWS)))


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with gzip.open(path, "wt", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@contextlib.contextmanager
def collector() -> Iterator[tuple[str, list[str]]]:
    """Give the address of something that takes whatever is posted, and the paths to which it was."""
    posted: list[str] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            posted.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", posted
        finally:
            server.shutdown()
            thread.join()
