"""Spans of OpenTelemetry (the extra ``otel``): one for each step, with its transaction inside.

A meter around the meter: a step's durations and counts pass here anyway, so the loop knows nothing of it. Spans carry
counts and coordinates, never a payload. Where they go is OpenTelemetry's own affair: ``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_SERVICE_NAME`` and so on.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any

from streamal import __version__
from streamal.errors import ConfigError
from streamal.ports import Meter

__all__ = ["TracedMeter", "new_provider"]


def new_provider() -> Any:
    """Return a tracer provider that exports by OTLP over HTTP, as the ``OTEL_*`` variables say.

    Raises:
        ConfigError: the extra is not installed.
    """
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise ConfigError("log.spans: OpenTelemetry is not installed; run `pip install 'streamal[otel]'`")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class TracedMeter:
    """Passes everything on to *meter*, and tells *provider* of each step when it has ended."""

    def __init__(self, meter: Meter, provider: Any) -> None:
        """Begin with nothing counted."""
        self._meter, self._provider = meter, provider
        self._tracer = provider.get_tracer("streamal", __version__)
        self._counts: dict[str, float] = {}
        self._commit: tuple[int, int] | None = None

    def count(self, name: str, kind: str, amount: float, at: str = "") -> None:
        """Pass it on; it will be an attribute of the step. An uncommitted one ends here."""
        self._meter.count(name, kind, amount, at)
        if (name, kind) == ("steps", "uncommitted"):
            self._end(0.0, at, failed=True)
        elif name != "steps":
            self._counts[f"streamal.{name}.{kind}" if kind else f"streamal.{name}"] = amount

    def gauge(self, name: str, value: float) -> None:
        """Pass it on."""
        self._meter.gauge(name, value)

    def observe(self, name: str, value: float, at: str = "") -> None:
        """Pass it on; the duration of a step ends its span."""
        self._meter.observe(name, value, at)
        if name == "commit_seconds":
            now = time.time_ns()
            self._commit = (now - int(value * 1e9), now)
        elif name == "step_seconds":
            self._end(value, at, failed=False)

    def close(self) -> None:
        """Send what has not been sent."""
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
