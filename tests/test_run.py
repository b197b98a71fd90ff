"""The real daemon: a process on a SQLite file, with signals, kill -9, hostile input, and other processes beside it."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamal.config import load_config
from streamal.edge.sqlite import SqliteLog
from tests.conftest import Cli, environment
from tests.recorded import CLASSES, easy_stream, predictions_of, rows_of, sums_to_one

PATIENCE_S = 120.0  # on a busy machine

CONFIG = """
[transport]
poll_timeout_s = 0.02
[features]
declared = { x1 = "number", x2 = "number", note = "string" }
unknown = "refuse"
[labels]
classes = ["no", "yes"]
[model]
pipeline = [
  { use = "compose.SelectType", args = [{ type = "number" }] },
  { use = "preprocessing.StandardScaler" },
  { use = "linear_model.LogisticRegression" },
]
[server]
port = 0
[limits]
record_bytes = 10_000
features = 5
feature_name_bytes = 20
"""


class Running:
    """A `streamal run` in *directory*; its standard error goes to a file of its own."""

    def __init__(self, directory: Path, *arguments: str, **more: str) -> None:
        self.stderr = directory / f"stderr-{time.monotonic_ns()}"
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamal", "run", *arguments],
                cwd=directory,
                env=environment(**more),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def get(self, path: str) -> tuple[int, str]:
        """Return (status, body) of a page."""
        wait_for(lambda: self.said("serving"), self)
        url = str(self.said("serving")[0]["url"]).removesuffix("/metrics")
        try:
            with urllib.request.urlopen(url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, series: str) -> float:
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return what it has logged of *event*."""
        lines = self.stderr.read_text().splitlines()
        logged = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [fields for fields in logged if fields["event"] == event]

    def end(self, *signals: int) -> int:
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE_S)


@pytest.fixture
def run(directory: Path) -> Iterator[Callable[..., Running]]:
    """Starts daemons in `directory`, with `CONFIG` if there is none yet; those still alive at the end are killed."""
    started: list[Running] = []

    def start(*arguments: str, **more: str) -> Running:
        if not (directory / "config.toml").exists():
            (directory / "config.toml").write_text(CONFIG)
        started.append(Running(directory, *arguments, **more))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()


def wait_for(condition: Callable[[], object], running: Running | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        assert running is None or running.process.poll() is None, running.stderr.read_text()
        time.sleep(0.02)


def ready(running: Running) -> Running:
    wait_for(lambda: running.get("/readyz")[0] == 200, running)
    return running


def open_log(directory: Path) -> SqliteLog:
    return SqliteLog(directory / "streamal.db", synchronous="OFF")


def append_events(log: SqliteLog, *values: bytes) -> list[int]:
    return [log.append("streamal.events", 0, None, value) for value in values]


def easy_events(count: int, first: int = 0) -> list[bytes]:
    rows = easy_stream(first + count).rows[first:]
    return [json.dumps({"features": row.features}).encode() for row in rows]


def answer_all(log: SqliteLog, running: Running, **fields: object) -> int:
    """Answer every request once all events are predicted; return how many, when all answers are learned."""
    wait_for(lambda: log.committed("streamal"), running)
    end = log.end("streamal.events", 0)
    wait_for(lambda: max(done.offset for done in log.committed("streamal").values()) >= end, running)
    requests = [row["request"] for row in rows_of(log, "streamal.requests") if row]
    for number, request in enumerate(requests):
        reply = {"request": request, "label": CLASSES[number % 2], **fields}
        log.append("streamal.labels", 0, None, json.dumps(reply).encode())
    wait_for(lambda: running.metric('streamal_replies_total{outcome="accepted"}') == len(requests), running)
    return len(requests)


# Serving and ending.


def test_the_daemon_serves_its_pages(run: Callable[..., Running]) -> None:
    """/livez and /readyz answer 200 once it is up, /metrics has the counters, anything else is 404."""
    running = ready(run())
    assert running.get("/livez")[0] == 200
    assert 'streamal_events_total{outcome="accepted"} 0.0' in running.get("/metrics")[1]
    assert running.get("/config")[0] == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_0(run: Callable[..., Running], directory: Path, number: int) -> None:
    """On SIGTERM as on Ctrl-C it finishes the step, says so and ends with 0; what it consumed is committed."""
    running = ready(run())
    log = open_log(directory)
    append_events(log, *easy_events(40))
    wait_for(lambda: running.metric('streamal_events_total{outcome="accepted"}') == 40, running)
    assert running.end(number) == 0
    assert running.said("stopped")
    assert len(rows_of(log, "streamal.predictions")) == 40
    log.close()


def test_a_second_signal_ends_it_at_once(run: Callable[..., Running], directory: Path) -> None:
    """While the first one waits for a long poll, the second one, even another, does not."""
    running = ready(run("--set", "transport.poll_timeout_s=10"))
    time.sleep(0.1)
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert running.process.poll() is None
    began = time.monotonic()
    assert running.end(signal.SIGINT) == -signal.SIGINT
    assert time.monotonic() - began < 40.0


def test_a_second_daemon_fences_the_first(run: Callable[..., Running]) -> None:
    """The newer one works on; the older one ends with 1 and one line that names the newer one's process."""
    first = ready(run())
    second = ready(run())
    assert first.process.wait(timeout=PATIENCE_S) == 1
    lines = [line for line in first.stderr.read_text().splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert f"process {second.process.pid}) has taken over" in lines[0]
    assert second.end() == 0


def test_the_same_daemon_started_twice_leaves_the_first_alone(run: Callable[..., Running], directory: Path) -> None:
    """With one port for both, the second ends with 2 before it has taken the first one's seat."""
    first = ready(run())
    port = str(first.said("serving")[0]["url"]).split(":")[2].removesuffix("/metrics")
    second = run("--set", f"server.port={port}")
    assert second.process.wait(timeout=PATIENCE_S) == 2
    assert f"server.port = {port}" in second.stderr.read_text()
    time.sleep(0.2)
    assert first.end() == 0


def test_a_port_in_use_is_a_usage_error(run: Callable[..., Running], directory: Path) -> None:
    """It ends with 2 and one line that names the key, and makes no database."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = run("--set", f"server.port={taken.getsockname()[1]}")
        assert running.process.wait(timeout=PATIENCE_S) == 2
    assert running.stderr.read_text().count("\n") == 1
    assert "server.port" in running.stderr.read_text()
    assert not (directory / "streamal.db").exists()


# Hostile input.

EVERY_BAD_EVENT = {
    b"": "not_json",
    b"{": "not_json",
    b"\xff\xfe": "not_json",
    b'{"features": {"x1": NaN}}': "not_json",
    b'{"features": {"note": "\xff"}}': "not_utf8",
    b"[1]": "not_an_object",
    b'{"features": ' + b"[" * 4_000 + b"]" * 4_000 + b"}": "bad_field",
    b'{"a": ' + b"[" * 4_000 + b"]" * 4_000 + b', "features": {"x1": 1}}': "too_deep",
    b"x" * 20_000: "record_too_big",
    b'{"id": 7}': "bad_field",
    b'{"features": {"x1": [1]}}': "feature_type",
    b'{"features": {"x1": ["a"]}}': "bad_field",
    b'{"id": "' + b"i" * 300 + b'", "features": {"x1": 1}}': "bad_field",
    b'{"features": {"x1": 1e999}}': "number_out_of_range",
    b'{"features": {"x1": 1e13}}': "number_out_of_range",
    b'{"features": {"x1": ' + b"9" * 400 + b"}}": "number_out_of_range",
    b'{"features": {"x1": null}}': "null_feature",
    b'{"features": {"x1": "three"}}': "feature_type",
    b'{"features": {"x1": true}}': "feature_type",
    b'{"features": {"x9": 1}}': "feature_unknown",
    b'{"features": {"' + b"n" * 30 + b'": 1}}': "feature_name",
    b'{"features": {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}}': "features_too_many",
    b'{"features": {}}': "features_empty",
}
EVERY_BAD_REPLY = {
    b"": "not_json",
    b"[]": "not_an_object",
    b'{"request": "0-0"}': "reply_incomplete",
    b'{"label": "no"}': "reply_incomplete",
    b'{"request": "0-0", "label": "no", "abstain": true}': "reply_incomplete",
    b'{"request": "0-0", "label": "maybe"}': "label_unknown",
    b'{"request": "0-0", "label": 1.5}': "bad_field",
    b'{"request": "0-0", "label": ""}': "bad_field",
    b'{"request": 7, "label": "no"}': "bad_field",
    b'{"request": "0-0", "label": "no", "seconds": -1}': "number_out_of_range",
    b'{"event": "0-0", "label": "no"}': "not_supported",
    b'{"request": "0-0", "label": "no", "supersedes": "r1"}': "not_supported",
}


def test_bad_input_of_every_kind_is_dead_lettered(run: Callable[..., Running], directory: Path, cli: Cli) -> None:
    """Each refused record has one dead letter with place and reason, a counter says so, the partition goes on."""
    running = ready(run())
    log = open_log(directory)
    good = iter(easy_events(2 + len(EVERY_BAD_EVENT)))
    expected = Counter({("streamal.events", 0, log.append("streamal.events", 0, None, None), "tombstone"): 1})
    for value, reason in EVERY_BAD_EVENT.items():
        append_events(log, next(good))
        expected["streamal.events", 0, append_events(log, value)[0], reason] += 1
    append_events(log, next(good))
    expected["streamal.labels", 0, log.append("streamal.labels", 0, b"k", None), "tombstone"] += 1
    for value, reason in EVERY_BAD_REPLY.items():
        expected["streamal.labels", 0, log.append("streamal.labels", 0, None, value), reason] += 1
    answer_all(log, running)
    letters = rows_of(log, "streamal.dead-letters")
    assert Counter((each["topic"], each["partition"], each["offset"], each["reason"]) for each in letters) == expected
    by_reason = Counter(reason for *_, reason in expected)
    assert {r: running.metric(f'streamal_dead_letters_total{{reason="{r}"}}') for r in by_reason} == by_reason
    assert len(rows_of(log, "streamal.predictions")) == len(EVERY_BAD_EVENT) + 1
    assert running.end() == 0
    assert cli("verify").code == 0
    log.close()


def test_poison_features_spoil_no_prediction(run: Callable[..., Running], directory: Path) -> None:
    """Extreme but allowed numbers, and events with nothing for the model, learned or not: probabilities stay finite."""
    running = ready(run("--set", "budget.share=1", "--set", "budget.burst=100"))
    log = open_log(directory)
    poison = [
        {"x1": 1e12},
        {"x1": -1e12, "x2": 1e12},
        {"x1": 5e-324},
        {"x1": -0.0},
        {"note": "n" * 5_000},
        {"note": ""},
    ]
    values = [json.dumps({"features": features}).encode() for features in poison * 3]
    offsets = append_events(log, *values)
    wait_for(lambda: len(rows_of(log, "streamal.predictions")) == len(offsets), running)
    assert answer_all(log, running) >= 9
    append_events(log, *values, *easy_events(5))
    wait_for(lambda: len(rows_of(log, "streamal.predictions")) == 2 * len(offsets) + 5, running)
    assert running.end() == 0
    assert all(sums_to_one(prediction) for prediction in predictions_of(log, load_config()))
    log.close()


def test_logs_are_json_and_hold_no_payload(run: Callable[..., Running], directory: Path) -> None:
    """Not on a terminal every line is JSON; neither log nor metrics repeat what a producer or annotator has sent."""
    running = ready(run("--set", "log.level=debug"))
    log = open_log(directory)
    append_events(log, *easy_events(30))
    append_events(
        log,
        b'{"id": "canary", "features": {"x1": 0.1, "note": "canary"}}',
        b'{"features": {"canary": 1}}',
        b'{"features": {"x1": "canary"}}',
        b'{"canary',
    )
    for reply in (b'{"request": "0-0", "label": "canary"}', b'{"request": "canary", "label": "no"}', b"canary"):
        log.append("streamal.labels", 0, None, reply)
    assert answer_all(log, running, annotator="canary", reply="canary") > 0
    wait_for(lambda: running.metric('streamal_replies_total{outcome="refused"}') == 2, running)
    scraped = running.get("/metrics")[1]
    assert running.end() == 0
    said = running.stderr.read_text()
    assert all("event" in json.loads(line) for line in said.splitlines())
    assert "canary" not in said + scraped
    log.close()


# Restarts.


def test_snapshots_change_only_the_start(run: Callable[..., Running], directory: Path) -> None:
    """With its snapshots, without them, and with every one of them damaged, a restart predicts the same."""
    running = ready(run())
    log = open_log(directory)
    stream = easy_stream(300)
    append_events(log, *easy_events(300))
    wait_for(lambda: len(rows_of(log, "streamal.predictions")) == 300, running)
    for request in rows_of(log, "streamal.requests"):
        reply = {"request": request["request"], "label": stream.rows[int(request["request"][2:])].label}
        log.append("streamal.labels", 0, None, json.dumps(reply).encode())
    wait_for(lambda: running.metric("streamal_model_examples") > 20, running)
    wait_for(lambda: running.metric("streamal_open_requests") == 0, running)
    assert running.end() == 0
    append_events(log, *easy_events(200, first=300))
    log.close()

    found = {}
    for how in ("kept", "deleted", "damaged"):
        shutil.copytree(directory, directory.parent / how, ignore=shutil.ignore_patterns("stderr*"))
    for how in ("kept", "deleted", "damaged"):
        place = directory.parent / how
        if how == "deleted":
            shutil.rmtree(place / "snapshots")
        for path in (place / "snapshots").glob("*") if how == "damaged" else ():
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        again = Running(place)
        copy = open_log(place)
        wait_for(lambda copy=copy: len(rows_of(copy, "streamal.predictions")) == 500, again)  # type: ignore[misc]
        assert again.end() == 0
        found[how] = (again.said("started")[0]["restored"] > 0, predictions_of(copy, load_config()))
        copy.close()
    assert [restored for restored, _ in found.values()] == [True, False, False]
    assert found["kept"][1] == found["deleted"][1] == found["damaged"][1]


def test_kill_9_at_any_moment_breaks_no_promise(run: Callable[..., Running], directory: Path, streamal: Cli) -> None:
    """Killed eight times amid late, wrong, missing, doubled and foreign replies, it keeps every promise to the end."""
    (directory / "config.toml").write_text(
        '[transport]\npoll_timeout_s = 0.02\n[labels]\nclasses = ["false", "true"]\nttl_s = 3\n[server]\nport = 0\n'
        "[limits]\nevents_per_step = 7\n[snapshots]\nevery_s = 0.2\n[features]\ninfer_from = 10\n"
    )
    arguments = ("--rate", "130", "--delay", "0.3", "--error", "0.05", "--abstain", "0.1", "--silence", "0.1")
    feeding = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "streamal",
            "simulate",
            "river:Phishing",
            "--label",
            "phishing",
            *arguments,
            "--linger",
            "3",
        ],
        cwd=directory,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: (directory / "streamal.db").exists() and open_log(directory).partitions("streamal.labels"))
        chance = random.Random(9)
        log = open_log(directory)
        served = 0
        for _ in range(8):
            running = run()
            if chance.random() < 0.7:
                ready(running)
                served += 1
            time.sleep(chance.uniform(0.05, 0.5))
            running.process.kill()
            running.process.wait()
            for reply in log.read("streamal.labels", 0, 0, 10_000)[-5:]:
                log.append("streamal.labels", 0, None, reply.value)  # once more
            log.append("streamal.labels", 0, None, b'{"request": "0-99999", "label": "true"}')
            log.append("streamal.labels", 0, None, b"no reply at all")
            append_events(log, b"no event at all", b'{"features": {"https": null}}')
        last = ready(run())
        assert feeding.wait(timeout=PATIENCE_S) == 0
        idle = ("streamal_lag_events", "streamal_lag_labels", "streamal_open_requests")
        wait_for(lambda: not any(last.metric(name) for name in idle), last)
        assert last.end() == 0
        log.close()
    finally:
        feeding.kill()
        feeding.wait()
    assert served >= 3
    verified = streamal("verify", "--json", cwd=directory)
    checks = json.loads(verified.out)
    assert {name: check for name, check in checks.items() if check["broken"]} == {}
    assert {name: check for name, check in checks.items() if not check["looked_at"]} == {}
    kinds = Counter(row["kind"] for row in rows_of(open_log(directory), "streamal.training"))
    assert min(kinds["example"], kinds["abstention"], kinds["expiry"], kinds["schema"]) > 0
