"""The caps of clock windows for `verify`: requests and money, as they were known at each moment."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from streamal.core.budget.money import windows
from streamal.core.budget.sampler import Budget, divide
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.records import Closing, Prediction, Request, partition_of
from streamal.core.rules import Rules
from streamal.inspection.verify.checks import Check
from streamal.ports import Log, scan

__all__ = ["caps"]

_Bill = Request | Closing
"""What says when a label was asked and what was reserved; closed ones stand in ``training`` alone after compaction."""


def caps(log: Log, rules: Rules, budget: Budget, predictions: dict[str, Prediction]) -> Iterator[Check]:
    """Yield the check of each cap that is configured.

    A prediction's version says which replies had been folded: up to it the bill is settled, beyond it reserved.
    """
    bills: dict[str, _Bill] = {}
    closed: dict[int, list[tuple[int, Closing]]] = defaultdict(list)
    for partition in range(rules.partitions):
        for record in scan(log, rules.topics.requests, partition):
            request = decode_request(record.value) if record.value is not None else None
            if isinstance(request, Request):
                bills[request.request] = request
    for record in scan(log, rules.topics.training, 0):
        training = decode_training(record.value)
        if isinstance(training, Closing):
            bills[training.request] = training
            closed[partition_of(training.request)].append((record.offset, training))
    asked: dict[int, list[tuple[int, _Bill]]] = defaultdict(list)
    for key, prediction in predictions.items():
        if prediction.asked is not None and key in bills:
            asked[partition_of(key)].append((prediction.version, bills[key]))
    counts = (budget.per_hour, budget.per_day, None)
    if any(counts):
        check = Check("no clock hour or calendar day has more requests than its cap, divided among the partitions")
        for partition, rows in asked.items():
            _walk(check, rows, [], [None if cap is None else _part(cap, partition, rules) for cap in counts], 1)
        yield check
    if any(budget.money):
        check = Check("no hour, day or month costs more than its cap, open requests at their maximum, in every prefix")
        for partition, rows in asked.items():
            parts = [None if cap is None else _part(cap, partition, rules) for cap in budget.money]
            _walk(check, rows, closed[partition], parts, None)
        yield check


def _part(cap: int, partition: int, rules: Rules) -> int:
    return divide(cap, partition, rules.partitions)


def _walk(
    check: Check,
    asked: list[tuple[int, _Bill]],
    closed: list[tuple[int, Closing]],
    most: list[int | None],
    one: int | None,
) -> None:
    """Ask again in order: each takes *one*, or what was reserved for it; what *closed* gives back is known by then."""
    spent: Counter[tuple[int, int]] = Counter()
    done = 0
    for version, bill in asked:
        while done < len(closed) and closed[done][0] < version:
            record = closed[done][1]
            check.that(0 <= record.cost <= record.reserved, f"{record.request}: costs more than was reserved for it")
            for place in _places(record):
                spent[place] -= record.reserved - record.cost
            done += 1
        for place in _places(bill):
            spent[place] += bill.reserved if one is None else one
            cap = most[place[0]]
            check.that(cap is None or spent[place] <= cap, bill.request)


def _places(bill: _Bill) -> Iterator[tuple[int, int]]:
    return enumerate(windows(int(bill.asked_at // 3600)))
