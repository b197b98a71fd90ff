"""The report of a period: its cost, its labels, its accuracy, and advice on the budget; from the topics alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, TypedDict

from streamal.core.budget.money import MICRO
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.quality.estimates import Z_95, Estimate
from streamal.core.quality.quality import Quality
from streamal.core.records import Closing, Example, NaturalExample, Refusal, Request
from streamal.core.rules import TopicNames
from streamal.errors import InconsistentLog
from streamal.ports import Log, scan

__all__ = ["Advice", "Point", "Report", "advise", "report"]

_POINTS = 12
"""Estimates along the period; each has labels of its own, so that they are independent."""
_LABELS_MIN, _LABELS_POINT = 120, 40
_WORTH, _WORTHLESS = 0.01, 0.002
"""Gain in accuracy from as many labels again: at least this to be worth them, below that to be worthless."""
_ANNOTATORS_MAX = 10


@dataclass(frozen=True, slots=True)
class Point:
    """The accuracy, with its interval, after about *labels* labels, estimated from the latest of them."""

    labels: float
    at: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Advice:
    """Advice on the budget with its reason; *gain* is the accuracy that as many labels again are expected to add."""

    verdict: Literal["raise", "hold", "lower", "stop"]
    reason: str
    gain: Estimate | None


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a period.

    Attributes:
        since, until: the period, in seconds since the epoch; the requests made in it count.
        requests: lane -> number; outcomes: outcome so far -> number.
        natural: natural labels learned in the period.
        annotators: name -> replies, the busiest first, all others as "others".
        cost: of the closed requests, in the currency.
        reserved: the highest cost of the open requests.
        before, now: accuracy over the last labels before the period, and over the last in it.
        naive: accuracy among those labels, which is biased.
        unanswered, never_askable: what the estimates cannot see, as shares of closed requests and of events.
    """

    since: float
    until: float
    requests: Mapping[str, int]
    outcomes: Mapping[str, int]
    natural: int
    annotators: Mapping[str, int]
    cost: float
    reserved: float
    before: Estimate | None
    now: Estimate | None
    naive: float | None
    unanswered: float | None
    never_askable: float | None
    curve: Sequence[Point]
    advice: Advice


class _Estimates(TypedDict):
    before: Estimate | None
    now: Estimate | None
    naive: float | None
    unanswered: float | None
    never_askable: float | None


class _History(NamedTuple):
    """All closed requests, natural examples and open requests of the topics."""

    closed: Sequence[Closing]
    natural: Sequence[NaturalExample]
    open: Sequence[Request]

    def last_time(self) -> float:
        """Return the time of the last record, 0.0 without any."""
        trained = (record.at for record in (*self.closed, *self.natural))
        return max((*trained, *(request.asked_at for request in self.open)), default=0.0)


class _Period:
    """The records of a period, and the closed requests before it."""

    def __init__(self, history: _History, begin: float, end: float) -> None:
        self.before = [record for record in history.closed if record.asked_at < begin]
        self.closed = [record for record in history.closed if begin <= record.asked_at <= end]
        self.open = [request for request in history.open if begin <= request.asked_at <= end]
        self.natural = sum(begin <= record.at <= end for record in history.natural)
        weighted = (record for record in self.closed if isinstance(record, Example) and record.propensity > 0.0)
        self.examples = sorted(weighted, key=_order)


def report(log: Log, topics: TopicNames, since: float | None, until: float | None, days: float, window: int) -> Report:
    """Return the report of the period from *since* to *until*, by default the last *days* up to the last record.

    Args:
        log: any transport's topics; the daemon may be running.
        topics: their names.
        since: in seconds since the epoch.
        until: likewise.
        days: length of the period where *since* is not given.
        window: labels that an accuracy is taken over.

    Raises:
        InconsistentLog: another program has written to ``training`` or ``requests``.
    """
    history = _read_history(log, topics)
    end = history.last_time() if until is None else until
    begin = end - days * 86_400.0 if since is None else since
    period = _Period(history, begin, end)
    learned = sum(isinstance(record, Example) for record in period.before)
    curve = _curve(period.before, period.examples, learned)
    return Report(
        since=begin,
        until=end,
        requests=_count_lanes(period),
        outcomes=_count_outcomes(period.closed, len(period.open)),
        natural=period.natural,
        annotators=_count_annotators(period.closed),
        cost=sum(record.cost for record in period.closed) / MICRO,
        reserved=sum(request.reserved for request in period.open) / MICRO,
        curve=curve,
        advice=advise(curve, learned, len(period.examples)),
        **_estimates(period, window),
    )


def advise(curve: Sequence[Point], before: int, bought: int) -> Advice:
    """Return whether *bought* more labels are worth their price, after *before* + *bought* labels so far.

    A learning curve is close to a straight line over the logarithm of the number of labels. The line is fitted to the
    period's points, each weighted by its interval; its slope times log((n + m)/n), n labels so far, m more, is the
    expected gain in accuracy, with a 95 % interval. The rule, in this order:

    * fewer than 120 labels: **hold**;
    * certainly getting worse (the gain's interval is below 0): **raise**, the stream drifts away from the model;
    * certainly getting better: **raise** if by 1 point or more, else **hold**;
    * certainly less than 0.2 points to be had: **stop**, but for the audit lane;
    * certainly less than 1 point: **lower**;
    * otherwise nothing is certain yet: **hold**.
    """
    if bought < _LABELS_MIN or len(curve) < 3:
        return Advice("hold", f"{bought} labels are too few to tell; {_LABELS_MIN} are needed.", None)
    slope, error = _slope(curve)
    more = math.log((before + 2.0 * bought) / (before + bought))
    gain = Estimate(slope * more, (slope - Z_95 * error) * more, (slope + Z_95 * error) * more)
    span = f"{_points(gain.value)} points, 95 % interval {_points(gain.low)} to {_points(gain.high)}"
    if gain.high < 0.0:
        return Advice("raise", f"accuracy falls in spite of the labels ({span}): the stream drifts away.", gain)
    if gain.low > 0.0 and gain.value >= _WORTH:
        return Advice("raise", f"as many labels again would add about {span}.", gain)
    if gain.low > 0.0:
        return Advice("hold", f"labels still help, but not by 1 point: as many again would add about {span}.", gain)
    if gain.high < _WORTHLESS:
        return Advice("stop", f"the curve is flat ({span}): keep the audit lane only, to see when that changes.", gain)
    if gain.high < _WORTH:
        return Advice("lower", f"as many labels again would hardly add 1 point ({span}).", gain)
    return Advice("hold", f"whether more labels would help cannot be told yet ({span}).", gain)


def _points(share: float) -> str:
    return f"{100.0 * share:+.1f}"


def _read_history(log: Log, topics: TopicNames) -> _History:
    """Return every record of ``training`` that matters here, and the open requests."""
    closed: list[Closing] = []
    natural: list[NaturalExample] = []
    for record in scan(log, topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Refusal):
            raise InconsistentLog(f"training offset {record.offset}: {training.detail}")
        if isinstance(training, NaturalExample):
            natural.append(training)
        elif isinstance(training, Closing):
            closed.append(training)
    return _History(closed, natural, _read_open(log, topics, {record.request for record in closed}))


def _read_open(log: Log, topics: TopicNames, closed: set[str]) -> list[Request]:
    """Return the open requests: those without a tombstone that are not among *closed*."""
    found: dict[str, Request] = {}
    for partition in range(log.partitions(topics.requests)):
        for record in scan(log, topics.requests, partition):
            if record.value is None:
                found.pop((record.key or b"").decode(errors="replace"), None)
                continue
            request = decode_request(record.value)
            if isinstance(request, Refusal):
                raise InconsistentLog(f"requests {partition}-{record.offset}: {request.detail}")
            found[request.request] = request
    return [request for key, request in found.items() if key not in closed]


def _estimates(period: _Period, window: int) -> _Estimates:
    """Return the accuracy before and in the period, and what it cannot see."""
    quality = _quality([*period.before, *period.closed], window)
    return {
        "before": _quality(period.before, window).accuracy(),
        "now": quality.accuracy() if period.examples else None,
        "naive": quality.recent_sums().naive() if period.examples else None,
        "unanswered": _quality(period.closed, window).unanswered_share(),
        "never_askable": quality.never_askable(),
    }


def _quality(records: Sequence[Closing], window: int) -> Quality:
    quality = Quality(window)
    for record in records:
        quality.fold(record)
    return quality


def _order(record: Closing) -> tuple[float, int, str]:
    return record.asked_at, int(record.request.partition("-")[2]), record.request


def _count_lanes(period: _Period) -> Mapping[str, int]:
    lanes = Counter(str(request.lane) for request in (*period.closed, *period.open))
    return dict(sorted(lanes.items()))


def _count_outcomes(closed: Sequence[Closing], waiting: int) -> Mapping[str, int]:
    names = {"example": "labels", "abstention": "abstentions", "expiry": "expiries"}
    found = Counter(names[record.kind] for record in closed)
    return {**{name: found[name] for name in names.values()}, "open": waiting}


def _count_annotators(closed: Sequence[Closing]) -> Mapping[str, int]:
    counts = Counter(record.annotator or "unnamed" for record in closed if record.has_reply)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    others = sum(count for _, count in ranked[_ANNOTATORS_MAX:])
    return dict(ranked[:_ANNOTATORS_MAX]) | ({"others": others} if others else {})


def _curve(before: Sequence[Closing], examples: Sequence[Example], learned: int) -> list[Point]:
    """Return the accuracy along the period.

    The labels before each part go into its estimate first: the counts of events in a part begin with them.
    """
    points = min(_POINTS, len(examples) // _LABELS_POINT)
    if not points:
        return []
    edges = [len(examples) * i // points for i in range(points + 1)]
    earlier: Sequence[Closing] = sorted(before, key=_order)[-len(examples) :]
    curve = []
    for first, end in pairwise(edges):
        part = examples[first:end]
        estimate = _quality([*earlier, *part], len(part)).accuracy()
        if estimate is not None:
            middle = part[len(part) // 2]
            curve.append(Point(learned + (first + end) / 2.0, middle.asked_at, estimate))
        earlier = part
    return curve


def _slope(curve: Sequence[Point]) -> tuple[float, float]:
    """Return the slope of accuracy over log(labels) and its standard error, by weighted least squares.

    Points that scatter more than their intervals (the accuracy itself goes up and down) widen the error.
    """
    x = [math.log(max(1.0, point.labels)) for point in curve]
    w = [(2.0 * Z_95 / max(1e-6, point.accuracy.high - point.accuracy.low)) ** 2 for point in curve]
    y = [point.accuracy.value for point in curve]
    total = sum(w)
    mean_x = sum(a * b for a, b in zip(w, x, strict=True)) / total
    mean_y = sum(a * b for a, b in zip(w, y, strict=True)) / total
    sxx = sum(a * (b - mean_x) ** 2 for a, b in zip(w, x, strict=True))
    slope = sum(a * (b - mean_x) * (c - mean_y) for a, b, c in zip(w, x, y, strict=True)) / sxx
    left = sum(a * (c - mean_y - slope * (b - mean_x)) ** 2 for a, b, c in zip(w, x, y, strict=True))
    return slope, math.sqrt(max(1.0, left / (len(curve) - 2)) / sxx)
