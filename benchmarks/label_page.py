"""The label page measured: from an answer to the model that knows it, and with 10,000 open requests.

    python -m benchmarks.label_page                                   # SQLite
    python -m benchmarks.label_page --bootstrap localhost:9092        # Kafka, both clients, too
    python -m benchmarks.label_page --broker                          # likewise, on a broker of the tests' own

An answer is timed from the moment before its POST to the arrival of the first prediction whose version has learned it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names
from streamal.config import Config, load_config
from tests import kafka_broker
from tests.label_world import LabelProcess, LabelWorld, ended, started

_PATIENCE_S = 60.0
_PAUSE_S = 0.05
_MODEL = '[{ use = "preprocessing.StandardScaler" }, { use = "linear_model.LogisticRegression" }]'


class Outside:
    """Sends events and notes when predictions and training records arrive, each on a thread with a log of its own."""

    def __init__(self, config: Config, rate: float) -> None:
        self._config, self._rate, self._stop = config, rate, threading.Event()
        self.trained: dict[str, int] = {}
        self.predicted: list[tuple[int, float]] = []
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._read)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let both threads work."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _send(self) -> None:
        log, topics, draw = transports.open_log(self._config), topic_names(self._config), random.Random(1)
        due = time.monotonic()
        while not self._stop.is_set():
            body = {"features": {f"x{i}": draw.gauss(0.0, 1.0) for i in range(8)}}
            log.append(topics.events, 0, None, msgspec.json.encode(body))
            due += 1.0 / self._rate
            time.sleep(max(0.0, due - time.monotonic()))
        log.close()

    def _read(self) -> None:
        log, topics = transports.open_log(self._config), topic_names(self._config)
        places = {topics.training: 0, topics.predictions: 0}
        while not self._stop.is_set():
            for topic, offset in places.items():
                records = log.read(topic, 0, offset, 1_000)
                now = time.monotonic()
                for record in records:
                    places[topic] = record.offset + 1
                    if topic == topics.training:
                        self.trained[(record.key or b"").decode()] = record.offset + 1
                    else:
                        version = json.loads(record.value or b"")["version"]
                        if not self.predicted or version > self.predicted[-1][0]:
                            self.predicted.append((version, now))
            time.sleep(0.002)
        log.close()


def wait_for(found: Callable[[], Any]) -> Any:
    """Call *found* until it returns something, and return that."""
    deadline = time.monotonic() + _PATIENCE_S
    while (value := found()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError("nothing comes")
        time.sleep(0.001)
    return value


class Client:
    """One browser's connection, kept open."""

    def __init__(self, page: LabelProcess) -> None:
        split = urlsplit(page.url)
        self._connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=_PATIENCE_S)

    def call(self, path: str, body: Any = None) -> Any:
        """Send *body*, if there is one, and return what comes back."""
        self._connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
        answer = self._connection.getresponse()
        told = answer.read()
        assert answer.status == 200, told
        return json.loads(told)


def latency(path: Path, answers: int, rate: float) -> tuple[list[float], list[float]]:
    """Return the seconds from each answer to the first prediction that knows it, and those of its POST alone."""
    config = load_config(path)
    outside, times, posts = Outside(config, rate), [], []
    daemon, page = started("run", "-c", str(path)), LabelProcess(path, (), {})
    try:
        client = Client(page)
        with outside.running():
            for number in range(answers):
                item = wait_for(lambda: client.call("/api/next", {})["item"])
                began = time.monotonic()
                request = item["request"]
                client.call("/api/labels", {"request": request, "label": ("no", "yes")[number % 2]})
                posts.append(time.monotonic() - began)
                version = wait_for(lambda: outside.trained.get(request))  # noqa: B023  (called at once)
                arrived = wait_for(
                    lambda: next((at for known, at in outside.predicted if known >= version), None)  # noqa: B023
                )
                times.append(arrived - began)
                time.sleep(_PAUSE_S)
    finally:
        ended(page.process)
        ended(daemon)
    return times, posts


def measure_queue(directory: Path, count: int) -> dict[str, float]:
    """Return times and sizes of the page with *count* open requests of 2 kB each."""
    world = LabelWorld(directory)
    world.ask([{"text": "word " * 400, "n": float(number)} for number in range(count)])
    began = time.monotonic()
    with world.page_process() as page:
        start_s, client = time.monotonic() - began, Client(page)
        began = time.monotonic()
        assert client.call("/api/next", {})["item"]["request"] == "0-0"
        first_s = time.monotonic() - began
        began = time.monotonic()
        assert len(client.call("/api/requests?limit=50")["requests"]) == 50
        list_s = time.monotonic() - began
        before = resident_mb(page.process.pid)
        for _ in range(min(1_000, count // 2)):
            item = client.call("/api/next", {})["item"]
            client.call("/api/labels", {"request": item["request"], "label": "ham"})
        return {
            "open": count,
            "start_s": start_s,
            "first_question_s": first_s,
            "fifty_listed_s": list_s,
            "resident_mb": before,
            "resident_after_1000_answers_mb": resident_mb(page.process.pid),
        } | measure_browser(page)


def measure_browser(page: LabelProcess) -> dict[str, float]:
    """Return the seconds from opening the page to the question on the screen, median of five; {} without Chromium."""
    try:
        from tests.browser import browser  # noqa: PLC0415

        with browser() as chromium:
            shown = chromium.new_page()
            shown.goto(f"{page.url}login")
            shown.fill("#token", "ann")
            shown.press("#token", "Enter")
            shown.wait_for_selector("#question:not([hidden])")
            times = []
            for _ in range(5):
                began = time.monotonic()
                shown.goto(page.url)
                shown.wait_for_selector("#question:not([hidden])")
                times.append(time.monotonic() - began)
            return {"first_page_in_chromium_s": statistics.median(times)}
    except BaseException as error:  # pytest's skip is none of Exception
        print(f"no browser: {error}")
        return {}


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def write_config(directory: Path, transport: str, prefix: str) -> Path:
    """Write a configuration with topics of its own, and make them."""
    path = directory / "config.toml"
    roles = ("events", "labels", "predictions", "requests", "training", "dead-letters")
    topics = "\n".join(f"{role.replace('-', '_')} = '{prefix}.{role}'" for role in roles)
    path.write_text(
        f"[transport]\ngroup = '{prefix}'\n{transport}\n[topics]\n{topics}\n[labels]\nclasses = ['no', 'yes']\n"
        f"[model]\npipeline = {_MODEL}\n[budget]\nshare = 0.5\n[server]\nenabled = false\n[label_page]\nport = 0\n"
        "[snapshots]\ndirectory = ''\n[features.declared]\n" + "".join(f"x{i} = 'number'\n" for i in range(8))
    )
    transports.create_topics(load_config(path), 1)
    return path


def report(name: str, times: list[float], posts: list[float]) -> None:
    """Print the quantiles."""
    cuts = statistics.quantiles(times, n=100)
    load, page = os.getloadavg()[0], statistics.quantiles(posts, n=100)
    print(
        f"{name}: {len(times)} answers, median {1e3 * cuts[49]:.0f} ms, p95 {1e3 * cuts[94]:.0f} ms, "
        f"longest {1e3 * max(times):.0f} ms; of this the page's POST: median {1e3 * page[49]:.0f} ms, "
        f"p95 {1e3 * page[94]:.0f} ms (load {load:.1f})",
        flush=True,
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50.0, help="events per second")
    parser.add_argument("--open", type=int, nargs="*", default=[1_000, 10_000], help="sizes of the open queue")
    parser.add_argument("--bootstrap", help="a Kafka to measure on")
    parser.add_argument("--broker", action="store_true", help="start the tests' own Kafka")
    given = parser.parse_args()
    bootstrap = kafka_broker.shared().bootstrap if given.broker else given.bootstrap
    transports = {"SQLite": "path = '{directory}/streamal.db'"}
    for client in ("kafka-python", "confluent") if bootstrap else ():
        transports[f"Kafka, {client}"] = f"kind = 'kafka'\nclient = '{client}'\nbootstrap_servers = '{bootstrap}'"
    for name, transport in transports.items():
        with tempfile.TemporaryDirectory() as temporary:
            prefix = f"page.{os.getpid()}.{len(name)}"
            path = write_config(Path(temporary), transport.format(directory=temporary), prefix)
            report(name, *latency(path, given.answers, given.rate))
    for count in given.open:
        with tempfile.TemporaryDirectory() as temporary:
            print(json.dumps({name: round(value, 3) for name, value in measure_queue(Path(temporary), count).items()}))


if __name__ == "__main__":
    main()
