"""Checks the caps of clock windows for `verify`: requests and money, as they were known at each moment."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from streamal.core.budget.money import windows
from streamal.core.budget.sampler import Budget, divide
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.records import Closing, Prediction, Request, partition_of
from streamal.core.rules import Rules
from streamal.inspection.verify.checks import Check
from streamal.ports import Log, scan

__all__ = ["check_caps"]

Caps = Sequence[int | None]
"""The cap of each clock window (hour, day, month), None where there is none."""
_REQUESTS = "no clock hour or calendar day has more requests than its cap, divided among the partitions"
_MONEY = "no hour, day or month costs more than its cap, open requests at their maximum, in every prefix"


class _Asked(NamedTuple):
    """A prediction that asked; *request* says when and what was reserved, a closing record after compaction."""

    version: int
    request: Request | Closing


class _Closed(NamedTuple):
    """A closing record and its offset in ``training``."""

    offset: int
    record: Closing


def check_caps(log: Log, rules: Rules, budget: Budget, predictions: Mapping[str, Prediction]) -> Iterator[Check]:
    """Yield the check of each kind of cap that is configured.

    A prediction's version says which closings had been folded when it asked: the cost of those requests is settled,
    that of all others is reserved.
    """
    closed = _read_closed(log, rules)
    asked = _read_asked(log, rules, predictions, closed)
    counts: Caps = (budget.per_hour, budget.per_day, None)
    if any(counts):
        check = Check(_REQUESTS)
        for partition, requests in asked.items():
            _check_counts(check, requests, _divide(counts, partition, rules))
        yield check
    if any(budget.money):
        check = Check(_MONEY)
        for partition, requests in asked.items():
            _check_money(check, requests, closed[partition], _divide(budget.money, partition, rules))
        yield check


def _read_closed(log: Log, rules: Rules) -> Mapping[int, Sequence[_Closed]]:
    """Return partition -> its closing records, in the order of ``training``."""
    closed: dict[int, list[_Closed]] = defaultdict(list)
    for record in scan(log, rules.topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Closing):
            closed[partition_of(training.request)].append(_Closed(record.offset, training))
    return closed


def _read_asked(
    log: Log, rules: Rules, predictions: Mapping[str, Prediction], closed: Mapping[int, Sequence[_Closed]]
) -> Mapping[int, Sequence[_Asked]]:
    """Return partition -> the predictions that asked, in the order of the events."""
    requests: dict[str, Request | Closing] = {}
    for partition in range(rules.partitions):
        for record in scan(log, rules.topics.requests, partition):
            request = decode_request(record.value) if record.value is not None else None
            if isinstance(request, Request):
                requests[request.request] = request
    requests |= {each.record.request: each.record for of_partition in closed.values() for each in of_partition}
    asked: dict[int, list[_Asked]] = defaultdict(list)
    for event, prediction in predictions.items():
        if prediction.asked is not None and event in requests:
            asked[partition_of(event)].append(_Asked(prediction.version, requests[event]))
    return asked


def _divide(caps: Caps, partition: int, rules: Rules) -> Caps:
    """Return the part of each of the *caps* that *partition* has."""
    return [None if cap is None else divide(cap, partition, rules.partitions) for cap in caps]


def _check_counts(check: Check, asked: Sequence[_Asked], caps: Caps) -> None:
    """Count one request after the other against the caps of its windows."""
    counts: Counter[tuple[int, int]] = Counter()
    for _, request in asked:
        for window in _windows(request):
            counts[window] += 1
            check.expect(_is_within(counts[window], caps[window[0]]), request.request)


def _check_money(check: Check, asked: Sequence[_Asked], closed: Sequence[_Closed], caps: Caps) -> None:
    """Reserve the money of one request after the other; give back what the closings before its version did not cost."""
    spent: Counter[tuple[int, int]] = Counter()
    settled, seen = 0, set[str]()
    for version, request in asked:
        while settled < len(closed) and closed[settled].offset < version:
            record = closed[settled].record
            check.expect(0 <= record.cost <= record.reserved, f"{record.request}: costs more than was reserved for it")
            for window in _windows(record) if record.request in seen else ():
                spent[window] -= record.reserved - record.cost
            settled += 1
        seen.add(request.request)
        for window in _windows(request):
            spent[window] += request.reserved
            check.expect(_is_within(spent[window], caps[window[0]]), request.request)


def _is_within(amount: int, cap: int | None) -> bool:
    return cap is None or amount <= cap


def _windows(request: Request | Closing) -> Iterator[tuple[int, int]]:
    """Yield (kind, number) of the clock windows in which *request* was made: hour, day, month."""
    return enumerate(windows(int(request.asked_at // 3600)))
