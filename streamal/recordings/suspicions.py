"""What looks wrong with a recorded stream: columns that are identifiers, the label, or the future; odd labels.

Each rule can be mistaken: it says what it has counted, and what to do if it is right.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, Literal

from streamal.core.labels import class_name, group_alike
from streamal.recordings.reading import Stream

__all__ = ["Kind", "Suspicion", "column_suspicions", "label_suspicions"]

Kind = Literal["identifier", "label", "future", "time", "constant", "missing", "target", "classes", "order"]

_ROWS_MIN = 20
"""With fewer values nothing is concluded."""
_DISTINCT = 0.9
"""A text column with more different values than this share of its values looks like an identifier."""
_LEAK = 0.99
"""A column that alone tells so many labels is not believed."""
_BINS = 32
_MISSING = 0.5
_TARGET_CLASSES = 20
"""So many classes that are all numbers, and more than one in twenty rows, look like a regression target."""
_RARE = 0.01
_IDENTIFIER = re.compile(r"(^|[_.\s-])(id|ids|uuid|guid|key|no|nr|number|index|rowid|row)$|(Id|ID|Uuid|UUID)$")
_AFTERWARDS = re.compile(
    r"(^|[_.\s-])(outcome|result|resolution|resolved|closed|final|actual|settled|delivered|refund(ed)?|chargeback|"
    r"truth|ground_truth|target|label|class|predicted|prediction|probability|propensity)($|[_.\s-])",
    re.IGNORECASE,
)
"""Names of what is known only after the event, or with its label."""
_EPOCH_S = (1e9, 4e9)
"""Seconds since 1970 from 2001 to 2096."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One thing to look at.

    Attributes:
        kind: a stable name.
        column: the column, "" for the stream as a whole.
        text: what was counted.
        advice: what to do if it is right.
        drop: whether the column should be no feature then.
    """

    kind: Kind
    column: str
    text: str
    advice: str
    drop: bool = False

    def as_dict(self) -> dict[str, object]:
        """Return the suspicion as JSON-ready values."""
        return {name: getattr(self, name) for name in self.__slots__}


def label_suspicions(stream: Stream, classes: Mapping[str, int]) -> Iterator[Suspicion]:
    """Yield what is odd about the labels of *stream*; *classes* are their counts."""
    events, count = len(stream.rows), len(classes)
    if count == 1:
        advice = "is it the right column? there is nothing to learn"
        yield Suspicion("classes", "", f"every label is {next(iter(classes))!r}", advice)
    if count > max(_TARGET_CLASSES, events // 20) and all(map(_is_number, classes)):
        text = f"the label has {count:,} different numbers in {events:,} events: a regression target, no classes"
        advice = "streamal classifies: make a few classes of it (bins, above or below a bound)"
        yield Suspicion("target", "", text, advice)
    elif count > max(_TARGET_CLASSES, events // 2):
        text = f"the label has {count:,} different values in {events:,} events"
        yield Suspicion("classes", "", text, "is it the right column? a class needs many examples")
    elif rare := [label for label, there in classes.items() if there < max(2, _RARE * events)]:
        names = ", ".join(map(repr, rare[:3])) + (" …" if len(rare) > 3 else "")
        text = f"{len(rare)} of {count} classes are rare (below {_RARE:.0%} of the events, or once): {names}"
        yield Suspicion("classes", "", text, "look at balanced accuracy; budget.quotas asks for rare classes")
    yield from _near_misses(classes)
    changes = sum(a.label != b.label for a, b in itertools.pairwise(stream.rows))
    if count > 1 and events >= _ROWS_MIN * count and changes == count - 1:
        text = "the rows are sorted by their label: all events of a class follow each other"
        yield Suspicion("order", "", text, "give the column of the times (--time), or shuffle the rows")


def _near_misses(classes: Mapping[str, int]) -> Iterator[Suspicion]:
    """Yield classes that are near-misses of each other."""
    for names in group_alike(classes):
        text = (
            f"{', '.join(map(repr, names))} are {len(names)} classes that differ in case, spaces or Unicode form only"
        )
        yield Suspicion("classes", "", text, "spell a class in one way")


def column_suspicions(stream: Stream, name: str, classes: Mapping[str, int]) -> Iterator[Suspicion]:
    """Yield what is odd about the feature *name* of *stream*; *classes* are the counts of its labels."""
    values = [row.features.get(name) for row in stream.rows]
    kind = stream.kinds[name]
    present = [value for value in values if value is not None]
    if kind.startswith("vector") or len(present) < _ROWS_MIN:
        return
    distinct = len(set(present))
    missing = len(values) - len(present)
    if distinct == 1 and not missing:
        yield Suspicion("constant", name, f"{name!r} is the same in all rows", "it tells nothing: drop it", drop=True)
        return
    leak = _leak(stream, name, values, classes)
    if leak is not None:
        yield leak
        return
    future = _future(stream, name, present, values)
    if future is not None:
        yield future
        return
    if kind != "text" and _looks_like_identifier(name, kind, present, distinct):
        text = f"{name!r} looks like an identifier: {distinct:,} different values in {len(present):,} rows"
        yield Suspicion("identifier", name, text, "an identifier tells nothing of a new event: drop it", drop=True)
    elif missing > _MISSING * len(values):
        text = f"{name!r} is missing in {missing / len(values):.0%} of the rows"
        yield Suspicion("missing", name, text, "is it read right? is it there when an event comes?")


def _looks_like_identifier(name: str, kind: str, present: Sequence[Any], distinct: int) -> bool:
    if distinct <= _DISTINCT * len(present):
        return False
    if kind == "string":
        return True
    if kind != "number" or any(value != int(value) for value in present):
        return False
    rising = all(a < b for a, b in itertools.pairwise(present))
    return rising or _IDENTIFIER.search(name) is not None


def _leak(stream: Stream, name: str, values: Sequence[Any], classes: Mapping[str, int]) -> Suspicion | None:
    """Return a suspicion if *values* alone, or where they are missing, tell nearly every label."""
    labels = [row.label for row in stream.rows]
    if len(classes) == 1 or min(len(classes), _ROWS_MIN) * 2 > len(labels):
        return None
    advice = "would it be known when an event comes? if not, drop it"
    distinct = set(values)
    missing = None in distinct
    # a column that is the label has about as many values
    names = {value: class_name(value) for value in distinct - {None}} if len(distinct) <= 4 * len(classes) + 10 else {}
    same = sum(names.get(value) == label for value, label in zip(values, labels, strict=True)) if names else 0
    if same >= _LEAK * len(labels):
        text = f"{name!r} is the label itself in {same / len(labels):.1%} of the rows"
        return Suspicion("label", name, text, advice, drop=True)
    for what, groups in (
        (f"{name!r} alone", _groups(values, stream.kinds[name], len(distinct))),
        (f"whether {name!r} is there", [value is None for value in values] if missing else []),
    ):
        recall = _told(groups, labels) if groups else 0.0
        if recall >= _LEAK:
            return Suspicion("label", name, f"{what} tells {recall:.1%} of the labels", advice, drop=True)
    return None


def _groups(values: Sequence[Any], kind: str, distinct: int) -> Sequence[Hashable]:
    """Return the group of each value: the value itself, or its part of the order for many different numbers."""
    if kind != "number" or distinct <= _BINS:
        return values
    ordered = sorted(value for value in values if value is not None)
    bounds = [ordered[number * len(ordered) // _BINS] for number in range(1, _BINS)]
    return [None if value is None else bisect(bounds, value) for value in values]


def _told(groups: Sequence[Hashable], labels: Sequence[str]) -> float:
    """Return the mean recall of the classes if each group says its commonest label.

    A group of one row tells nothing; 0.0 if most rows are alone.
    """
    by_group: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for (group, label), count in Counter(zip(groups, labels, strict=True)).items():
        by_group[group][label] = count
    there, right = Counter[str](), Counter[str]()
    for counts in by_group.values():
        label, most = counts.most_common(1)[0]
        if counts.total() > 1:
            there += counts
            right[label] += most
    if 2 * there.total() < len(labels) or len(there) < len(set(labels)):
        return 0.0
    return fmean(right[label] / count for label, count in there.items())


def _future(stream: Stream, name: str, present: Sequence[Any], values: Sequence[Any]) -> Suspicion | None:
    """Return a suspicion if *values* are moments after their events, or have the name of what comes afterwards."""
    advice = "is it known when the event comes? if not, drop it"
    has_times = any(column.role == "time" for column in stream.columns.values())
    moments = _moments(values)
    if moments is not None and has_times:
        later = sum(moment is not None and moment > row.time for moment, row in zip(moments, stream.rows, strict=True))
        if later > 0.5 * len(present):
            text = f"{name!r} lies after its event in {later / len(present):.0%} of the rows"
            more = "; if it is when the label became known, say --label-time"
            return Suspicion("future", name, text, advice + more, drop=True)
    elif moments is not None:
        more = f"if it is when the event comes, say --time {name} (when its label came: --label-time); else drop it"
        return Suspicion("time", name, f"{name!r} holds moments, such as {present[0]}", more, drop=True)
    if _AFTERWARDS.search(name):
        return Suspicion("future", name, f"{name!r} has the name of something known only afterwards", advice)
    return None


def _moments(values: Sequence[Any]) -> list[float | None] | None:
    """Return *values* as seconds since 1970, None if they are no moments."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, float) and _EPOCH_S[0] <= value < _EPOCH_S[1] for value in present):
        return list(values)
    found: list[float | None] = []
    for value in values:
        try:
            moment = None if value is None else datetime.fromisoformat(value)
        except (TypeError, ValueError):
            return None
        found.append(None if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return found


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True
