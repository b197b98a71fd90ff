"""Annotators in Label Studio, real or fake, a daemon in this process, and a bridge in another that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from streamal.bootstrap.transports import create_topics
from streamal.core.coins import HashedUniform
from streamal.daemon.daemon import Daemon
from streamal.edge.sqlite import SqliteLog, SqliteTransport
from streamal.replay.replay import StreamClock
from tests.conftest import environment
from tests.label_studio import LEGACY
from tests.recorded import CLASSES, World, make_config, rows_of

CONFIG = make_config(
    budget={"share": 1, "burst": 1_000, "audit_share": 0.5}, labels={"ttl_s": 1e6}, snapshots={"directory": None}
)
TOML = """
[features]
declared = { x1 = "number", x2 = "number" }
[labels]
classes = ["no", "yes"]
ttl_s = 1e6
[bridge]
poll_s = 0.1
batch = 40
"""
PATIENCE_S = 120.0


class Annotators:
    """People at Label Studio, over its API; which task gets what is a coin's choice."""

    def __init__(self, url: str, token: str = LEGACY, project: int = 1) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Token {token}"}, timeout=60)
        self._coin, self._project = HashedUniform(3, "annotators"), project

    def tasks(self) -> list[dict[str, Any]]:
        query = {"filters": {"conjunction": "and", "items": []}, "ordering": ["tasks:id"]}
        params: dict[str, str | int] = {
            "project": self._project,
            "fields": "all",
            "page_size": 1_000,
            "query": json.dumps(query),
        }
        answer = self._client.get("/api/tasks/", params=params)
        if answer.status_code == httpx.codes.NOT_FOUND:  # the bridge has not made the project yet
            return []
        return list(answer.raise_for_status().json()["tasks"])

    def choice(self, request: str) -> str | None:
        """Return what *request* is answered with; None is a skip."""
        return None if self._coin.uniform(f"skip {request}") < 0.15 else CLASSES[self._coin.uniform(request) < 0.5]

    def answer(self, task: Mapping[str, Any]) -> None:
        label = self.choice(task["data"]["request"])
        body = {"result": result_of(label) if label else [], "was_cancelled": label is None, "lead_time": 2.5}
        self._client.post(f"/api/tasks/{task['id']}/annotations/", json=body).raise_for_status()

    def edit(self, annotation: int, label: str) -> None:
        self._client.patch(f"/api/annotations/{annotation}/", json={"result": result_of(label)}).raise_for_status()

    def delete(self, annotation: int) -> None:
        self._client.delete(f"/api/annotations/{annotation}/").raise_for_status()

    def close(self) -> None:
        self._client.close()


@contextmanager
def real_label_studio(program: Path, directory: Path) -> Iterator[str]:
    """Start *program*, a `label-studio` of its own environment, on SQLite in *directory*; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    quiet = {"COLLECT_ANALYTICS": "False", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "LATEST_VERSION_CHECK": "False"}
    options = ["--no-browser", "--internal-host", "127.0.0.1", "--data-dir", str(directory / "studio"), "-p", str(port)]
    login = ["--username", "a@example.com", "--password", "secret-12", "--user-token", LEGACY]
    with (directory / "studio.log").open("wb") as out:
        running = subprocess.Popen(
            [program, "start", *options, *login, "--enable-legacy-api-token"],
            env=environment(**quiet, DJANGO_DB="sqlite", HOME=str(directory)),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300.0  # its first start makes the tables
        while not _healthy(f"http://127.0.0.1:{port}/health"):
            assert running.poll() is None, (directory / "studio.log").read_text()[-3_000:]
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(30)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def result_of(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "features", "type": "choices", "value": {"choices": [label]}}]


class Office:
    """A database in *directory* with *requests* open requests or more, a daemon that joins, the bridge's process."""

    def __init__(self, directory: Path, url: str, requests: int, token: str = LEGACY) -> None:
        self.directory, self._url, self._token = directory, url, token
        (directory / "config.toml").write_text(TOML)
        path = directory / "streamal.db"
        config = CONFIG.model_copy(update={"transport": CONFIG.transport.model_copy(update={"path": path})})
        create_topics(config)
        self.world = World(config)
        self.world.clock = StreamClock()
        self.world.clock.time = time.time()
        topics = self.world.topics
        self.seat = SqliteTransport(path, "streamal", "w", topics.events, topics.labels, synchronous="OFF")
        self.daemon: Daemon = self.world.daemon(transport=self.seat)
        self.log = SqliteLog(path)
        for number in range(requests + requests // 3 + 9):  # the lanes' coins leave out a few
            value = json.dumps({"features": {"x1": number / requests, "x2": 0.5}}).encode()
            self.log.append(topics.events, 0, None, value)
        self.daemon.start()
        self.settle()
        self.asked = set(self.daemon.fold.books.pending.open)
        assert len(self.asked) >= requests
        self.bridge: subprocess.Popen[bytes] | None = None

    def settle(self) -> None:
        """Let the daemon take in what is there."""
        self.world.drain(self.daemon)

    def start_bridge(self) -> None:
        with (self.directory / "bridge.log").open("ab") as log:
            self.bridge = subprocess.Popen(
                [sys.executable, "-m", "streamal", "bridge", "label-studio", f"--set=bridge.url={self._url}"],
                cwd=self.directory,
                env=environment(STREAMAL_BRIDGE__TOKEN=self._token),
                stderr=log,
            )

    def kill_bridge(self) -> None:
        """Kill -9."""
        assert self.bridge is not None
        assert self.bridge.poll() is None, (self.directory / "bridge.log").read_text()
        self.bridge.send_signal(signal.SIGKILL)
        self.bridge.wait()

    def stop_bridge(self) -> int:
        assert self.bridge is not None
        self.bridge.send_signal(signal.SIGTERM)
        return self.bridge.wait(PATIENCE_S)

    def until(self, true: Callable[[], bool]) -> None:
        """Let the daemon work until *true*."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, (self.directory / "bridge.log").read_text()[-3_000:]
            self.settle()
            time.sleep(0.05)

    def replies(self) -> list[dict[str, Any]]:
        return rows_of(self.log, self.world.topics.labels)

    def training(self) -> list[dict[str, Any]]:
        return [row for row in rows_of(self.log, self.world.topics.training) if "request" in row]

    def close(self) -> None:
        if self.bridge is not None and self.bridge.poll() is None:
            os.kill(self.bridge.pid, signal.SIGKILL)
            self.bridge.wait()
        self.log.close()
        self.seat.close()


def run_the_office(office: Office, annotators: Annotators, kills: int) -> dict[str, int]:
    """Answer every request, edit and delete some of the answers, kill the bridge *kills* times on the way.

    Returns what was done. The bridge may be anywhere in its work when it is killed: it is never waited for.
    """
    office.start_bridge()
    count = len(office.asked)
    answered, done = set[str](), {"answers": 0, "edits": 0, "deletions": 0, "kills": 0}

    def work() -> bool:
        for task in annotators.tasks():
            if not task["annotations"] and task["data"]["request"] not in answered:
                annotators.answer(task)
                answered.add(task["data"]["request"])
                done["answers"] += 1
                if len(answered) % max(1, count // (kills + 1)) == 0 and done["kills"] < kills:
                    office.kill_bridge()
                    office.start_bridge()
                    done["kills"] += 1
        return len(answered) == count

    office.until(work)
    office.until(lambda: len({reply["request"] for reply in office.replies()}) == count)
    office.settle()
    labelled = [t for t in annotators.tasks() if any(not a["was_cancelled"] for a in t["annotations"])]
    for number, task in enumerate(labelled):
        annotation = task["annotations"][0]
        if number % 5 == 0:
            label = annotation["result"][0]["value"]["choices"][0]
            annotators.edit(annotation["id"], CLASSES[label == CLASSES[0]])
            done["edits"] += 1
        elif number % 7 == 0:
            annotators.delete(annotation["id"])
            done["deletions"] += 1
    office.until(lambda: len(office.replies()) == count + done["edits"] + done["deletions"])
    return done
