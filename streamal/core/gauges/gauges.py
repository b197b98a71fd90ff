"""All gauges of a worker, in one place; the metrics, `streamal status` and the reference take them from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamal.core.gauges.clock import CLOCK
from streamal.core.gauges.confidence_drift import CONFIDENCE
from streamal.core.gauges.declaration import Gauge, Value, Worker
from streamal.core.gauges.misfits import MISFITS
from streamal.core.gauges.model import ARM_WEIGHTS, MODEL
from streamal.core.gauges.mute import ASKING
from streamal.core.gauges.quality import QUALITY
from streamal.core.gauges.requests import REQUESTS
from streamal.core.gauges.spend import SPEND

__all__ = ["GAUGES", "gauges"]

GAUGES: tuple[Gauge, ...] = (
    *REQUESTS,
    *MODEL,
    *MISFITS,
    *ASKING,
    *CLOCK,
    *CONFIDENCE,
    *SPEND,
    *QUALITY,
    *ARM_WEIGHTS,
)
"""Every gauge that is a function of what a worker knows."""


def gauges(worker: Worker, declared: Iterable[Gauge] = GAUGES) -> Mapping[str, Value]:
    """Return name -> value of the *declared* gauges, by default of all."""
    return {gauge.name: gauge.value(worker) for gauge in declared}
