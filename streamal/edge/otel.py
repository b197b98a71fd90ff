"""Spans of OpenTelemetry (the extra ``otel``): one for each step, with its transaction inside.

This meter wraps the real one: a step's durations and counts pass through it, so the loop does not know about spans.
Spans carry counts and coordinates, never a payload. OpenTelemetry's own variables say where they go:
``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME`` and so on.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any

from streamal import INSTALL, __version__
from streamal.errors import ConfigError
from streamal.ports import Meter

__all__ = ["TracedMeter", "new_provider"]


def new_provider() -> Any:
    """Return a tracer provider that exports by OTLP over HTTP, as the ``OTEL_*`` variables say.

    Raises:
        ConfigError: the extra is not installed.
    """
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise ConfigError(f"log.spans: OpenTelemetry is not installed; run `{INSTALL.format(extra='otel')}`")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class TracedMeter:
    """Passes everything on to *meter*, and gives *provider* a span for each step that has ended."""

    def __init__(self, meter: Meter, provider: Any) -> None:
        """Wrap *meter*."""
        self._meter, self._provider = meter, provider
        self._tracer = provider.get_tracer("streamal", __version__)
        self._counts: dict[str, float] = {}
        self._commit: tuple[int, int] | None = None

    def count(self, name: str, kind: str, amount: float, at: str = "") -> None:
        """Pass the count on, and keep it as an attribute of the step; an uncommitted step ends its span here."""
        self._meter.count(name, kind, amount, at)
        if (name, kind) == ("steps", "uncommitted"):
            self._end(0.0, at, failed=True)
        elif name != "steps":
            self._counts[f"streamal.{name}.{kind}" if kind else f"streamal.{name}"] = amount

    def gauge(self, name: str, value: float) -> None:
        """Pass the gauge on."""
        self._meter.gauge(name, value)

    def observe(self, name: str, value: float, at: str = "") -> None:
        """Pass the observation on; the duration of a step ends its span."""
        self._meter.observe(name, value, at)
        if name == "commit_seconds":
            now = time.time_ns()
            self._commit = (now - int(value * 1e9), now)
        elif name == "step_seconds":
            self._end(value, at, failed=False)

    def close(self) -> None:
        """Export the spans that are left."""
        self._provider.shutdown()

    def _end(self, seconds: float, at: str, *, failed: bool) -> None:
        from opentelemetry import trace  # noqa: PLC0415

        now = time.time_ns()
        attributes = {**self._counts, **({"streamal.coordinates": at} if at else {})}
        span = self._tracer.start_span("step", start_time=now - int(seconds * 1e9), attributes=attributes)
        if failed:
            span.set_status(trace.StatusCode.ERROR, "uncommitted")
        if self._commit is not None:
            began, ended = self._commit
            inside = trace.set_span_in_context(span)
            self._tracer.start_span("commit", context=inside, start_time=began).end(ended)
        span.end(now)
        self._counts, self._commit = {}, None
