"""Gauges of the time: what the log and the states have noted must not be ahead of the clock."""

from __future__ import annotations

from streamal.core.gauges.declaration import Gauge, Worker

__all__ = ["CLOCK", "clock_ahead_s"]


def clock_ahead_s(worker: Worker) -> float:
    """Return how many seconds the latest noted time is ahead of the clock; 0 if it is not (F64)."""
    books = worker.fold.books
    noted = max(books.now, books.asked_at, *(state.now for state in worker.states.values()))
    return max(0.0, noted - worker.now)


CLOCK: tuple[Gauge, ...] = (
    Gauge(
        "clock_ahead_seconds",
        "How far the latest time in the log and the states is ahead of the clock; a clock was wrong.",
        clock_ahead_s,
    ),
)
