"""Logs: one JSON object a line, stable names, no payload, no secret; and the spans of a step."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streamal.cli.logs import set_up_logs
from streamal.config import LogConfig
from streamal.edge.otel import TracedMeter, new_provider
from tests.recorded import CountingMeter

ROOT = Path(__file__).parents[1]
LEVELS = {"info", "warning", "error", "debug"}


def said_in_the_code() -> set[str]:
    """Return the event names of all calls of a logger in the package; each is a statement, its value is not used."""
    found = set()
    for path in (ROOT / "streamal").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node.value if isinstance(node, ast.Expr) else node.body if isinstance(node, ast.Lambda) else None:
                case ast.Call(func=ast.Attribute(attr=attr), args=[ast.Constant(value=str(name))]) if attr in LEVELS:
                    found.add(name)
    return found


def test_every_event_is_in_the_list_and_nothing_else() -> None:
    """docs/logs.md names every event that the code says; the names are words with underscores: they stay."""
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/logs.md").read_text(), flags=re.MULTILINE))
    assert listed - {"library"} == said_in_the_code()
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in listed)


def test_what_a_library_says_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of Python's own logging, with an exception, is one JSON object under one name; chatter is left out."""
    before = logging.getLogger().handlers[:]
    try:
        set_up_logs(LogConfig(format="json", level="debug"))
        structlog.get_logger().info("started", version=7)
        try:
            raise ValueError("broken\npipe")
        except ValueError:
            logging.getLogger("lib.part").exception("cannot %s", "write")
        logging.getLogger("lib.part").info("chatter")
    finally:
        logging.getLogger().handlers[:] = before
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["started", "library"]
    assert (lines[1]["logger"], lines[1]["message"], lines[1]["level"]) == ("lib.part", "cannot write", "error")
    assert "ValueError: broken" in lines[1]["exception"]


def test_no_log_line_is_given_a_payload() -> None:
    """No call of a logger in the package passes a record's value, features, labels or probabilities."""
    forbidden = {"value", "features", "label", "probabilities", "payload", "text", "key", "password", "token", "secret"}
    for path in (ROOT / "streamal").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                assert not forbidden & {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"


def test_a_step_is_a_span_with_its_transaction_inside() -> None:
    """Counts are attributes, the commit is a child within its times, a rolled back step an error; meters count on."""
    exporter, provider, inner = InMemorySpanExporter(), TracerProvider(), CountingMeter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    meter = TracedMeter(inner, provider)
    meter.observe("commit_seconds", 0.01)
    meter.count("steps", "committed", 1)
    meter.count("events", "accepted", 500, "0-499")
    meter.gauge("model_version", 7)
    meter.observe("step_seconds", 0.05, "0-499")
    meter.count("steps", "uncommitted", 1)
    meter.close()
    commit, step, failed = exporter.get_finished_spans()
    assert (commit.name, step.name, failed.name) == ("commit", "step", "step")
    assert commit.parent is not None
    assert commit.parent.span_id == step.context.span_id
    assert step.attributes == {"streamal.events.accepted": 500, "streamal.coordinates": "0-499"}
    assert step.start_time is not None
    assert commit.start_time is not None
    assert commit.end_time is not None
    assert step.end_time is not None
    assert step.start_time < commit.start_time < commit.end_time <= step.end_time
    assert abs(step.end_time - step.start_time - 50_000_000) < 10
    assert (failed.status.is_ok, failed.attributes) == (False, {})
    assert inner.counts["events", "accepted"] == 500
    assert inner.gauges == {"model_version": 7}
    assert inner.observed.keys() == {"commit_seconds", "step_seconds"}


def test_the_provider_is_opentelemetrys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its name and its address from the OTEL_* variables."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "spam")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    provider = new_provider()
    assert provider.resource.attributes["service.name"] == "spam"
    provider.shutdown()
    assert "opentelemetry" in sys.modules
