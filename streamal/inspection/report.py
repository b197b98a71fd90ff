"""What a period has cost, what it has bought, and whether the next labels are worth it: from the topics alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from streamal.core.budget.money import MICRO
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.quality.estimates import Estimate
from streamal.core.quality.quality import Quality
from streamal.core.records import Closing, Example, Expiry, NaturalExample, Refusal, Request
from streamal.core.rules import TopicNames
from streamal.errors import InconsistentLog
from streamal.ports import Log, scan

__all__ = ["Advice", "Point", "Report", "advise", "report"]

_POINTS = 12
"""So many estimates the period is cut into, each with labels of its own, so that they are independent."""
_LABELS_MIN, _LABELS_POINT = 120, 40
_WORTH, _WORTHLESS = 0.01, 0.002
"""Fewer mistakes, as a share of all events, that make as many labels again worth it, or certainly not."""
_ANNOTATORS_MAX = 10
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Point:
    """The accuracy at about the time when *labels* labels had been bought, from a part of them, with its interval."""

    labels: float
    at: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about the budget, and why in one sentence; *gain* is what as many labels again are expected to add."""

    verdict: Literal["raise", "hold", "lower", "stop"]
    reason: str
    gain: Estimate | None


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told of a period.

    Attributes:
        since, until: the period, in seconds since the epoch; requests made in it count.
        requests: by lane; outcomes: what has become of them so far.
        natural: labels that nobody asked for, learned in the period.
        annotators: who has answered how often, the busiest first, all others as "others".
        cost: what the closed requests have cost, in the currency.
        reserved: the most that the open ones can cost on top.
        before, now: accuracy over the last labels before the period, and over the last in it.
        naive: accuracy among those very labels, which is biased.
        unanswered, unreachable: what the estimates cannot see, as shares of closed requests and of events.
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
        LogDisagrees: somebody else has written to ``training`` or ``requests``.
    """
    closed, natural = _training(log, topics.training)
    open_ = _open(log, topics, {record.request for record in closed})
    times = [*(record.at for record in closed), *(record.at for record in natural), *(r.asked_at for r in open_)]
    end = max(times, default=0.0) if until is None else until
    begin = end - days * 86_400.0 if since is None else since
    before = [record for record in closed if record.asked_at < begin]
    within = [record for record in closed if begin <= record.asked_at <= end]
    waiting = [request for request in open_ if begin <= request.asked_at <= end]
    lanes = Counter(str(each.lane) for each in (*within, *waiting))
    then, quality = _folded(before, window), _folded([*before, *within], window)
    examples = sorted((r for r in within if isinstance(r, Example) and r.propensity > 0.0), key=_order)
    learned = sum(isinstance(record, Example) for record in before)
    curve = _curve(before, examples, learned)
    return Report(
        since=begin,
        until=end,
        requests=dict(sorted(lanes.items())),
        outcomes=_outcomes(within, len(waiting)),
        natural=sum(begin <= record.at <= end for record in natural),
        annotators=_annotators(within),
        cost=sum(record.cost for record in within) / MICRO,
        reserved=sum(request.reserved for request in waiting) / MICRO,
        before=then.accuracy(),
        now=quality.accuracy() if examples else None,
        naive=quality.recent_sums().naive() if examples else None,
        unanswered=_folded(within, window).unanswered_share(),
        never_askable=quality.never_askable(),
        curve=curve,
        advice=advise(curve, learned, len(examples)),
    )


def advise(curve: Sequence[Point], before: int, bought: int) -> Advice:
    """Return whether as many labels again as the *bought* ones are worth it, *before* having been there already.

    A learning curve is close to a straight line over the logarithm of the number of labels. The line is fitted to the
    period's points, each weighted by its interval; its slope times log((n + m)/n), n labels so far, m more, is the
    expected gain in accuracy, with a 95 % interval. The rule, in this order:

    * fewer than 120 labels: **hold**;
    * certainly getting worse (the gain's interval is below 0): **raise**, the stream drifts away from the model;
    * certainly getting better: **raise** if by 1 point or more, else **hold**;
    * certainly less than 0.2 points to be had: **stop**, but for the audit lane;
    * certainly less than 1 point: **lower**;
    * otherwise it cannot be told yet: **hold**.
    """
    if bought < _LABELS_MIN or len(curve) < 3:
        return Advice("hold", f"{bought} labels are too few to tell; {_LABELS_MIN} are needed.", None)
    slope, error = _slope(curve)
    more = math.log((before + 2.0 * bought) / (before + bought))
    gain = Estimate(slope * more, (slope - _Z * error) * more, (slope + _Z * error) * more)
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


def _training(log: Log, topic: str) -> tuple[list[Closing], list[NaturalExample]]:
    """Return all closed requests, and all natural examples."""
    closed: list[Closing] = []
    natural: list[NaturalExample] = []
    for record in scan(log, topic, 0):
        training = decode_training(record.value)
        if isinstance(training, Refusal):
            raise InconsistentLog(f"training offset {record.offset}: {training.detail}")
        if isinstance(training, NaturalExample):
            natural.append(training)
        elif isinstance(training, Closing):
            closed.append(training)
    return closed, natural


def _open(log: Log, topics: TopicNames, closed: set[str]) -> list[Request]:
    """Return the requests that nobody has answered yet; those that were closed may have been compacted away."""
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


def _folded(records: Sequence[Closing], window: int) -> Quality:
    quality = Quality(window)
    for record in records:
        quality.fold(record)
    return quality


def _order(record: Closing) -> tuple[float, int, str]:
    return record.asked_at, int(record.request.partition("-")[2]), record.request


def _outcomes(closed: Sequence[Closing], waiting: int) -> Mapping[str, int]:
    names = {"example": "labels", "abstention": "abstentions", "expiry": "expiries"}
    found = Counter(names[type(record).__name__.lower()] for record in closed)
    return {**{name: found[name] for name in names.values()}, "open": waiting}


def _annotators(closed: Sequence[Closing]) -> Mapping[str, int]:
    counts = Counter(record.annotator or "unnamed" for record in closed if not isinstance(record, Expiry))
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    others = sum(count for _, count in ranked[_ANNOTATORS_MAX:])
    return dict(ranked[:_ANNOTATORS_MAX]) | ({"others": others} if others else {})


def _curve(before: Sequence[Closing], examples: Sequence[Example], learned: int) -> list[Point]:
    """Return the accuracy along the period; each point's labels are preceded by others, whose counts begin its part."""
    points = min(_POINTS, len(examples) // _LABELS_POINT)
    if not points:
        return []
    edges = [len(examples) * i // points for i in range(points + 1)]
    earlier: Sequence[Closing] = sorted(before, key=_order)[-len(examples) :]
    curve = []
    for first, end in pairwise(edges):
        part = examples[first:end]
        estimate = _folded([*earlier, *part], len(part)).accuracy()
        if estimate is not None:
            middle = part[len(part) // 2]
            curve.append(Point(learned + (first + end) / 2.0, middle.asked_at, estimate))
        earlier = part
    return curve


def _slope(curve: Sequence[Point]) -> tuple[float, float]:
    """Return the slope of accuracy over log(labels) and its standard error, by weighted least squares.

    Points that scatter more than their intervals tell (the accuracy itself goes up and down) widen the error.
    """
    x = [math.log(max(1.0, point.labels)) for point in curve]
    w = [(2.0 * _Z / max(1e-6, point.accuracy.high - point.accuracy.low)) ** 2 for point in curve]
    y = [point.accuracy.value for point in curve]
    total = sum(w)
    mean_x = sum(a * b for a, b in zip(w, x, strict=True)) / total
    mean_y = sum(a * b for a, b in zip(w, y, strict=True)) / total
    sxx = sum(a * (b - mean_x) ** 2 for a, b in zip(w, x, strict=True))
    slope = sum(a * (b - mean_x) * (c - mean_y) for a, b, c in zip(w, x, y, strict=True)) / sxx
    left = sum(a * (c - mean_y - slope * (b - mean_x)) ** 2 for a, b, c in zip(w, x, y, strict=True))
    return slope, math.sqrt(max(1.0, left / (len(curve) - 2)) / sxx)
