"""Gauges of the requests: how many are open, and what share of the events and of the requests they reach."""

from __future__ import annotations

from streamal.core.gauges.declaration import Gauge, Value, Worker

__all__ = ["REQUESTS"]


def _oldest_s(worker: Worker) -> float:
    oldest = min((request.asked_at for request in worker.fold.books.pending.open.values()), default=None)
    return 0.0 if oldest is None else max(0.0, worker.now - oldest)


def _spent_share(worker: Worker) -> Value:
    counters = [state.counters for state in worker.states.values() if state.counters is not None]
    accepted = sum(each.accepted for each in counters)
    return sum(each.audit + each.strategy for each in counters) / accepted if accepted else None


def _never_askable_share(worker: Worker) -> Value:
    totals = [state.seen for state in worker.states.values()]
    events = sum(each.events for each in totals)
    return sum(each.never_askable for each in totals) / events if events else None


def _pace_limit(worker: Worker) -> Value:
    horizon_s = worker.rules.pace_horizon_s
    return None if horizon_s is None else worker.fold.books.answer_rate.open_max(horizon_s, worker.rules.burst)


def _asked_at(worker: Worker) -> Value:
    return max((state.asked_at for state in worker.states.values() if state.asked_at > 0.0), default=None)


REQUESTS: tuple[Gauge, ...] = (
    Gauge("open_requests", "Requests that wait for a reply.", lambda worker: len(worker.fold.books.pending)),
    Gauge("open_requests_bytes", "Memory that they take, about.", lambda worker: worker.fold.books.pending.bytes),
    Gauge("oldest_open_request_seconds", "Age of the oldest open request.", _oldest_s),
    Gauge(
        "open_requests_pace_limit",
        "Open requests at which nothing more is asked, by the annotators' pace (limits.pace_horizon_s).",
        _pace_limit,
    ),
    Gauge("last_request_timestamp_seconds", "When the last label was asked for, in the partitions owned.", _asked_at),
    Gauge("budget_spent_ratio", "Requests per accepted event so far, in the partitions owned.", _spent_share),
    Gauge(
        "unanswered_ratio",
        "Closed requests that brought no label: what quality cannot see.",
        lambda worker: worker.fold.learned.quality.unanswered_share(),
    ),
    Gauge(
        "never_askable_ratio",
        "Events that had no chance of being asked: what no estimate speaks of.",
        _never_askable_share,
    ),
)
