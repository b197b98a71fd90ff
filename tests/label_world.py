"""Open requests in a database of one's own, a label page over it, and what came back."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from streamal.bootstrap import transports
from streamal.config import Config, LabelPageConfig, load_config
from streamal.core.codec.events import encode
from streamal.core.records import Lane, OutputRecord, Scalar
from streamal.labeling.web.server import PageServer
from streamal.ports import scan
from tests.making import make_request

ROOT = Path(__file__).parent.parent
CLASSES = ("ham", "spam")


class Told(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class LabelWorld:
    """A database in *directory* with what the topics hold."""

    def __init__(self, directory: Path, more: str = "") -> None:
        self.path = directory / "config.toml"
        self.path.write_text(
            f"[transport]\npath = {json.dumps(str(directory / 'streamal.db'))}\n"
            f"[labels]\nclasses = {json.dumps(CLASSES)}\n[server]\nport = 0\n[label_page]\nport = 0\n{more}"
        )
        transports.create_topics(load_config(self.path))

    @property
    def config(self) -> Config:
        return load_config(self.path)

    def ask(self, features: Sequence[Mapping[str, Scalar]], first: int = 0) -> list[str]:
        """Write a request for each, the first the most uncertain, and return their coordinates."""
        now, log, outputs = time.time(), transports.open_log(self.config), []
        for number, given in enumerate(features, first):
            request = msgspec.structs.replace(
                make_request(number, asked_at=now, ttl_s=86_400.0),
                features=dict(given),
                lane=Lane.STRATEGY,
                uncertainty=0.5 / (1 + number),
                label="ham",
                probabilities={"ham": 0.7, "spam": 0.3},
            )
            outputs.append(OutputRecord("streamal.requests", 0, request.request.encode(), encode(request)))
        try:
            log.append_all(outputs)
        finally:
            log.close()
        return [(output.key or b"").decode() for output in outputs]

    def replies(self) -> list[dict[str, Any]]:
        """Return everything on ``labels``."""
        log = transports.open_log(self.config)
        try:
            return [json.loads(record.value or b"null") for record in scan(log, "streamal.labels", 0)]
        finally:
            log.close()

    @contextmanager
    def page(
        self, *overrides: str, tokens: Mapping[str, str] | None = None, admins: Sequence[str] = ()
    ) -> Iterator[LabelPage]:
        """Serve the pages from a thread of this process, which is quick to begin."""
        config = load_config(self.path, overrides)
        shown = LabelPageConfig.model_validate(
            config.label_page.model_dump() | {"tokens": tokens or {}, "admins": admins}
        )
        announced: queue.Queue[str] = queue.Queue()
        config = config.model_copy(update={"label_page": shown})
        server = PageServer(config, lambda: transports.open_log(config), lambda: None, announced.put)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield LabelPage(announced.get(timeout=20))
        finally:
            server.stop()
            thread.join()

    @contextmanager
    def page_process(self, *overrides: str, tokens: Mapping[str, str] | None = None) -> Iterator[LabelProcess]:
        """Run ``streamal label`` as a process of its own."""
        page = LabelProcess(self.path, overrides, tokens or {})
        try:
            yield page
        finally:
            ended(page.process)

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Run ``streamal run`` as a process of its own."""
        process = started("run", "-c", str(self.path))
        try:
            yield
        finally:
            ended(process)


class LabelPage:
    """A running label page."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str = "") -> Told:
        """Send one HTTP request; a *body* that is no text goes as JSON."""
        split = urlsplit(self.url)
        connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=10)
        try:
            data = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
            connection.request(method or ("GET" if body is None else "POST"), path, data, dict(headers or {}))
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Told(answer.status, told, answer.read().decode())
        finally:
            connection.close()

    def login(self, token: str) -> dict[str, str]:
        """Log in and return the headers that go with everything else."""
        told = self.call("/login", f"token={token}")
        assert told.status == 303, told
        cookie = told.headers["set-cookie"].partition(";")[0]
        shown = self.call("/", headers={"Cookie": cookie}).body
        found = re.search(r'name="csrf" content="(\w+)"', shown)
        assert found is not None, shown
        return {"Cookie": cookie, "X-CSRF-Token": found[1]}


class LabelProcess(LabelPage):
    """One that can be killed."""

    def __init__(self, config: Path, overrides: Sequence[str], tokens: Mapping[str, str]) -> None:
        more = {"STREAMAL_LABEL_PAGE__TOKENS": json.dumps(tokens)} if tokens else {}
        arguments = ["label", "-c", str(config), *(f"--set={override}" for override in overrides)]
        self._start: Callable[..., subprocess.Popen[str]] = partial(started, *arguments, **more)
        self.process = self._start()
        super().__init__(self._announced())

    def start_again(self) -> None:
        """The same once more, at the same port."""
        self.process = self._start(f"--set=label_page.port={urlsplit(self.url).port}")
        assert self._announced() == self.url

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _announced(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("label page: http"), line + self.process.communicate(timeout=10)[0]
        return line.partition(": ")[2].strip()


def environment() -> dict[str, str]:
    """Return ours without any STREAMAL_ variable, with this very package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAL_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def started(*arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "streamal", *arguments],
        env={**environment(), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    finally:
        assert process.stdout is not None
        process.stdout.close()


def until(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until *what* is true."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
