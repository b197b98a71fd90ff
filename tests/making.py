"""Builders, fakes and Hypothesis strategies that the tests of the core share."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from river import naive_bayes

from streamal.core.books import Books
from streamal.core.budget.sampler import Budget
from streamal.core.codec.events import encode
from streamal.core.codec.wire_rules import WireRules
from streamal.core.fold import Fold
from streamal.core.learned import Learned, LearnedRules
from streamal.core.model.model import LabelRules, Model
from streamal.core.pending import Pending, RecentLabels
from streamal.core.quality.quality import Quality
from streamal.core.quality.totals import RunningTotals
from streamal.core.records import (
    Abstention,
    Example,
    Expiry,
    Lane,
    OffsetAndMetadata,
    OutputRecord,
    Record,
    Request,
    Scalar,
    SchemaSet,
    TopicPartition,
    coordinates,
)
from streamal.core.rules import Rules, Step, TopicNames
from streamal.core.schema import Schema
from streamal.core.step import step
from streamal.core.strategies import SamplingRules, build_strategy

TOPICS = TopicNames("events", "labels", "predictions", "requests", "training", "dead-letters")
LABELS = TopicPartition("labels", 0)
BAYES: Callable[[], Any] = naive_bayes.GaussianNB  # River leaves it untyped


def make_rules(
    *,
    share: str = "0.1",
    audit_share: str = "0.3",
    burst: int = 20,
    per_hour: int | None = None,
    open_max: int = 10_000,
    open_bytes: int = 96_000_000,
    partitions: int = 1,
    strategy: str = "variable",
    ttl_s: float = 100.0,
    expiries_per_step: int = 1_000,
    wire: WireRules | None = None,
) -> Rules:
    budget = Budget(Fraction(share), Fraction(audit_share), burst, per_hour, open_max, open_bytes=open_bytes)
    return Rules(
        topics=TOPICS,
        partitions=partitions,
        wire=wire or WireRules(),
        budgets=tuple(budget.partition_budget(partition, partitions) for partition in range(partitions)),
        strategy_name=strategy,
        strategy=build_strategy(SamplingRules(strategy, float(budget.rate), share=float(budget.share))),
        uncertainty="least_confidence",
        seed=7,
        ttl_s=ttl_s,
        expiries_per_step=expiries_per_step,
    )


def make_fold(
    *,
    classes: Sequence[str] = ("a", "b"),
    learn_new: bool = False,
    classes_max: int = 100,
    kinds: Mapping[str, str] | None = None,
    infer_from: int = 5,
    closed_max: int = 1_000,
    estimator: Any = None,
) -> Fold:
    """Return an empty fold; without *kinds* its schema is to be inferred."""
    labels = LabelRules(tuple(classes), learn_new, classes_max)
    return Fold(
        Books(Pending(closed_max), infer_from, samples=None if kinds else []),
        Learned(
            rules=LearnedRules(),
            model=Model(BAYES() if estimator is None else estimator, labels),
            schema=Schema(kinds) if kinds else None,
            quality=Quality(100),
            natural_labels=RecentLabels(closed_max),
        ),
    )


def make_request(
    offset: int, *, partition: int = 0, lane: Lane = Lane.STRATEGY, asked_at: float = 0.0, ttl_s: float = 100.0
) -> Request:
    return Request(
        request=coordinates(partition, offset),
        features={"x": float(offset)},
        label="a",
        probabilities={"a": 0.75, "b": 0.25},
        version=0,
        lane=lane,
        strategy="variable",
        uncertainty=0.25,
        propensity=0.5,
        asked_at=asked_at,
        expires_at=asked_at + ttl_s,
    )


def ask(fold: Fold, *requests: Request) -> None:
    """Fold *requests* as if they had been read from their topic."""
    for request in requests:
        partition = int(request.request.partition("-")[0])
        fold.apply_request(partition, fold.books.positions.get(partition, 0), request.request.encode(), encode(request))


def teach(fold: Fold, examples: Sequence[tuple[Mapping[str, Scalar], str]]) -> None:
    """Fold *examples* as if they had been read from ``training``."""
    for number, (features, label) in enumerate(examples):
        example = Example(f"9-{number}", label, dict(features), None, 1.0, Lane.AUDIT, 0.0, 0.0)
        fold.apply_training(fold.books.version.offset, encode(example))


def event_record(offset: int, features: Mapping[str, Scalar] | None = None, partition: int = 0) -> Record:
    body = {"features": dict(features) if features is not None else {"x": float(offset % 7)}}
    return Record("events", partition, offset, None, json.dumps(body).encode())


def reply_record(offset: int, request: str, label: str | bool | int | None, **fields: Any) -> Record:
    """Return a reply as an annotator writes it; a *label* of None is an abstention."""
    answer = {"abstain": True} if label is None else {"label": label}
    return Record("labels", 0, offset, None, json.dumps({"request": request, **answer, **fields}).encode())


def digest(fold: Fold) -> str:
    """Return a digest of everything that the fold holds, down to the estimator."""
    return hashlib.sha256(pickle.dumps(fold)).hexdigest()


class World:
    """The topics, and one worker that is trainer too: what the daemon does around a step, without its loop."""

    def __init__(self, rules: Rules, fold: Fold) -> None:
        self.rules, self.fold = rules, fold
        self.committed = {
            TopicPartition("events", partition): OffsetAndMetadata(0, "") for partition in range(rules.partitions)
        }
        self.committed[LABELS] = OffsetAndMetadata(0, "")
        self.written: dict[str, list[OutputRecord]] = {topic: [] for topic in TOPICS}
        self._ends: Counter[TopicPartition] = Counter()

    def run(self, polled: Sequence[Record], now: float) -> Step:
        """Step, commit, fold what was committed."""
        result = step(self.rules, self.fold, self.committed, polled, now)
        self.committed.update(result.offsets)
        for output in result.outputs:
            place = TopicPartition(output.topic, output.partition)
            self.written[output.topic].append(output)
            if output.topic == "training":
                self.fold.apply_training(self._ends[place], output.value)
            elif output.topic == "requests":
                self.fold.apply_request(place.partition, self._ends[place], output.key, output.value)
            self._ends[place] += 1
        for place in {TopicPartition(output.topic, output.partition) for output in result.outputs}:
            self._ends[place] += 1  # the commit marker takes an offset too
        return result


def probabilities(classes_max: int = 5) -> st.SearchStrategy[dict[str, float]]:
    """Class probabilities that sum to 1, certain and uniform ones included."""
    weights = st.lists(st.integers(0, 1_000), min_size=1, max_size=classes_max).filter(any)
    return weights.map(lambda ws: {f"c{i}": w / sum(ws) for i, w in enumerate(ws)})


finite = st.floats(allow_nan=False, allow_infinity=False)
short_text = st.text(max_size=20)
event_ids = st.none() | short_text | st.integers(-(2**63), 2**63 - 1)
event_times = st.none() | finite | short_text
scalars: st.SearchStrategy[Scalar] = finite | short_text | st.booleans()
feature_maps = st.dictionaries(short_text, scalars, max_size=5)
_amounts = st.integers(0, 2**62)
_seen = st.builds(RunningTotals, _amounts, _amounts, _amounts)
_arms = st.lists(finite, max_size=3).map(tuple)
_closing = {
    "request": short_text,
    "propensity": finite,
    "lane": st.sampled_from(Lane),
    "asked_at": finite,
    "at": finite,
    "reserved": _amounts,
    "cost": _amounts,
}
_answering = {"annotator": st.none() | short_text, "reply": st.none() | short_text, "seconds": st.none() | finite}

requests = st.builds(
    Request,
    request=short_text,
    features=feature_maps,
    label=st.none() | short_text,
    probabilities=st.dictionaries(short_text, finite, max_size=3),
    version=st.integers(0, 2**62),
    lane=st.sampled_from(Lane),
    strategy=short_text,
    uncertainty=finite,
    propensity=finite,
    asked_at=finite,
    expires_at=finite,
    id=event_ids,
    time=event_times,
    arms=_arms,
    reserved=_amounts,
    seen=_seen,
)
trainings = st.one_of(
    st.builds(
        Example,
        label=short_text,
        features=feature_maps,
        predicted=st.none() | short_text,
        id=event_ids,
        time=event_times,
        arms=_arms,
        seen=_seen,
        confidence=finite,
        probability=finite,
        **_closing,
        **_answering,
    ),
    st.builds(Abstention, **_closing, **_answering),
    st.builds(Expiry, **_closing),
    st.builds(SchemaSet, features=st.dictionaries(short_text, short_text, max_size=3), at=finite),
)
