"""Prometheus itself, where it is installed (Debian: ``apt-get install prometheus``): its linter, its tester, a server.

Without it a test is skipped, unless ``STREAMAL_REQUIRE_PROMETHEUS`` is set, as it is in ``.ci/run``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def tool(name: str) -> str:
    """Return the path of *name*, or skip the test, or fail it where Prometheus is required."""
    if (found := shutil.which(name)) is not None:
        return found
    if os.environ.get("STREAMAL_REQUIRE_PROMETHEUS"):
        pytest.fail(f"{name} is not installed, and STREAMAL_REQUIRE_PROMETHEUS is set")
    pytest.skip(f"{name} is not installed (Debian package prometheus)")


def promtool(*arguments: str | Path, stdin: bytes | None = None) -> tuple[int, str]:
    """Run promtool; return its exit code and what it said."""
    command = [tool("promtool"), *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def prometheus(directory: Path, config: str) -> Iterator[str]:
    """Give the address of a Prometheus with this *config*; its data are in *directory*."""
    port, path = free_port(), directory / "prometheus.yml"
    path.write_text(config)
    command = [
        tool("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--query.lookback-delta=2m",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(f"{url}/-/ready"), 30)
            yield url
        finally:
            running.terminate()
            running.wait(timeout=120)


def query(url: str, expression: str, at: float | None = None) -> list[dict[str, Any]]:
    """Return the result of an instant query; a query that Prometheus refuses fails."""
    return list(_asked(url, "query", query=expression, **({} if at is None else {"time": str(at)}))["result"])


def exemplars(url: str, expression: str) -> list[dict[str, Any]]:
    """Return the exemplars of the last ten minutes."""
    now = time.time()
    return list(_asked(url, "query_exemplars", query=expression, start=str(now - 600), end=str(now + 1)))


def wait_until(true: Any, seconds: float) -> None:
    """Wait until *true*() is, and fail if that takes longer than *seconds*."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def _asked(url: str, what: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        told = json.load(answer)
    assert told["status"] == "success", told
    return told["data"]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
